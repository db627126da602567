"""Commands that do the work: init, demo, run nightly, add-model, publish, serve."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.terminal import say, say_error, start_progress

if TYPE_CHECKING:
    from flows.pipeline import Outcome

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
    app.command()(benchmark)


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


def add_model(
    model_id: Annotated[str, typer.Argument(help="A model of models.yaml.")],
    dry_run: _DRY = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait for another run to end.")] = 600,
) -> None:
    """Place one new model from a sample of queries, without retraining, and publish.

    Example: `locus add-model zoo/late-generalist`
    """
    start_progress()
    from flows.add_model import add_model as flow

    _finish(flow(model_id, dry_run=dry_run, wait_s=wait))


def publish(
    wait: Annotated[float, typer.Option(help="Seconds to wait for another run to end.")] = 0,
) -> None:
    """Publish what the warehouse holds now, for example after an import. Asks no model anything.

    Example: `locus import matrix ./scores && locus publish`
    """
    start_progress()
    from flows.publish import publish as flow

    _finish(flow(wait_s=wait))


def serve() -> None:
    """Stay up and run the flows: nightly on its schedule, the others when they are asked for.

    Needs a Prefect server: `prefect server start` in another terminal, and `PREFECT_API_URL`.

    Example: `PREFECT_API_URL=http://127.0.0.1:4200/api locus serve`
    """
    start_progress()
    from flows.deployments import serve_all

    serve_all()


def benchmark(
    folder: Annotated[
        Path,
        typer.Argument(exists=True, file_okay=False, help="A score matrix (docs/imports.md)."),
    ],
    out: Annotated[Path, typer.Option(help="Where results lie.")] = Path("data/benchmark"),
    method: Annotated[
        list[str] | None, typer.Option(help="Only this method; may be repeated.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of every figure.")] = 5,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few budgets, one seed, short training.")
    ] = False,
) -> None:
    """Compare methods on a score matrix: unseen queries, unseen models, equal budgets.

    Stopped and run again, it goes on where it was.

    Example: `locus benchmark ./scores --quick`
    """
    start_progress()
    from locus.benchmark.data import load
    from locus.benchmark.run import run
    from tasks.settings import load_settings

    data = load(folder, load_settings().encoder, out / "encodings")
    page = run(data, out, method, seeds, quick)
    say(page.read_text(encoding="utf-8"))
    say(f"tables: {page}, figures: {page.with_name('results.parquet')}")


def _finish(outcome: "Outcome") -> None:
    """Print the outcome; models that failed make the exit status 3."""
    say(outcome.headline())
    if outcome.dry_run:
        for model, n in sorted(outcome.plan.items()):
            say(f"  {model}: {n} queries")
    if outcome.snapshot:
        say(f"report: {outcome.snapshot.folder / 'similarity' / 'report.html'}")
    for model, reason in sorted(outcome.failed.items()):
        say_error(f"{model}: {reason}")
    if outcome.failed:
        raise typer.Exit(EXIT_MODELS_FAILED)
