"""Users' SQL on the published copy. The text is hostile until DuckDB has refused what it must.

Three walls, each enough for most attacks: only one statement that reads is accepted; the file is
opened read-only; and access to files, the network, extensions, Python variables and settings is
off and locked. What is left is time and memory, so a statement is stopped after a while and
nothing is spilled to disk.
"""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import duckdb

from warehouse.errors import SqlError
from warehouse.locks import NO_LOCKS

if TYPE_CHECKING:
    import polars as pl

_T = TypeVar("_T")

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
}

# A PIVOT without a list of values is two statements inside, which DuckDB calls MULTI.
_READING = {
    duckdb.StatementType.SELECT,
    duckdb.StatementType.EXPLAIN,
    duckdb.StatementType.MULTI,
}


_NUMBER = re.compile(r"U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|FLOAT|DOUBLE|DECIMAL.*")


@dataclass(frozen=True)
class Rows:
    """What a statement gives, as plain values.

    Attributes:
        columns: names of the columns and whether they hold numbers.
        values: the rows.
    """

    columns: list[tuple[str, bool]]
    values: list[tuple[Any, ...]]


class OpenCopy:
    """A published copy that is open for several statements; see `opened`."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self._con = con

    def frame(
        self, sql: str, *, max_rows: int | None = None, timeout_s: float = 60
    ) -> "pl.DataFrame":
        """As `run_sql`."""
        return _answer(self._con, sql, max_rows, timeout_s, _frame)

    def rows(self, sql: str, *, max_rows: int | None = None, timeout_s: float = 60) -> Rows:
        """As `run_rows`."""
        return _answer(self._con, sql, max_rows, timeout_s, _rows)


@contextmanager
def opened(copy_path: Path) -> Iterator[OpenCopy]:
    """Open a published copy for several statements: opening takes longer than a small one.

    Args:
        copy_path: the copy; never the working file.

    Raises:
        SqlError: there is no copy, or it can't be opened.
    """
    with _connected(copy_path) as con:
        yield OpenCopy(con)


def run_sql(
    copy_path: Path, sql: str, *, max_rows: int | None = None, timeout_s: float = 60
) -> "pl.DataFrame":
    """Run one reading statement on a published copy.

    Args:
        copy_path: the copy; never the working file.
        sql: one SELECT, WITH, FROM, VALUES, PIVOT, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN.
        max_rows: return at most this many rows; all by default.
        timeout_s: stop the statement after this many seconds.

    Returns:
        The rows. Times are UTC, JSON is text.

    Raises:
        SqlError: there is no copy, the statement is refused or fails, or takes too long.
    """
    with opened(copy_path) as copy:
        return copy.frame(sql, max_rows=max_rows, timeout_s=timeout_s)


def run_rows(
    copy_path: Path, sql: str, *, max_rows: int | None = None, timeout_s: float = 60
) -> Rows:
    """Like `run_sql`, but without a frame: polars and Arrow, which it takes, start slowly."""
    with opened(copy_path) as copy:
        return copy.rows(sql, max_rows=max_rows, timeout_s=timeout_s)


# Names and values in what DuckDB calls a type.
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
# Of these polars breaks down, with a report of its own on standard error where they are nested.
_ODD = re.compile(r"\b(?:INTERVAL|UNION)\b")
# Neither Python nor JSON has one.
_ODD_MAP = re.compile(r"\bMAP\((?!VARCHAR,)")
_CAST = "Cast it, for example to VARCHAR."


def _frame(relation: duckdb.DuckDBPyRelation) -> "pl.DataFrame":
    from polars.exceptions import PanicException, PolarsError

    for name, kind in zip(relation.columns, relation.types, strict=True):
        bare = _QUOTED.sub("", str(kind))
        if odd := _ODD.search(bare):
            raise SqlError(f"column {name!r} has an {odd[0]}, which cannot be shown", _CAST)
        if _ODD_MAP.search(bare):
            raise SqlError(f"column {name!r} has a MAP whose keys are no text", _CAST)
    try:
        frame: pl.DataFrame = relation.pl()
    except (PolarsError, PanicException) as error:
        line = f"a column of the result has a type that cannot be shown: {error}"
        raise SqlError(line.splitlines()[0], _CAST) from error
    for name in frame.columns:
        if not all(map(_has_days, _leaves(frame.get_column(name)))):
            line = f"column {name!r} has a time that is not within the years 1 to 9999"
            raise SqlError(line, _CAST)
    return frame


def _leaves(series: "pl.Series") -> "Iterator[pl.Series]":
    """A column, or what is nested in it."""
    import polars as pl

    if isinstance(series.dtype, pl.List | pl.Array):
        yield from _leaves(series.explode())
    elif isinstance(series.dtype, pl.Struct):
        for part in series.struct.unnest().get_columns():
            yield from _leaves(part)
    else:
        yield series


def _has_days(leaf: "pl.Series") -> bool:
    """Whether polars can write all of its times: of others it breaks down only there."""
    import polars as pl

    # Days from 1970 to 0001-01-01 and 9999-12-31; hundreds of years of nanoseconds are no more.
    low, high = -719_162, 2_932_896
    if isinstance(leaf.dtype, pl.Datetime):
        if leaf.dtype.time_unit == "ns":
            return True
        day = 86_400 * (1000 if leaf.dtype.time_unit == "ms" else 1_000_000)
        low, high = low * day, (high + 1) * day - 1
    elif leaf.dtype != pl.Date:
        return True
    return bool(leaf.to_physical().is_between(low, high).fill_null(True).all())


def _rows(relation: duckdb.DuckDBPyRelation) -> Rows:
    numbers = [bool(_NUMBER.fullmatch(str(kind))) for kind in relation.types]
    try:
        values = relation.fetchall()
    except (OverflowError, ValueError, TypeError) as error:  # Python has no such value
        raise SqlError(f"a value of the result cannot be shown: {error}", _CAST) from error
    return Rows(list(zip(relation.columns, numbers, strict=True)), values)


def _connected(copy_path: Path) -> duckdb.DuckDBPyConnection:
    if not copy_path.is_file():
        raise SqlError(f"{copy_path}: no published copy there", "`locus publish` makes one.")
    try:
        con = duckdb.connect(str(copy_path), read_only=True, config=_CONFIG)
    except duckdb.Error as error:
        if "Could not set lock" in str(error):  # nobody writes to a copy that is published
            raise SqlError(f"{copy_path} can't be locked: {NO_LOCKS}") from error
        raise _sql_error(error) from error
    con.execute("SET TimeZone = 'UTC'")
    con.execute("SET lock_configuration = true")
    return con


def _answer(
    con: duckdb.DuckDBPyConnection,
    sql: str,
    max_rows: int | None,
    timeout_s: float,
    fetch: Callable[[duckdb.DuckDBPyRelation], _T],
) -> _T:
    statement = _one_reading_statement(con, sql)
    stopped = threading.Event()

    def stop() -> None:
        stopped.set()
        con.interrupt()

    timer = threading.Timer(timeout_s, stop)
    timer.start()
    try:
        relation = con.sql(statement)
        relation = relation if max_rows is None else relation.limit(max_rows)
        return fetch(relation)
    except duckdb.Error as error:
        if stopped.is_set():
            raise SqlError(
                f"stopped after {timeout_s:g} s", "Filter earlier, or ask for less."
            ) from error
        raise _sql_error(error) from error
    finally:
        timer.cancel()
        timer.join()  # so that it never interrupts a closed connection


def _one_reading_statement(con: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    """Parse without running anything, and refuse what does more than read."""
    try:
        sql.encode()
    except UnicodeEncodeError as error:  # DuckDB's client takes it for no text at all
        raise SqlError(f"the statement holds half of a character, at {error.start + 1}") from error
    try:
        statements = con.extract_statements(sql)
        kinds = [statement.type for statement in statements]
    except duckdb.Error as error:
        raise _sql_error(error) from error
    except ValueError as error:  # a kind of statement that the Python client has no name for
        raise SqlError(f"this statement is not allowed here: {error}", _HINT) from error
    if len(statements) != 1:
        raise SqlError(f"one statement is needed, this is {len(statements)}", _HINT)
    if kinds[0] not in _READING:
        raise SqlError(f"{kinds[0].name} is not allowed here, the copy can only be read", _HINT)
    return statements[0]


_HINT = "Use one SELECT (or FROM, WITH, PIVOT, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN)."


def _sql_error(error: duckdb.Error) -> SqlError:
    """Turn DuckDB's message into its first line and the hints after it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return SqlError(lines[0], "\n".join(lines[1:]) or None)
