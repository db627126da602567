"""Commands that read what is published: similar, sql, status."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.output import Format, emit
from flows.cli.terminal import safe, say

if TYPE_CHECKING:
    import polars as pl

    from locus.snapshots import Snapshot
    from tasks.settings import Settings


class UnknownModelError(ValueError):
    """A model that the current snapshot doesn't have."""


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(similar)
    app.command()(sql)
    app.command()(status)


def published_model(settings: "Settings", model_id: str) -> tuple["Snapshot", dict[str, Any]]:
    """The current snapshot and one model's row in it.

    Raises:
        UnknownModelError: it isn't in the snapshot; names models that are spelled alike.
    """
    import polars as pl

    from locus.names import hint
    from locus.snapshots import current

    snapshot = current(settings.published)
    models = pl.read_parquet(snapshot.folder / "similarity" / "embeddings.parquet")
    found = models.filter(model_id=model_id)
    if found.is_empty():
        near = hint(model_id, models["model_id"].to_list(), "`locus models list` shows them")
        raise UnknownModelError(f"{model_id!r} is not in snapshot {snapshot.snapshot_id}: {near}")
    return snapshot, found.row(0, named=True)


def similar_rows(snapshot: "Snapshot", model_id: str, k: int) -> "pl.DataFrame":
    """The published neighbours of a model, nearest first."""
    import polars as pl

    nearest = pl.read_parquet(snapshot.folder / "similarity" / "nearest.parquet")
    return (
        nearest.filter(model_id=model_id)
        .sort("rank")
        .head(k)
        .select(
            "rank", "neighbour_id", "euclidean_distance", "observed_agreement",
            "agreement_low", "agreement_high", "n_common",
        )
    )  # fmt: skip


def similar(
    model_id: Annotated[str, typer.Argument(help="A published model.")],
    k: Annotated[int, typer.Option("--top", "-k", min=1, max=10, help="How many.")] = 5,
    output: Annotated[Format, typer.Option("--format", help="table, csv or json.")] = Format.table,
) -> None:
    """List the models nearest to one, with how often they agree.

    Example: `locus similar zoo/arith-s`
    """
    from tasks.settings import load_settings

    snapshot, _ = published_model(load_settings(), model_id)
    emit(similar_rows(snapshot, model_id, k), output, f"Nearest to {safe(model_id)}")


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT statement.")],
    most: Annotated[int, typer.Option("--max-rows", min=1, help="Rows to print.")] = 1000,
    output: Annotated[Format, typer.Option("--format", help="table, csv or json.")] = Format.table,
) -> None:
    """Query the published copy of the warehouse: read-only, no access to files.

    Example: `locus sql "select task, count(*) from query group by task"`
    (docs/warehouse.md has tables, views and ten queries to start from).
    """
    from locus.snapshots import current
    from tasks.settings import load_settings
    from warehouse.console import run_sql

    snapshot = current(load_settings().published)
    emit(run_sql(snapshot.folder / "warehouse.duckdb", query, max_rows=most), output, None, most)


def status() -> None:
    """Say what is published, how old it is, and where everything lies.

    Example: `locus status`
    """
    from datetime import UTC, datetime

    from locus.snapshots import SnapshotError, current
    from tasks.freshness import freshness
    from tasks.lock import lease_status
    from tasks.settings import load_settings, settings_file

    settings = load_settings()
    say(f"settings    {settings_file()}")
    say(f"home        {settings.home}")
    say(f"models      {settings.models_file}")
    say(f"fresh       {safe(freshness(settings, datetime.now(UTC)).said)}")
    if lease := lease_status(settings):
        run = f"{lease['what']} ({lease['state']}, {lease['host']} pid {lease['pid']})"
        say(f"running     {safe(run)} since {lease['taken_at']:%Y-%m-%d %H:%M} UTC")
    try:
        snapshot = current(settings.published)
    except SnapshotError as error:
        say(f"published   {error}")
        return
    manifest = snapshot.manifest
    created = datetime.fromisoformat(manifest["created_at"])
    hours = (datetime.now(UTC) - created).total_seconds() / 3600
    counts = manifest["counts"]
    say(f"published   {snapshot.snapshot_id} ({hours:.1f} hours ago)")
    say(f"            {counts['models']} models, {counts['queries']} queries, "
        f"{counts['scores']} scores")  # fmt: skip
    for row in manifest["routing_quality"]:
        say(f"hit@1       {row['hit1']:.3f} [{row['low']:.3f}, {row['high']:.3f}]  {row['method']}")
    say(f"encoder     {manifest['lineage']['encoder']}")
    say(f"checkpoint  {manifest['lineage']['checkpoint_id'][:16]}")
    say(f"report      {snapshot.folder / 'similarity' / 'report.html'}")
