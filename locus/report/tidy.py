"""Frames and text as the report shows them: known columns, nothing invisible, nothing infinite."""

import base64
import re
import zlib
from collections.abc import Mapping

import polars as pl

TEXT, REAL, COUNT = pl.String(), pl.Float64(), pl.Int64()

# Control characters and those that turn the direction of text around: invisible, they can make
# "evil/<U+202E>gnp.exe" read as "evil/exe.png".
_INVISIBLE = "[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"


class ReportDataError(ValueError):
    """Data that can't be shown truthfully; the message names the frame and the next step."""


def visible(text: str) -> str:
    """``text`` with control and direction characters written out, as in ``⟨U+202E⟩``."""
    return re.sub(_INVISIBLE, lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


def tidy(
    frame: pl.DataFrame, schema: Mapping[str, pl.DataType], name: str, key: str | None = None
) -> pl.DataFrame:
    """``frame`` with exactly the columns of ``schema``; NaN and infinity become NULL.

    Args:
        frame: what came in; more columns are left out.
        schema: columns and their types.
        name: how the frame is called in an error.
        key: a column in which no value may be missing.

    Raises:
        ReportDataError: a column is missing or of another type, or ``key`` has empty values.
    """
    if missing := [column for column in schema if column not in frame.columns]:
        raise ReportDataError(f"the frame {name} lacks the column(s) {missing}; add them")
    try:
        cast = frame.select(pl.col(column).cast(kind) for column, kind in schema.items())
    except pl.exceptions.PolarsError as error:
        raise ReportDataError(f"the frame {name} has a column of a wrong type: {error}") from error
    if key and cast[key].null_count():
        raise ReportDataError(f"{name}.{key} has empty values; name every row")
    for column in (column for column, kind in schema.items() if kind == TEXT):
        hidden = cast[column].filter(cast[column].str.contains(_INVISIBLE)).unique()
        if len(hidden):
            shown = {text: visible(text) for text in hidden}
            cast = cast.with_columns(pl.col(column).replace(shown))
    reals = [column for column, kind in schema.items() if kind == REAL]
    return cast.with_columns(
        pl.when(pl.col(column).is_finite()).then(pl.col(column)) for column in reals
    )


def deflated(text: str) -> str:
    """Text in zlib's format, as base64: letters that no page can trip over."""
    return base64.b64encode(zlib.compress(text.encode("utf-8"), 9)).decode("ascii")
