"""Sections of the page that show one analysis each."""

import polars as pl

from locus.benchmark.efficiency import REFERENCE, REFERENCE_BUDGET
from locus.benchmark.geometry import BAR
from locus.benchmark.tables import number, table


def efficiency_section(frame: pl.DataFrame) -> list[str]:
    """Evaluations needed to reach the published method."""
    lines = ["", "## Sample efficiency", ""]
    if frame.is_empty():
        return [
            *lines,
            f"Not computed: `{REFERENCE}` was not measured at {REFERENCE_BUDGET} evaluations under "
            "P2 or P2-all.",
        ]
    lines += [
        f"Evaluations per held-out model that reach what `{REFERENCE}` reaches at "
        f"{REFERENCE_BUDGET}, interpolated on a logarithmic axis. ≤: the smallest budget measured "
        "reaches it.",
        "",
    ]
    goals = frame.unique(["protocol", "measure"], maintain_order=True)
    head = ["method"] + [
        f"{g['protocol']} {g['measure'].upper()} {number(g['target'])}"
        for g in goals.iter_rows(named=True)
    ]
    rows = []
    for method in frame["method"].unique(maintain_order=True):
        cells = [method]
        for goal in goals.iter_rows(named=True):
            one = frame.filter(method=method, protocol=goal["protocol"], measure=goal["measure"])
            cells.append(_evaluations(one.row(0, named=True)))
        rows.append(cells)
    return lines + table(head, rows)


def _evaluations(row: dict[str, float | bool | None]) -> str:
    evaluations = row["evaluations"]
    if evaluations is None:
        return "not reached"
    return f"{'≤ ' if row['at_first'] else ''}{evaluations:.0f}"


def geometry_section(frame: pl.DataFrame) -> list[str]:
    """Correlation of distance with observed disagreement."""
    if frame.is_empty():
        return []
    embeds = set(frame.filter(pl.col("distance") == "euclidean")["method"])
    lines = [
        "",
        "## Geometry",
        "",
        "Does distance track how often two models differ on test queries? Pearson / Spearman / "
        "Kendall over all pairs. Euclidean and cosine: between embeddings. History: the "
        "method's own expected share of the bank's queries on which the two differ, from what "
        "others answered there; predicted: the same on test queries, from their texts. Profile: "
        "Euclidean distance between its predictions. Pool: P1 with all scores; held-out: P2 at "
        "256. Bar: how often two models differ on the training queries themselves (under profile).",
        "",
    ]
    kinds = ("euclidean", "cosine", "history", "predicted", "profile")
    rows = []
    for (pairs, n_pairs), part in frame.group_by("pairs", "n_pairs", maintain_order=True):
        for method in part["method"].unique(maintain_order=True):
            if embeds and method not in embeds | {BAR}:
                continue
            cells = [f"{method}, {n_pairs:,} {pairs} pairs"]
            for kind in kinds:
                one = part.filter(method=method, distance=kind)
                values = one.row(0, named=True) if one.height else {}
                names = ("pearson", "spearman", "kendall")
                cells.append(" / ".join(number(values.get(name), 2) for name in names))
            rows.append(cells)
    return lines + table(["method", *kinds], rows)


def fallback_section(frame: pl.DataFrame) -> list[str]:
    """Every model replaced by its nearest neighbour."""
    if frame.is_empty():
        return []
    if "euclidean" in set(frame["neighbour"]):
        frame = frame.filter(pl.col("neighbour") != "profile")
    rows = [
        [
            f"{row['method']}, {row['neighbour']}",
            number(row["agreement"]),
            number(row["hit1"]),
            number(row["hit1_in_place"]),
            number(row["kept"]),
        ]
        for row in frame.iter_rows(named=True)
    ]
    return [
        "",
        "## Fallback: the nearest neighbour answers",
        "",
        "Pool models, P1 with all scores. Agreement: share of test queries on which a model and "
        "its nearest neighbour are both right or both wrong. Kept: share of routing hit@1 that is "
        "left if each chosen model's neighbour answers. Bars: the neighbour by training answers, "
        "and a random one.",
        "",
        *table(["method, nearest by", "agreement", "hit@1", "neighbour's hit@1", "kept"], rows),
    ]


def stability_section(frame: pl.DataFrame) -> list[str]:
    """The same model placed twice."""
    if frame.is_empty():
        return []
    shown = max(frame["protocol"].unique(), key=len)  # P2-all where it is there
    rows = [
        [
            row["method"],
            str(row["evaluations"]),
            str(row["models"]),
            number(row["moved"], 2),
            f"{number(row['found_again'], 2)} ({number(row['by_chance'], 2)})",
        ]
        for row in frame.filter(protocol=shown).iter_rows(named=True)
    ]
    return [
        "",
        "## Stability of placement",
        "",
        f"{shown}: held-out models placed from two disjoint samples. Moved: median distance of a "
        "model's two vectors over the median distance of different models. Found again: share of "
        "models whose nearest vector of the second placement is their own (in brackets: by "
        "chance).",
        "",
        *table(["method", "evaluations", "models", "moved", "found again"], rows),
    ]
