"""`locus retrain` and `locus checkpoints`: which map is in use, why, and another one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.output import Format, emit
from flows.cli.terminal import safe, say, start_progress, table

if TYPE_CHECKING:
    from locus.shadow import Comparison

app = typer.Typer(
    no_args_is_help=True, help="Maps that were learned: list, show, promote, rollback."
)

_WAIT = Annotated[float, typer.Option("--wait", help="Seconds to wait for another run to end.")]
_PUBLISH = Annotated[
    bool, typer.Option("--publish", help="Also place all models by it, and publish.")
]

# Digits of an id that are shown; `promote` and `show` take as few as are unambiguous.
_SHOWN = 16


def register(application: typer.Typer) -> None:
    """Add `retrain` to the application; `app` is added by its own name."""
    application.command()(retrain)


def retrain(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train, compare and say; keep and change nothing.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Train although no score is new, or the active map can't be read."
        ),
    ] = False,
    wait: _WAIT = 0,
) -> None:
    """Train a candidate map beside the active one; promote and publish it only if it is better.

    Both are compared on validation queries, which neither learned from. Asks no model anything.

    Example: `locus retrain --dry-run`
    """
    start_progress()
    from flows.retrain import retrain as flow

    outcome = flow(dry_run=dry_run, force=force, wait_s=wait)
    for title, compared in (
        ("All models", outcome.retrained.known),
        ("Models that neither map learned from", outcome.retrained.unseen),
    ):
        if compared is not None:
            _compared(title, compared)
    say(safe(outcome.headline()))


def _compared(title: str, compared: "Comparison") -> None:
    import polars as pl

    rows = [
        (name, found.active, found.candidate, found.difference, found.low, found.high)
        for name, found in compared.measures.items()
    ]
    columns = ["measure", "active", "candidate", "difference", "low", "high"]
    about = f"{title} ({compared.n_models}), {compared.n_queries} validation queries"
    table(pl.DataFrame(rows, schema=columns, orient="row"), about)


@app.command("list")
def list_checkpoints(
    output: Annotated[Format, typer.Option("--format", help="table, csv or json.")] = Format.table,
) -> None:
    """List all maps, the newest first, with what was decided about each.

    Example: `locus checkpoints list`
    """
    import polars as pl

    from warehouse.store import Warehouse

    with Warehouse.open(_warehouse()) as warehouse:
        rows = warehouse.checkpoints.list()
    state = (
        pl.when(state="active").then(pl.lit("active"))
        .when(pl.col("promoted").not_()).then(pl.lit("turned down"))
        .otherwise(pl.lit("retired"))
    )  # fmt: skip
    shown = rows.select(
        checkpoint=pl.col("checkpoint_id").str.head(_SHOWN if output is Format.table else 64),
        state=state,
        created=pl.col("created_at").dt.strftime("%Y-%m-%d %H:%M"),
        encoder="encoder",
        models="n_models",
        queries="n_queries",
        scores="n_scores",
        val_bce=pl.col("metrics").str.json_path_match("$.val_bce").cast(pl.Float64),
        decided=pl.col("decided_at").dt.strftime("%Y-%m-%d %H:%M"),
        kind="kind",
        reason="reason",
    )
    emit(shown, output, None)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="ID", help="A checkpoint, or how it begins.")],
) -> None:
    """Show one map: what it was learned from, and every decision about it with its figures.

    Example: `locus checkpoints show 3fa2`
    """
    import json

    from tasks.retrain import find_checkpoint
    from warehouse.store import Warehouse

    with Warehouse.open(_warehouse()) as warehouse:
        found = find_checkpoint(warehouse, name)
        row, decisions = warehouse.checkpoints.get(found), warehouse.checkpoints.decisions(found)
    for key, value in (row or {}).items():
        if value is not None:
            say(f"{key:24} {safe(json.dumps(value) if isinstance(value, dict) else value)}")
    for one in decisions:
        say()
        verdict = "promoted" if one["promoted"] else "turned down"
        say(f"{one['decided_at']:%Y-%m-%d %H:%M} {one['kind']}: {verdict}: {safe(one['reason'])}")
        for group, figures in (one["metrics"] or {}).items():
            _figures(group, figures)


def _figures(group: str, figures: Any) -> None:
    """A comparison of a decision, a measure a line; anything else as it is."""
    if not isinstance(figures, dict):
        say(f"  {group}: {safe(figures)}")
        return
    for name, value in figures.items():
        said = value
        if isinstance(value, dict):
            said = ", ".join(
                f"{end} {number:.4f}" for end, number in value.items() if number is not None
            )
        say(f"  {group} {name}: {safe(said)}")


@app.command()
def promote(
    name: Annotated[str, typer.Argument(metavar="ID", help="A checkpoint, or how it begins.")],
    publish: _PUBLISH = False,
    wait: _WAIT = 0,
) -> None:
    """Make a map the active one by hand. Recorded as such.

    Example: `locus checkpoints promote 3fa2 --publish`
    """
    start_progress()
    from flows.retrain import promote as act

    _changed(act(name, wait), publish, wait)


@app.command()
def rollback(publish: _PUBLISH = False, wait: _WAIT = 0) -> None:
    """Go back to the map that was active before. Its places and predictions are still there.

    Example: `locus checkpoints rollback --publish`
    """
    start_progress()
    from flows.retrain import rollback as act

    _changed(act(wait), publish, wait)


def _changed(checkpoint_id: str, publish: bool, wait: float) -> None:
    """Say what is active now; publish by it, or say how."""
    say(f"checkpoint {checkpoint_id[:_SHOWN]} is active")
    if not publish:
        say("next: `locus publish` places all models by it and publishes; readers see the old one")
        return
    from flows.publish import publish as flow

    say(flow(wait_s=wait).headline())


def _warehouse() -> Path:
    """The working database.

    Raises:
        UnknownCheckpointError: there is none yet.
    """
    from tasks.retrain import UnknownCheckpointError
    from tasks.settings import load_settings

    path = load_settings().warehouse
    if not path.exists():
        raise UnknownCheckpointError(
            f"there is no checkpoint: {path} does not exist; `locus run nightly` makes the first"
        )
    return path
