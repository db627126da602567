"""Users' SQL on the published copy. The text is hostile until DuckDB has refused what it must.

Three walls, each enough for most attacks: only one statement that reads is accepted; the file is
opened read-only; and access to files, the network, extensions, Python variables and settings is
off and locked. What is left is time and memory, so a statement is stopped after a while and
nothing is spilled to disk.
"""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import duckdb

from warehouse.errors import SqlError

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
    return _run(copy_path, sql, max_rows, timeout_s, _frame)


def run_rows(
    copy_path: Path, sql: str, *, max_rows: int | None = None, timeout_s: float = 60
) -> Rows:
    """Like `run_sql`, but without a frame: polars and Arrow, which it takes, start slowly."""
    return _run(copy_path, sql, max_rows, timeout_s, _rows)


def _frame(relation: duckdb.DuckDBPyRelation) -> "pl.DataFrame":
    from polars.exceptions import PolarsError

    try:
        frame: pl.DataFrame = relation.pl()
    except PolarsError as error:
        line = f"a column of the result has a type that cannot be shown: {error}"
        raise SqlError(line.splitlines()[0], "Cast it, for example to VARCHAR.") from error
    return frame


def _rows(relation: duckdb.DuckDBPyRelation) -> Rows:
    numbers = [bool(_NUMBER.fullmatch(str(kind))) for kind in relation.types]
    return Rows(list(zip(relation.columns, numbers, strict=True)), relation.fetchall())


def _run(
    copy_path: Path,
    sql: str,
    max_rows: int | None,
    timeout_s: float,
    fetch: Callable[[duckdb.DuckDBPyRelation], _T],
) -> _T:
    with _opened(copy_path) as con:
        return _answer(con, sql, max_rows, timeout_s, fetch)


def _opened(copy_path: Path) -> duckdb.DuckDBPyConnection:
    if not copy_path.is_file():
        raise SqlError(f"{copy_path}: no published copy there", "Publish a snapshot first.")
    try:
        con = duckdb.connect(str(copy_path), read_only=True, config=_CONFIG)
    except duckdb.Error as error:
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
