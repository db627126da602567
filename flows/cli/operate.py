"""Commands that do the work: init, demo, run nightly, run backfill, add-model, publish, serve."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli import benchmark
from flows.cli.terminal import say, say_error, start_progress

if TYPE_CHECKING:
    from flows.outcome import Outcome

EXIT_MODELS_FAILED = 3

run_app = typer.Typer(no_args_is_help=True, help="Run a flow now, in this process.")

_DRY = Annotated[bool, typer.Option("--dry-run", help="Say what would be asked, and stop.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(init)
    app.command()(demo)
    app.command("add-model")(add_model)
    app.command()(publish)
    app.command()(serve)
    benchmark.register(app)


def init(
    folder: Annotated[Path, typer.Argument(help="Where to put the two files.")] = Path(),
) -> None:
    """Write a locus.toml and a models.yaml to start from; existing files stay as they are.

    Example: `locus init`
    """
    from flows.starter import write_starter

    for path, written in write_starter(folder):
        say(f"{'wrote' if written else 'kept '} {path}")
    say("next: name tasks in locus.toml, add models to models.yaml, then: locus run nightly")


def demo(
    folder: Annotated[Path, typer.Argument(help="Where the demo keeps its state.")] = Path(
        "data/demo"
    ),
) -> None:
    """Run the main job end to end on a zoo of tiny models that are trained here first.

    Example: `locus demo`, then try the commands that it prints.
    """
    start_progress()
    from flows.demo import run_demo

    run_demo(folder)


@run_app.command()
def nightly(
    dry_run: _DRY = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait for another run to end.")] = 0,
) -> None:
    """Evaluate what is new, refresh embeddings, publish. Asks nobody anything twice.

    Example: `locus run nightly --dry-run`
    """
    start_progress()
    from flows.nightly import nightly as flow

    _finish(flow(dry_run=dry_run, wait_s=wait))


@run_app.command()
def backfill(
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="Only this model of models.yaml; may be repeated."),
    ] = None,
    queries: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Training queries to ask each in all, instead of `new_model_queries` "
            "(`bootstrap_queries` while there is no map); what was asked before counts.",
        ),
    ] = None,
    dry_run: _DRY = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait for another run to end.")] = 600,
) -> None:
    """Ask models what they have not answered of the tasks in locus.toml, and publish.

    For tasks that were added there, and for more queries of models that are on the map. Without
    `--model` all models are asked.

    Examples: `locus run backfill --dry-run`;
    `locus run backfill --model org/a --model org/b --queries 256`
    """
    start_progress()
    from flows.backfill import backfill as flow

    _finish(flow(models=model or None, queries=queries, dry_run=dry_run, wait_s=wait))


def add_model(
    model_id: Annotated[str, typer.Argument(help="A model of models.yaml.")],
    queries: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Training queries to ask in all, instead of `new_model_queries`; what was asked "
            "before counts.",
        ),
    ] = None,
    dry_run: _DRY = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait for another run to end.")] = 600,
) -> None:
    """Place one new model from a sample of queries, without retraining, and publish.

    Run it again with more `--queries` to make its place surer: only the missing ones are asked.

    Examples: `locus add-model zoo/late-generalist`;
    `locus add-model zoo/late-generalist --queries 256`
    """
    start_progress()
    from flows.add_model import add_model as flow

    _finish(flow(model_id, queries=queries, dry_run=dry_run, wait_s=wait))


def publish(
    wait: Annotated[float, typer.Option(help="Seconds to wait for another run to end.")] = 0,
    accept: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GATE",
            help="Publish although this gate fails, this once; may be repeated (docs/gates.md).",
        ),
    ] = None,
) -> None:
    """Publish what the warehouse holds now, for example after an import. Asks no model anything.

    Example: `locus import matrix ./scores && locus publish`
    """
    start_progress()
    from flows.publish import publish as flow

    _finish(flow(wait_s=wait, accept=accept))


def serve(
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="Port of the server that is started here; 4200, or a free one if that is taken.",
        ),
    ] = None,
    cron: Annotated[
        str | None,
        typer.Option(help="When nightly runs: minute, hour, day, month, weekday; '0 2 * * *'."),
    ] = None,
    timezone: Annotated[
        str, typer.Option(help="Time zone of all schedules, such as Europe/Berlin.")
    ] = "UTC",
) -> None:
    """Stay up and run the flows: nightly on its schedule, the others when they are asked for.

    Uses the Prefect server at `PREFECT_API_URL`. Without one it starts a server here, with its
    data in `prefect/` under `home` (or in `PREFECT_HOME`), reachable from this machine only.
    Runs that meet wait for one another. Ctrl-C stops everything; the next start goes on from there.

    A model that is announced is added at once; docs/orchestration.md says how, and how several
    machines share the work.

    Examples: `locus serve`; `locus serve --cron '30 1 * * *' --timezone Europe/Berlin`;
    `PREFECT_API_URL=http://prefect.example.com:4200/api locus serve`
    """
    start_progress()
    from flows.serve import serve_all

    serve_all(port, cron, timezone)


def _finish(outcome: "Outcome") -> None:
    """Print the outcome; models that failed make the exit status 3."""
    from flows.outcome import in_words

    say(outcome.headline())
    if outcome.dry_run:
        for what, plan in (
            ("queries", outcome.plan),
            ("canary queries", outcome.canary_plan),
            ("more queries", outcome.more_plan),
        ):
            for model, expected in sorted(plan.items()):
                rough = "" if expected.measured else " (by lengths of texts, not measured)"
                say(f"  {model}: {expected.queries} {what}, {in_words([expected])}{rough}")
    if outcome.snapshot:
        say(f"report: {outcome.snapshot.folder / 'similarity' / 'report.html'}")
    for found in (outcome.resting, outcome.stopped, outcome.drifted):
        for model, said in sorted(found.items()):
            say(f"{model}: {said}")
    for model, reason in sorted(outcome.failed.items()):
        say_error(f"{model}: {reason}")
    if outcome.failed:
        raise typer.Exit(EXIT_MODELS_FAILED)
