"""Reading and judging tables: typed columns, one reason a row, the columns nobody asked for.

What a format requires belongs in the format's own module; here is how a requirement is checked.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import polars as pl

from locus.imports.bundle import ProblemLog
from locus.parquet import ParquetError, read_parquet

READ_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
ROW = "__row"
_EPOCH = date(1970, 1, 1).toordinal()

# What a column may be; `label` and `when` are scalars that are kept as text.
KINDS = {
    "text": "text",
    "number": "a number",
    "list": "a list of text",
    "label": "text or a number",
    "when": "text or a date",
}


def load_parquet(
    folder: Path,
    name: str,
    columns: Mapping[str, str],
    required: Iterable[str],
    log: ProblemLog,
) -> pl.DataFrame | None:
    """Read one Parquet table.

    Args:
        folder: the folder that holds it.
        name: its file name.
        columns: the columns that are known, each with its kind (a key of `KINDS`).
        required: those of them that must be there.
        log: told of a file that is missing or unreadable, and of columns missing or of other types.

    Returns:
        The table with every known column in the type of its kind (null where the file has none),
        the file's other columns as they are, and `ROW`, counted from 1; None if it is unfit.
    """
    required = list(required)
    expected = f"expected a Parquet file with the columns {', '.join(required)}"
    path = folder / name
    if not path.is_file():
        log.add(name, name, f"the file is missing: {expected}")
        return None
    try:
        frame = read_parquet(path)
    except ParquetError as error:
        log.add(name, name, f"it can't be read: {expected} ({error})")
        return None
    before = log.total
    for column in frame.columns:
        if not all(map(_has_days, _leaves(frame.get_column(column)))):
            log.add(name, column, "the column holds a time that is not within the years 2 to 9998")
    for column in required:
        if column not in frame.columns:
            log.add(name, column, f"the column is missing: {expected}")
    known = []
    for column, kind in columns.items():
        if column not in frame.columns:
            known.append(pl.lit(None, _type_of(kind)).alias(column))
        elif _fits(frame.schema[column], kind):
            known.append(pl.col(column).cast(_type_of(kind)))
        else:
            found = str(frame.schema[column])
            log.add(name, column, f"the column holds {found}: expected {KINDS[kind]}")
    if log.total > before:
        return None
    return frame.with_columns(*known).with_columns(
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(ROW)
    )


# Days since 1970: outside of them neither Python nor polars can write a time in every zone.
_FIRST_DAY, _LAST_DAY = (date(year, 1, 1).toordinal() - _EPOCH for year in (2, 9999))
_WHOLE_MOST = 2**63 - 1
_DAY_NS = 86_400 * 10**9
_A_DAY = {"ms": _DAY_NS // 10**6, "us": _DAY_NS // 10**3, "ns": _DAY_NS}


def _leaves(series: pl.Series) -> Iterator[pl.Series]:
    """A column, or what is nested in it."""
    if isinstance(series.dtype, pl.List | pl.Array):
        yield from _leaves(series.explode())
    elif isinstance(series.dtype, pl.Struct):
        for part in series.struct.unnest().get_columns():
            yield from _leaves(part)
    else:
        yield series


def _has_days(leaf: pl.Series) -> bool:
    """Whether all of its times are such that a calendar has them; so is everything else."""
    kind = leaf.dtype
    if not kind.is_temporal():
        return True
    low, high = _FIRST_DAY, _LAST_DAY
    if isinstance(kind, pl.Datetime | pl.Duration):
        unit = _A_DAY[kind.time_unit]
        low, high = max(low * unit, -_WHOLE_MOST), min(high * unit, _WHOLE_MOST)
    elif kind == pl.Time:
        low, high = 0, _DAY_NS - 1
    return bool(leaf.to_physical().is_between(low, high).fill_null(True).all())


def _type_of(kind: str) -> pl.DataType:
    if kind == "number":
        return pl.Float64()
    return pl.List(pl.String) if kind == "list" else pl.String()


def _fits(dtype: pl.DataType, kind: str) -> bool:
    """Whether a column of ``dtype`` can be taken for the kind. A column of nulls fits any."""
    if dtype == pl.Null:
        return True
    if kind == "number":
        return dtype.is_numeric() or dtype == pl.Boolean
    if kind == "list":
        return isinstance(dtype, pl.List | pl.Array) and dtype.inner in (
            pl.String,
            pl.Null,
            pl.Categorical,
        )
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return True
    if kind == "label":
        return dtype.is_numeric() or dtype == pl.Boolean
    return kind == "when" and (dtype.is_integer() or dtype in (pl.Date, pl.Datetime))


def is_blank(column: str) -> pl.Expr:
    """Whether a text is null or has nothing but white space."""
    return pl.col(column).is_null() | (pl.col(column).str.strip_chars() == "")


def because(*rules: tuple[pl.Expr, pl.Expr | str]) -> pl.Expr:
    """The reason of the first rule that holds for a row; null if none does."""
    result: pl.Expr = pl.lit(None, pl.String)
    for holds, reason in reversed(rules):
        shown = pl.lit(reason) if isinstance(reason, str) else reason
        result = pl.when(holds).then(shown).otherwise(result)
    return result


def reject(
    log: ProblemLog, file: str, frame: pl.DataFrame, item: str | pl.Expr, reason: pl.Expr
) -> pl.DataFrame:
    """Report the rows for which ``reason`` is not null, by their `ROW`; return the others."""
    judged = frame.with_columns(reason.alias("__reason"))
    bad = judged.filter(pl.col("__reason").is_not_null())
    if bad.is_empty():
        return frame
    shown = pl.col(item) if isinstance(item, str) else item
    log.add_rows(
        file, bad.select(line=pl.col(ROW), item=shown.cast(pl.String), reason=pl.col("__reason"))
    )
    return judged.filter(pl.col("__reason").is_null()).drop("__reason")


def plain(value: object) -> object:
    """A table's value as JSON can hold it: times as ISO text, NaN and infinity as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def json_of_others(frame: pl.DataFrame, known: Iterable[str]) -> pl.Series:
    """Per row, the columns that are not ``known`` as JSON; null where all of them are null."""
    others = frame.drop(known, strict=False)

    def encode(row: dict[str, Any]) -> str | None:
        given = {key: value for key, item in row.items() if (value := plain(item)) is not None}
        return json.dumps(given, ensure_ascii=False, sort_keys=True) if given else None

    rows = others.iter_rows(named=True) if others.width else [{}] * frame.height
    return pl.Series([encode(row) for row in rows], dtype=pl.String)
