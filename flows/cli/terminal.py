"""What the terminal shows: tables, progress, errors; hostile text is made harmless first."""

import logging
import os
import sys
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    import polars as pl

# Right-to-left overrides and the like reorder what stands beside them on a screen.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def safe(value: Any) -> str:
    """Text that can't move the cursor, colour the screen or reorder its neighbours."""
    text = "" if value is None else str(value)
    return "".join(" " if c in "\n\t" else c for c in text if c in "\n\t" or not _unseen(c))


def _unseen(character: str) -> bool:
    return unicodedata.category(character) in _UNSEEN


def say(text: str = "") -> None:
    """A line on standard output."""
    typer.echo(text)


def say_error(text: str) -> None:
    """A line on standard error."""
    typer.secho(text, err=True, fg="red" if sys.stderr.isatty() else None)


def error_line(error: Exception, known: bool) -> str:
    """An error in one line; a defect says where to report it and how to see more."""
    text = safe(error) or type(error).__name__
    if known:
        return f"error: {text}"
    return (
        f"unexpected {type(error).__name__}: {text[:500]} - this is a defect of locus; "
        "LOCUS_DEBUG=1 shows the traceback"
    )


def table(frame: "pl.DataFrame", title: str | None = None, most: int = 100) -> None:
    """Print a frame as a table; long ones end with what was left out."""
    columns = [(name, kind.is_numeric()) for name, kind in frame.schema.items()]
    grid(columns, frame.head(most).rows(), title, more=frame.height - most)


def grid(
    columns: Iterable[tuple[str, bool]],
    rows: Iterable[tuple[Any, ...]],
    title: str | None = None,
    more: int = 0,
) -> None:
    """Print a table of plain values.

    Args:
        columns: names, and whether they hold numbers.
        rows: the values.
        title: what stands above.
        more: rows that were left out.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for name, is_number in columns:
        shown.add_column(Text(safe(name)), justify="right" if is_number else "left")
    for row in rows:
        shown.add_row(*(Text(_cell(value)) for value in row))
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(shown)
    if more > 0:
        console.print(f"... {more} more rows")


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return safe(value)


def start_progress() -> None:
    """Show the pipeline's progress lines on standard error, and keep Prefect's own quiet.

    Must run before Prefect is imported: it reads its settings then. What is set in the
    environment already stays.
    """
    os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "locus,warehouse")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not os.environ.get("LOCUS_VERBOSE"):
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        # lm-eval, transformers and others warn through the warnings module.
        logging.getLogger("py.warnings").setLevel(logging.ERROR)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    for name in ("locus", "warehouse"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        logger.propagate = False
