"""Rows on standard output as a table, CSV or JSON; what isn't a row goes where it does no harm."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.terminal import safe, say, table

if TYPE_CHECKING:
    import polars as pl


class Format(StrEnum):
    """How rows are printed."""

    table = "table"
    csv = "csv"
    json = "json"


FormatOption = Annotated[Format, typer.Option("--format", help="table, csv or json.")]


def note(text: str, output: Format) -> None:
    """A remark beside the rows: under a table, on standard error where programs read the rows."""
    typer.echo(safe(text), err=output is not Format.table)


def some(names: list[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def known_columns(frame: "pl.DataFrame", output: Format) -> "pl.DataFrame":
    """Without columns of which nothing is known: on a screen they only take room."""
    if output is not Format.table:
        return frame
    return frame.select(c for c in frame.columns if frame[c].null_count() < frame.height)


def emit(frame: "pl.DataFrame", output: Format, title: str | None, most: int = 100) -> None:
    """Print rows as asked; CSV cells that a spreadsheet would run are defused."""
    if output is Format.table:
        table(frame, title, most)
    elif output is Format.json:
        say(_hex(frame).write_json())
    else:
        say(_flat(_hex(frame)).write_csv().rstrip("\n"))


def _hex(frame: "pl.DataFrame") -> "pl.DataFrame":
    """Bytes as hexadecimal digits: neither JSON nor CSV has any."""
    import polars as pl

    return frame.with_columns(pl.col(pl.Binary).bin.encode("hex"))


def _flat(frame: "pl.DataFrame") -> "pl.DataFrame":
    import polars as pl

    nested = [n for n, kind in frame.schema.items() if kind.is_nested()]
    flat = frame.with_columns(
        pl.col(n).map_elements(lambda v: str(list(v)), return_dtype=pl.String) for n in nested
    )
    return flat.with_columns(
        pl.when(pl.col(n).str.contains(r"^[=+\-@\t\r']"))
        .then(pl.concat_str(pl.lit("'"), pl.col(n)))
        .otherwise(pl.col(n))
        .alias(n)
        for n, kind in flat.schema.items()
        if kind == pl.String
    )
