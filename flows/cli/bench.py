"""`locus bench`: how fast the pipeline is, beside others, on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.terminal import say, say_error


def register(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command()(bench)


def bench(
    subject: Annotated[
        list[str] | None, typer.Argument(help="What to measure; everything by default.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small sizes: shows that it runs, gives no figures.")
    ] = False,
    json: Annotated[
        Path | None,
        typer.Option(dir_okay=False, metavar="FILE", help="Also write every row here as JSON."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            metavar="FOLDER",
            help="Folder of real evaluation results; LOCUS_DATA by default, else "
            "../shared/data; made-up ones where there are none.",
        ),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Only say what can be measured.")] = False,
) -> None:
    """Measure speed, each figure beside the plain way to the same result, in turns.

    `locus benchmark` measures how good predictions are; this, how long things take. Nothing is
    asserted: it prints medians with the lowest and the highest, and the goals. docs/speed.md says
    what each row means. A machine that does something else at the same time gives worse figures.

    Exit status 1 if a subject failed; the others are measured all the same.

    Examples: `locus bench --list`; `locus bench --quick`;
    `locus bench refresh growth --json speed.json`
    """
    from flows.bench.rows import Size
    from flows.bench.run import run
    from flows.bench.subjects import available, chosen

    if list_:
        for name, one in available().items():
            say(f"{name:<10} {one.about}")
        return
    if json and not json.resolve().parent.is_dir():
        raise typer.BadParameter(f"{json}: its folder is not there; make it first")
    subjects = chosen(subject or ())
    size = Size.QUICK if quick else Size.FULL
    report = run(subjects, size, say, say_error, out=json, data=data)
    for name, why in report.failed.items():
        say_error(f"{name} failed: {why}")
    if report.failed:
        raise typer.Exit(1)
