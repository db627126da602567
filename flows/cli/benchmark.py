"""`locus benchmark`: methods compared on a score matrix."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.terminal import say, say_error, start_progress

EXIT_METHODS_FAILED = 3


def register(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command()(benchmark)


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
    settings = load_settings()
    data = load(folder, settings.encoder, out / "encodings", settings.encoder_precision)
    report = run(data, out, options)
    say(report.page.read_text(encoding="utf-8"))
    say(f"page: {report.page}, every figure: {report.page.with_name('results.parquet')}")
    for what, why in report.failed.items():
        say_error(f"{what}: {why}")
    if report.failed:
        raise typer.Exit(EXIT_METHODS_FAILED)


def _caps(given: list[str]) -> dict[str, int]:
    """`METHOD=STEPS` by method."""
    caps = {}
    for text in given:
        name, _, steps = text.partition("=")
        if not steps.isdecimal() or int(steps) < 1:
            raise typer.BadParameter(f"{text!r}: write METHOD=STEPS, such as embedllm=200")
        caps[name] = int(steps)
    return caps
