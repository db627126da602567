"""`locus import`: evaluation data that others made."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.terminal import safe, say, start_progress

if TYPE_CHECKING:
    from tasks.importing import Kind

app = typer.Typer(
    no_args_is_help=True,
    help="Import scores: a matrix, lm-eval logs, or EmbedLLM's files. All of it or nothing.",
)

_FOLDER = Annotated[Path, typer.Argument(exists=True, file_okay=False, help="The folder to read.")]
_SKIP = Annotated[
    bool, typer.Option("--skip-bad", help="Leave faulty rows out instead of refusing all.")
]


@app.command()
def matrix(folder: _FOLDER, skip_bad: _SKIP = False) -> None:
    """Import models.parquet, queries.parquet and scores.parquet (docs/imports.md).

    Example: `locus import matrix ./my-scores && locus publish`
    """
    _run("matrix", folder, skip_bad)


@app.command("lm-eval")
def lm_eval(
    folder: _FOLDER,
    model: Annotated[
        str | None, typer.Option(help="Whose logs these are, where no results file says it.")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="TASK=METRIC that is the score; may be repeated.")
    ] = None,
    skip_bad: _SKIP = False,
) -> None:
    """Import logs of lm-evaluation-harness: samples_*.jsonl, results_*.json.

    Example: `locus import lm-eval ./logs --model org/name`
    """
    chosen = {}
    for text in metric or []:
        task, sign, name = text.partition("=")
        if not sign:
            raise typer.BadParameter(
                f"{text!r}: write TASK=METRIC, such as gsm8k=exact_match", param_hint="--metric"
            )
        chosen[task] = name
    _run("lm-eval", folder, skip_bad, model, chosen)


@app.command()
def embedllm(folder: _FOLDER, skip_bad: _SKIP = False) -> None:
    """Import EmbedLLM's train.csv, val.csv, test.csv and model_order.csv.

    Example: `locus import embedllm ./embedllm-data && locus publish`
    """
    _run("embedllm", folder, skip_bad)


def _run(
    kind: "Kind",
    folder: Path,
    skip_bad: bool,
    model: str | None = None,
    metric: dict[str, str] | None = None,
) -> None:
    start_progress()
    from tasks.importing import import_folder
    from tasks.lock import pipeline_lock
    from tasks.settings import load_settings

    settings = load_settings()
    with pipeline_lock(settings):
        done = import_folder(settings, kind, folder, model=model, metric=metric, skip_bad=skip_bad)
    for note in done.notes:
        say(f"note: {safe(note)}")
    if done.report:
        say(f"{done.n_problems} faulty rows were left out; they are listed in {done.report}")
    say(", ".join(f"{n} new {table}" for table, n in done.counts.items()))
    say("next: `locus publish` places and publishes what was imported")
