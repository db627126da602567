"""Puts the page together: words, tables, figures, style and scripts in one file.

Three walls stand between hostile text and the reader: Jinja escapes everything on the way into the
page, JSON is escaped so that it can't close its element, and a Content-Security-Policy lets no
script run but the page's own (by hash) and lets nothing be fetched at all.

Plotly is four fifths of a page that carries it plainly, so it travels deflated, as base64; the
page's script unpacks it and runs it as a script of its own, which the policy allows because the
hash of its source is listed. Everything else stays plain: the tables need no unpacking.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from locus.durable import whole_file
from locus.report.curves import curve_words
from locus.report.data import ReportData
from locus.report.figures import heat_map, model_map
from locus.report.layouts import NAMES, WORDS, pack_layouts
from locus.report.payload import RANKS, pack
from locus.report.since import in_words
from locus.report.tidy import deflated
from locus.routing.table import MONEY_MARGIN
from locus.similarity import distance_agreement_correlation

METHOD_NAMES = {
    "best_single": "Best single model",
    "best_single_in_hindsight": "Best single, in hindsight",
    "random": "A random model",
    "oracle": "Oracle (any right model)",
    "locus": "Routed by this map",
}
_BASELINES = ("best_single", "best_single_in_hindsight", "random", "oracle")
_SCRIPTS = (
    "core.js",
    "tables.js",
    "since.js",
    "figures.js",
    "curves.js",
    "card.js",
    "downloads.js",
    "report.js",
)


def render(data: ReportData) -> str:
    """Render the report as one self-contained HTML page that asks the network for nothing.

    Returns:
        The page; write it as UTF-8 (`write` does).

    Raises:
        ReportDataError: the data can't be shown truthfully; the message says what to mend.
    """
    data = data.checked()
    payload = pack(data)
    content = payload.content
    figures = {
        "map": model_map(data, content["groups"])
        | {"layouts": pack_layouts(data.layouts, data.models)},
        "heat": heat_map(len(content["heat"]["order"]), bool(content["heat"]["tree"])),
    }
    own = "\n".join(_asset(name) for name in _SCRIPTS)
    script = Markup(f"(() => {{\n{own}}})();")  # noqa: S704
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            data=data,
            created=f"{data.created_at.day} {data.created_at:%B %Y, %H:%M} UTC",
            n_scores=int(data.models["n_scores"].sum() or 0),
            quality=_quality(data),
            summary=_summary(data),
            groups=content["groups"],
            heat=_heat_range(content["heat"]),
            unplaced=data.models.filter(pl.col("x").is_null() | pl.col("y").is_null()).height,
            tracking=_tracking(data),
            caps=payload.caps,
            ranks=RANKS,
            money_margin=100 * MONEY_MARGIN,
            counts={name: len(content[name]["model"]) for name in ("neighbours", "tasks")}
            | {"routing": len(content["routing"]["in"]), "heat": len(content["heat"]["order"])},
            has_tree=bool(content["heat"]["tree"]),
            since=_since(data),
            curves=curve_words(data.curves),
            layouts=[(name, NAMES[name], WORDS[name]) for name in ("pca", *data.layouts)],
            css=Markup(_asset("report.css")),  # noqa: S704
            policy=_policy([_plotly(), script]),
            plotly=_packed_plotly(),
            script=script,
            content_json=embedded_json(content),
            figures_json=embedded_json(figures),
        )
    )
    # A lone surrogate can't be written as UTF-8; it is not text, so it is shown as a question mark.
    return page.encode("utf-8", "replace").decode("utf-8")


def write(data: ReportData, path: Path) -> int:
    """Render to ``path`` as UTF-8 bytes, whole or not at all, and return the number of bytes."""
    content = render(data).encode("utf-8")
    with whole_file(path) as stream:
        stream.write(content)
    return len(content)


def embedded_json(value: object) -> Markup:
    """JSON that is safe inside ``<script type="application/json">`` whatever its text says."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)  # noqa: S704 - escaped above


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("locus.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


@cache
def _packed_plotly() -> str:
    return deflated(_plotly())


@cache
def _asset(name: str) -> str:
    """Text of one of our own style sheets or scripts."""
    return files("locus.report").joinpath("assets", name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str]) -> str:
    """A policy under which only ``scripts`` run and nothing is fetched, not even a picture.

    ``data:`` pictures are Plotly's own drawing of heat maps; it also sets styles from its script.
    """
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _quality(data: ReportData) -> list[dict[str, Any]]:
    """Rows of the routing-quality table, in percent."""
    return [
        {
            "key": method,
            "name": METHOD_NAMES.get(method, method),
            "baseline": method in _BASELINES,
            "value": _percent(quality["hit@1"]),
            "low": _percent(quality["low"]),
            "high": _percent(quality["high"]),
            "n": quality["n"],
        }
        for method, quality in data.routing_quality.items()
    ]


def _since(data: ReportData) -> dict[str, Any] | None:
    """Words and small tables of what changed; None where nothing was compared."""
    if data.since is None:
        return None
    now = {row["key"]: row for row in _quality(data)}
    hits = [
        {
            "name": METHOD_NAMES.get(method, method),
            "before": _percent(before),
            "now": _percent(after),
            "change": round(100 * (after - before), 1),
            "low": now.get(method, {}).get("low"),
            "high": now.get(method, {}).get("high"),
        }
        for method, (before, after) in data.since.quality.items()
    ]
    return {
        "snapshot": data.since.snapshot,
        "same_map": data.since.same_map,
        "lists": in_words(data.since),
        "hits": hits,
        "moved": data.since.moved.height,
        "flips": data.since.flips.height,
        "ranks": data.since.other_ranks.height,
    }


def _percent(share: float | int | None) -> float | None:
    return None if share is None else round(100 * share, 1)


def _summary(data: ReportData) -> str:
    """One honest sentence or two on what routing by this snapshot is worth."""
    rows = {row["key"]: row for row in _quality(data) if row["value"] is not None}
    own = next((row for row in rows.values() if not row["baseline"]), None)
    if own is None:
        return "Routing has not been measured for this snapshot."
    words = f"Routed by this map, {own['value']} % of held-out queries are answered right"
    words += f" ({own['n']:,} queries)" if own["n"] else ""
    best = rows.get("best_single")
    if best is None:
        return words + "."
    words += f"; the best single model reaches {best['value']} %."
    bounds = (own["low"], own["high"], best["low"], best["high"])
    if None in bounds:
        return words
    if own["low"] > best["high"]:
        return words + " The gain is larger than chance explains."
    if own["high"] < best["low"]:
        return words + " Routing is worse here than always asking that one model."
    return words + " The two intervals overlap, so the difference may be chance."


def _heat_range(heat: dict[str, Any]) -> dict[str, float | None]:
    """Ends of the heat map's two scales; None where nothing was measured."""
    agreements = [value for value in heat["agreement"] if value is not None]
    distances = [value for value in heat["distance"] if value is not None]
    return {
        "low": min(agreements) / 1000 if agreements else None,
        "high": max(agreements) / 1000 if agreements else None,
        "near": min(distances) if distances else None,
        "far": max(distances) if distances else None,
        "missing": sum(value is None for value in heat["agreement"] + heat["distance"]),
    }


def _tracking(data: ReportData) -> str:
    """How well distance stands for disagreement in this pool, in words."""
    found = distance_agreement_correlation(data.pairs)
    if found.spearman_euclidean is None:
        return "Too few pairs share queries to say how well distance tracks disagreement."
    whole = data.pairs.height == data.models.height * (data.models.height - 1) // 2
    among = "pairs" if whole else "pairs that are near or shown below"
    return (
        f"Over {found.n:,} {among}, distance and disagreement correlate with "
        f"{found.spearman_euclidean:.2f} (Spearman, Euclidean)."
    )
