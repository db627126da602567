"""Commands that do the work: init, demo, run nightly, add-model, publish, serve."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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


def benchmark(
    folder: Annotated[
        Path,
        typer.Argument(
            exists=True,
            file_okay=False,
            help="Parquet tables as in docs/imports.md, or EmbedLLM's csv files.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Where results lie.")] = Path("data/benchmark"),
    method: Annotated[
        list[str] | None, typer.Option(help="Only this method; may be repeated.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of every figure.")] = 5,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Few budgets, one seed, short training: a few minutes."),
    ] = False,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that measure; they share the cores.")
    ] = 1,
    again: Annotated[
        list[str] | None,
        typer.Option(help="Measure this method again, its code has changed; may be repeated."),
    ] = None,
    cap: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METHOD=STEPS",
            help="Train this method for so many steps at most; may be repeated.",
        ),
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(help="Measure this protocol only (P1, P2, P2-all, P3); may be repeated."),
    ] = None,
    docs: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            help="Also write the page here, its figures beside it in images/benchmark/.",
        ),
    ] = None,
) -> None:
    """Compare methods on a score matrix: unseen queries, unseen models, equal budgets.

    What a method said is kept: stopped and run again, it goes on where it was, and with nothing
    missing it only writes tables and figures anew.

    P1: every pool model has some of its training scores. P2: learned from the pool on 256 training
    queries, held-out models placed from 4 to 256 of these. P2-all: learned from all training
    scores. P3: all models there are.

    Examples: `locus benchmark ./scores --quick`;
    `locus benchmark ./scores --workers 2 --docs docs/benchmark.md`;
    `locus benchmark ./scores --method factors --method knn --again factors`;
    `locus benchmark ./embedllm --cap locus-published=400`
    """
    start_progress()
    from locus.benchmark.data import load
    from locus.benchmark.run import Options, run
    from tasks.settings import load_settings

    options = Options(
        methods=tuple(method or ()),
        seeds=seeds,
        quick=quick,
        workers=workers,
        again=tuple(again or ()),
        caps=_caps(cap or []),
        protocols=tuple(protocol or ()),
        docs=docs,
    )
    data = load(folder, load_settings().encoder, out / "encodings")
    report = run(data, out, options)
    say(report.page.read_text(encoding="utf-8"))
    say(f"page: {report.page}, every figure: {report.page.with_name('results.parquet')}")
    for what, why in report.failed.items():
        say_error(f"{what}: {why}")
    if report.failed:
        raise typer.Exit(EXIT_MODELS_FAILED)


def _caps(given: list[str]) -> dict[str, int]:
    """`METHOD=STEPS` by method."""
    caps = {}
    for text in given:
        name, _, steps = text.partition("=")
        if not steps.isdecimal() or int(steps) < 1:
            raise typer.BadParameter(f"{text!r}: write METHOD=STEPS, such as embedllm=200")
        caps[name] = int(steps)
    return caps


def _finish(outcome: "Outcome") -> None:
    """Print the outcome; models that failed make the exit status 3."""
    from flows.outcome import in_words

    say(outcome.headline())
    if outcome.dry_run:
        for what, plan in (("queries", outcome.plan), ("canary queries", outcome.canary_plan)):
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
