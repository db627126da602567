"""The one connection to the database file: waiting for it, transactions, frames in and out.

Everything above this module writes SQL with bound values and hands over polars frames; nothing
above it touches the DuckDB API.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warehouse import engine
from warehouse.elsewhere import is_url, refuse_elsewhere
from warehouse.errors import WarehouseBusyError, WarehouseError
from warehouse.locks import NO_LOCKS, has_locks

if TYPE_CHECKING:
    import polars as pl

Params = Sequence[object] | Mapping[str, object] | None

_RETRY_S = 0.1
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    # A table name must never resolve to a Python variable.
    "python_enable_replacements": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    # At the default of 16 MB a night's parts are compressed, and what they left half full is
    # compressed again, every few parts; this halves what recording costs. Closing does the rest.
    "checkpoint_threshold": "64MB",
}


def now() -> datetime:
    """The current time in UTC."""
    return datetime.now(UTC)


def connect(path: Path, wait_s: float) -> engine.DuckDBPyConnection:
    """Open the database file for writing, waiting while another process holds it.

    Args:
        path: the file; created with its folder where missing.
        wait_s: seconds to keep trying; 0 tries once.

    Raises:
        WarehouseBusyError: another process still holds it after ``wait_s`` seconds.
        WarehouseError: it cannot be opened for any other reason, or is no file but a URL.
    """
    if is_url(str(path)):
        refuse_elsewhere(str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            con = engine.connect(str(path), config=_CONFIG)
        except engine.Error as error:
            text = str(error).splitlines()[0]
            if "Could not set lock" not in text:
                raise WarehouseError(
                    f"{path} cannot be opened: {text}; `locus doctor` says what to do"
                ) from error
            if not has_locks(path.parent):
                raise WarehouseError(f"{path} can't be locked: {NO_LOCKS}") from error
            if time.monotonic() >= deadline:
                raise WarehouseBusyError(path, wait_s, text) from error
            time.sleep(_RETRY_S)
        else:
            con.execute("SET TimeZone = 'UTC'")
            return con


class Session:
    """A connection with transactions; not to be shared between threads.

    Attributes:
        path: the database file.
    """

    def __init__(self, con: engine.DuckDBPyConnection, path: Path) -> None:
        self._con: engine.DuckDBPyConnection | None = con
        self.path = path
        self._depth = 0
        self._doomed = False

    @property
    def _live(self) -> engine.DuckDBPyConnection:
        if self._con is None:
            raise WarehouseError(f"{self.path} was closed; open the warehouse again")
        return self._con

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._depth > 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing: commit at the end, roll back on any exception.

        One inside another joins it, so that only the outermost commits. If an inner one failed
        and its exception was caught on the way, half of it would be left: the outermost then
        rolls back as well.

        Raises:
            WarehouseError: an inner transaction failed, and its exception was caught.
        """
        if self._depth == 0:
            self._live.begin()
            self._doomed = False
        self._depth += 1
        try:
            yield
        except BaseException:
            self._depth -= 1
            self._doomed = True
            if self._depth == 0:
                self._live.rollback()
            raise
        self._depth -= 1
        if self._depth > 0:
            return
        if self._doomed:
            self._live.rollback()
            raise WarehouseError(
                f"{self.path}: a step of this transaction failed, so all of it was rolled back; "
                "let the exception pass, or give the step a transaction of its own"
            )
        self._live.commit()

    def execute(self, sql: str, params: Params = None) -> int:
        """Run statements that return no rows.

        Returns:
            Number of rows changed by the last statement; 0 where it counts none.
        """
        result = self._live.execute(sql, params).fetchall()
        if result and len(result[0]) == 1 and isinstance(result[0][0], int):
            return int(result[0][0])
        return 0

    def frame(self, sql: str, params: Params = None) -> "pl.DataFrame":
        """Rows of a SELECT as a frame; times are UTC, JSON is text."""
        engine.with_frames()
        rows: pl.DataFrame = self._live.sql(sql, params=params).pl()
        return rows

    def frame_of(self, sql: str, columns: Sequence[str], params: Params = None) -> "pl.DataFrame":
        """Like `frame`, with only these columns of the SELECT computed and returned."""
        import duckdb

        relation = self._live.sql(sql, params=params)
        wanted = [duckdb.ColumnExpression(name) for name in columns]
        rows: pl.DataFrame = relation.select(*wanted).pl()
        return rows

    # Not by way of a frame, which takes four times as long for a row.
    def row(self, sql: str, params: Params = None) -> dict[str, Any] | None:
        """First row of a SELECT as a dict, or None."""
        result = self._live.execute(sql, params)
        names = [column[0] for column in result.description or ()]
        rows = result.fetchall()
        return dict(zip(names, rows[0], strict=True)) if rows else None

    def value(self, sql: str, params: Params = None) -> Any:
        """First value of the first row of a SELECT, or None."""
        values = self.values(sql, params)
        return values[0] if values else None

    def values(self, sql: str, params: Params = None) -> list[Any]:
        """First value of every row of a SELECT."""
        return [row[0] for row in self.rows(sql, params)]

    def rows(self, sql: str, params: Params = None) -> list[tuple[Any, ...]]:
        """Rows of a SELECT as plain values."""
        rows: list[tuple[Any, ...]] = self._live.execute(sql, params).fetchall()
        return rows

    @contextmanager
    def staged(self, frame: "pl.DataFrame", name: str = "incoming") -> Iterator[None]:
        """Make a frame readable in SQL under ``name``."""
        engine.with_frames()
        self._live.register(name, frame)
        try:
            yield
        finally:
            self._live.unregister(name)

    def close(self) -> None:
        """Close the connection, once or more often; an open transaction is rolled back."""
        if self._con is not None:
            self._con.close()
            self._con = None  # an object that is kept must not keep the connection alive
