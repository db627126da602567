"""`locus status`: the last night, what runs, what is stale, the next night, budget, what is out.

It is asked often, also while a run goes on. So it starts without Prefect, asks a server by plain
HTTP and for a second at most, and opens the working warehouse only while no run holds it.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from flows.cli.output import Format, FormatOption, emit
from flows.cli.terminal import safe, say
from locus.loading import uncollected

if TYPE_CHECKING:
    from tasks.settings import Settings

SHOWN = 10
"""Stale models that are named on a screen; `--format json` names all."""


def register(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command()(status)


def status(output: FormatOption = Format.table) -> None:
    """Say how the last night went, what runs, what is stale, what comes next, what is published.

    The next night is asked of the Prefect server at PREFECT_API_URL, or of a running `locus serve`.

    Examples: `locus status`; `locus status --format json`
    """
    with uncollected():
        from tasks.settings import load_settings

        told = gather(load_settings(), datetime.now(UTC))
    if output is Format.json:
        say(json.dumps(told, indent=1, default=_plain))
        return
    rows = in_words(told)
    if output is Format.table:
        before = None
        for what, said in rows:
            say(f"{'' if what == before else what:<11} {safe(said)}")
            before = what
        return
    import polars as pl

    emit(pl.DataFrame(rows, schema=["what", "said"], orient="row"), output, None)


def gather(settings: "Settings", now: datetime) -> dict[str, Any]:
    """All that is known, as values that JSON can say but for times (UTC) and paths.

    Args:
        settings: the pipeline's settings.
        now: the time it is (UTC).
    """
    from flows.cli.standing import next_night, standing
    from tasks.freshness import freshness, last_night
    from tasks.lock import lease_status
    from tasks.settings import settings_file

    fresh, night, running = freshness(settings, now), last_night(settings), lease_status(settings)
    free = running is None or running["state"] == "dead"
    stale, spent = standing(settings, night, now, free=free)
    return {
        "settings": settings_file(),
        "home": settings.home,
        "models_file": settings.models_file,
        "last_night": night and {**vars(night), "spent": spent},
        "fresh": {"stale": fresh.stale, "since": fresh.since, "said": fresh.said},
        "running": running,
        "next_night": next_night(settings),
        "stale": stale,
        "budget": vars(settings.evaluation.budget),
        "published": _published(settings, now),
    }


def in_words(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What `gather` found, as lines under their headings."""
    rows = [("settings", told["settings"]), ("home", told["home"]), ("models", told["models_file"])]
    rows += [("last night", _night(told["last_night"])), ("fresh", told["fresh"]["said"])]
    if run := told["running"]:
        where = f"{run['what']} ({run['state']}, {run['host']} pid {run['pid']})"
        rows.append(("running", f"{where} since {_at(run['taken_at'])}"))
    else:
        rows.append(("running", "nothing"))
    rows.append(("next night", told["next_night"]["said"]))
    rows += [("stale", line) for line in _stale(told["stale"])]
    rows.append(("budget", _budget(told["budget"], told["last_night"])))
    return [(what, str(said)) for what, said in [*rows, *_published_lines(told["published"])]]


def _night(night: Mapping[str, Any] | None) -> str:
    if night is None:
        return "none is noted"
    at = night["ended_at"]
    return f"{'ended well' if night['ok'] else 'FAILED'}{f', {_at(at)}' if at else ''}: " + (
        night["said"] or "it said nothing"
    )


def _stale(stale: Mapping[str, Any]) -> list[str]:
    lines = [f"{one['model_id']}: {one['said']}" for one in stale["models"]]
    lines = lines[:SHOWN] + ([f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else [])
    if stale["not_placed"]:
        names = stale["not_placed"]
        shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
        lines.append(f"{len(names)} models have scores that their place doesn't know yet: {shown}")
    lines += stale["faults"]
    lines = lines or ["nothing"]
    if stale["source"] == "published copy":
        lines.append("(as published: a run holds the warehouse, or it can't be opened)")
    return lines


def _budget(budget: Mapping[str, float | None], night: Mapping[str, Any] | None) -> str:
    """The limits of a run, and what the last night made of them."""
    form = {"queries": "{:,.0f} queries", "tokens": "{:,.0f} tokens", "usd": "{:,.2f} USD"}
    limits = [
        form.get(name, "{:g} " + name).format(limit)
        for name, limit in budget.items()
        if limit is not None
    ]
    said = f"of a run: {', '.join(limits) or 'no limit'}"
    spent = night and night["spent"]
    if not spent:
        return said
    used = [form[name].format(spent[name] or 0) for name in ("queries", "tokens", "usd")]
    if spent["without_price"]:
        used[-1] += f" (the cost of {spent['without_price']:,} is unknown)"
    return f"{said}; the last night used {', '.join(used)}"


def _published(settings: "Settings", now: datetime) -> dict[str, Any]:
    from locus.snapshots import SnapshotError, current

    try:
        snapshot = current(settings.published)
    except SnapshotError as error:
        return {"snapshot_id": None, "said": str(error)}
    manifest = snapshot.manifest
    created = datetime.fromisoformat(manifest["created_at"])
    return {
        "snapshot_id": snapshot.snapshot_id,
        "created_at": created,
        "hours": (now - created).total_seconds() / 3600,
        "counts": manifest["counts"],
        "routing_quality": manifest["routing_quality"],
        "encoder": manifest["lineage"]["encoder"],
        "checkpoint_id": manifest["lineage"]["checkpoint_id"],
        "report": snapshot.folder / "similarity" / "report.html",
    }


def _published_lines(published: Mapping[str, Any]) -> list[tuple[str, Any]]:
    if published["snapshot_id"] is None:
        return [("published", published["said"])]
    counts = published["counts"]
    return [
        ("published", f"{published['snapshot_id']} ({published['hours']:.1f} hours ago)"),
        ("published", f"{counts['models']} models, {counts['queries']} queries, "
         f"{counts['scores']} scores"),
        *(
            ("hit@1", f"{row['hit1']:.3f} [{row['low']:.3f}, {row['high']:.3f}]  {row['method']}")
            for row in published["routing_quality"]
        ),
        ("encoder", published["encoder"]),
        ("checkpoint", published["checkpoint_id"][:16]),
        ("report", published["report"]),
    ]  # fmt: skip


def _at(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
