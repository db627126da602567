"""`locus snapshots`: what was published, is it whole, what changed, going back, and tidying up."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.output import Format, FormatOption, emit, note
from flows.cli.terminal import safe, say, start_progress, table

if TYPE_CHECKING:
    import polars as pl

    from locus.publication.changes import Changes

app = typer.Typer(
    no_args_is_help=True, help="What was published: list, check, diff, rollback, prune."
)

_WAIT = Annotated[float, typer.Option("--wait", help="Seconds to wait for another run to end.")]
# Rows of each table that `diff` shows; json has all.
_SHOWN = 10


@app.command("list")
def list_snapshots(output: FormatOption = Format.table) -> None:
    """List the snapshots that are kept, the newest first, and which one readers see.

    Example: `locus snapshots list`
    """
    import polars as pl

    from locus.snapshots import SnapshotError, all_snapshots, current
    from tasks.settings import load_settings

    published = load_settings().published
    kept = all_snapshots(published)
    try:
        now = current(published).snapshot_id
    except SnapshotError as error:
        note(str(error), output)
        now = None
    rows = []
    for one in kept:
        counts = one.manifest.get("counts", {})
        routed = one.manifest.get("routing_quality") or [{}]
        size = sum(entry["bytes"] for entry in one.manifest["files"].values())
        rows.append(
            {
                "snapshot": one.snapshot_id,
                "state": "current" if one.snapshot_id == now else "kept",
                "models": counts.get("models"),
                "queries": counts.get("queries"),
                "scores": counts.get("scores"),
                "hit1": routed[0].get("hit1"),
                "checkpoint": str(one.manifest.get("lineage", {}).get("checkpoint_id", ""))[:16],
                "megabytes": round(size / 1e6, 1),
            }
        )
    schema = {
        "snapshot": pl.String, "state": pl.String, "models": pl.Int64, "queries": pl.Int64,
        "scores": pl.Int64, "hit1": pl.Float64, "checkpoint": pl.String, "megabytes": pl.Float64,
    }  # fmt: skip
    emit(pl.DataFrame(rows, schema=schema), output, None)


@app.command()
def check(
    name: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="How its id or hash begins; the current one."),
    ] = None,
    output: FormatOption = Format.table,
) -> None:
    """Open every file of a snapshot as its users do, and say what was found in each.

    Every byte is compared with the manifest, tables with one another, and the canned queries of
    `routing/canned.json` are routed again. The first thing that is wrong ends it with status 1.

    Examples: `locus snapshots check`; `locus snapshots check 20261123`
    """
    start_progress()
    import polars as pl

    from locus.snapshots import SnapshotError, current, find
    from tasks.checks import check_snapshot
    from tasks.settings import load_settings

    published = load_settings().published
    snapshot = current(published) if name is None else find(published, name)
    try:
        checked = check_snapshot(snapshot)
    except SnapshotError as error:
        raise SnapshotError(
            f"{error}. `locus publish` makes a new one, `locus snapshots rollback ID` goes back "
            "to one that is whole"
        ) from error
    note(f"snapshot {snapshot.snapshot_id} is whole", output)
    rows = [vars(one) for one in sorted(checked, key=lambda one: one.file)]
    emit(pl.DataFrame(rows), output, None)


@app.command()
def diff(
    old: Annotated[
        str | None,
        typer.Argument(help="The older one, by how its id or hash begins; the one before `new`."),
    ] = None,
    new: Annotated[str | None, typer.Argument(help="The newer one; the current one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Say what changed between two snapshots: models, places, ranks, first choices, quality.

    Examples: `locus snapshots diff`; `locus snapshots diff 20261123 20261124`
    """
    import json

    from locus.publication.changes import changes
    from locus.snapshots import SnapshotError, all_snapshots, current, find
    from tasks.settings import load_settings

    published = load_settings().published
    after = current(published) if new is None else find(published, new)
    if old is None:
        kept = [one for one in all_snapshots(published) if one.snapshot_id < after.snapshot_id]
        if not kept:
            raise SnapshotError(
                f"no snapshot older than {after.snapshot_id} is kept: `locus snapshots list` shows "
                "what there is"
            )
        before = kept[0]
    else:
        before = find(published, old)
    found = changes(before, after)
    if as_json:
        say(json.dumps(found.to_dict(), indent=1))
    else:
        _tell(found)


def _tell(found: "Changes") -> None:
    say(f"from {found.old} to {found.new}")
    if not _differs(found):
        say("  nothing differs but when they were made")
        return
    pairs: dict[str, tuple[Any, Any]] = {
        **found.counts,
        **{f"hit@1 {method}": both for method, both in found.quality.items()},
    }
    for name, (was, now) in pairs.items():
        if was != now:
            figures = f"{was:.3f} -> {now:.3f}" if isinstance(was, float) else f"{was} -> {now}"
            say(f"  {safe(name)}: {figures}")
    for title, names in (
        ("new", found.added),
        ("gone", found.gone),
        ("answered more", found.revised),
    ):
        if names:
            rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            say(f"  {title}: {safe(', '.join(names[:_SHOWN]))}{rest}")
    if not found.same_map:
        say("  another map: places of the two can't be compared")
    ranks = _changed_ranks(found.ranks)
    for title, rows in (
        ("Other first choices", found.flips),
        ("Farthest moved", found.moved),
        ("Other ranks over all queries", ranks),
    ):
        if rows.height:
            table(rows.head(_SHOWN), f"{title} ({rows.height})")


def _differs(found: "Changes") -> bool:
    lists = (found.added, found.gone, found.revised)
    frames = (found.flips, found.moved, _changed_ranks(found.ranks))
    pairs = (*found.counts.values(), *found.quality.values())
    return (
        not found.same_map
        or any(lists)
        or any(frame.height for frame in frames)
        or any(was != now for was, now in pairs)
    )


def _changed_ranks(ranks: "pl.DataFrame") -> "pl.DataFrame":
    import polars as pl

    return ranks.filter(pl.col("rank_old") != pl.col("rank_new"))


@app.command()
def rollback(
    name: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="How its id or hash begins; the one before the current."),
    ] = None,
    wait: _WAIT = 0,
) -> None:
    """Make another snapshot the one that readers see. Every byte of it is checked before.

    The warehouse stays as it is. The snapshot stays until something is new, and what is published
    then holds all there is: mend the cause before, or go back to the former map too
    (`locus checkpoints rollback`).

    Examples: `locus snapshots rollback`; `locus snapshots rollback 20261123`
    """
    start_progress()
    from flows.snapshots import rollback as act

    say(f"snapshot {act(name, wait).snapshot_id} is current")


@app.command()
def prune(
    keep: Annotated[
        int | None,
        typer.Option(min=0, help="How many of the newest stay, instead of `keep_snapshots`."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which would go.")] = False,
    wait: _WAIT = 0,
) -> None:
    """Remove old snapshots, never the current one nor the one before it.

    Every publication does so by itself, as `keep_snapshots` says.

    Example: `locus snapshots prune --keep 3 --dry-run`
    """
    start_progress()
    from flows.snapshots import prune as act

    removed = act(keep, dry_run, wait)
    for one in removed:
        say(f"{'would remove' if dry_run else 'removed'} {one}")
    if not removed:
        say("nothing to remove")
