"""Commands that read what is published: similar, sql; and status, which reads more."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli import status
from flows.cli.output import Format, emit
from flows.cli.terminal import grid, safe
from locus.loading import uncollected

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
    status.register(app)


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
    (docs/warehouse.md has tables and views, docs/recipes.md twenty questions to start from).
    """
    with uncollected():
        from locus.snapshots import current
        from tasks.settings import load_settings
        from warehouse.console import run_rows, run_sql

    copy = current(load_settings().published).folder / "warehouse.duckdb"
    if output is Format.table:
        found = run_rows(copy, query, max_rows=most)
        grid(found.columns, found.values)
    else:
        emit(run_sql(copy, query, max_rows=most), output, None, most)
