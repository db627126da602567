"""`locus export`: what the warehouse knows, as files that other tools read."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.terminal import safe, say, start_progress, table

if TYPE_CHECKING:
    from tasks.exporting import Format

app = typer.Typer(
    no_args_is_help=True,
    help="Export scores: as logs of lm-eval, in the format of Every Eval Ever, or as a data set.",
)

_FOLDER = Annotated[Path, typer.Argument(help="The folder to write; it must be empty or new.")]
_MODEL = Annotated[
    list[str] | None, typer.Option("--model", help="Only this model; may be repeated.")
]
_TASK = Annotated[list[str] | None, typer.Option("--task", help="Only this task; may be repeated.")]
_DRY = Annotated[bool, typer.Option("--dry-run", help="Say what would be written, write nothing.")]
_OVER = Annotated[
    bool,
    typer.Option("--overwrite", help="Into a folder with content; same names are replaced."),
]


@app.command("lm-eval")
def lm_eval(
    folder: _FOLDER,
    model: _MODEL = None,
    task: _TASK = None,
    dry_run: _DRY = False,
    overwrite: _OVER = False,
) -> None:
    """Write samples and results files, as lm-evaluation-harness does (docs/exports.md).

    Example: `locus export lm-eval ./logs --model org/name`
    """
    _run("lm-eval", folder, model, task, dry_run, overwrite)


@app.command("every-eval-ever")
def every_eval_ever(
    folder: _FOLDER,
    model: _MODEL = None,
    task: _TASK = None,
    organization: Annotated[
        str, typer.Option(help="Who provides the data, as the format wants to know.")
    ] = "unknown",
    dry_run: _DRY = False,
    overwrite: _OVER = False,
) -> None:
    """Write one JSON and one JSON Lines file for every model and evaluation (docs/exports.md).

    Example: `locus export every-eval-ever ./shared --organization "Our lab"`
    """
    _run("every-eval-ever", folder, model, task, dry_run, overwrite, organization)


@app.command("dataset")
def dataset(folder: _FOLDER, dry_run: _DRY = False, overwrite: _OVER = False) -> None:
    """Write the current snapshot as a data set of Hugging Face's form (docs/exports.md).

    Example: `locus export dataset ./map`
    """
    start_progress()
    from tasks.exporting import export_dataset
    from tasks.settings import load_settings

    done = export_dataset(load_settings(), folder, dry_run=dry_run, overwrite=overwrite)
    for note in done.notes:
        say(f"note: {safe(note)}")
    table(done.counts, "would be written" if dry_run else "written")
    if done.n_replaced:
        say(f"{done.n_replaced} files of the same name were replaced")


@app.command("onnx")
def onnx(
    file: Annotated[Path, typer.Argument(help="The file to write, such as router.onnx.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file if it is there.")
    ] = False,
) -> None:
    """Write the published predictor and its pool as one ONNX graph (docs/design/publication.md).

    Example: `locus export onnx router.onnx`
    """
    from locus.routing.onnx_export import export_published
    from tasks.settings import load_settings

    pool = export_published(load_settings().published, file, overwrite)
    say(
        f"{pool.models.height} models of snapshot {pool.snapshot_id} went into {safe(file)}: "
        f"it reads features of the encoder {safe(pool.predictor.encoder)}"
    )


def _run(
    kind: "Format",
    folder: Path,
    models: list[str] | None,
    tasks: list[str] | None,
    dry_run: bool,
    overwrite: bool,
    organization: str = "unknown",
) -> None:
    start_progress()
    from tasks.exporting import export_folder
    from tasks.lock import pipeline_lock
    from tasks.settings import load_settings

    settings = load_settings()
    with pipeline_lock(settings):
        done = export_folder(
            settings,
            kind,
            folder,
            models=models or None,
            tasks=tasks or None,
            organization=organization,
            dry_run=dry_run,
            overwrite=overwrite,
        )
    for note in done.notes:
        say(f"note: {safe(note)}")
    table(done.counts, "would be written" if dry_run else "written")
    n = int(done.counts["answers"].sum())
    verb = "would go" if dry_run else "went"
    say(f"{n} answers {verb} into {done.n_files} files below {safe(folder)}")
    if done.n_replaced:
        say(f"{done.n_replaced} files of the same name were replaced")
