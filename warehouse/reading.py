"""A database file opened to be looked at: no lease, no migration, no write, at any version."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from warehouse.connection import Session
from warehouse.errors import WarehouseBusyError, WarehouseError

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
}


@contextmanager
def reading(path: Path) -> Iterator[Session]:
    """Open a database file to read it, also one that a killed process left with its log.

    Raises:
        WarehouseBusyError: another process has it open.
        WarehouseError: it is missing or damaged, which may come out only when rows are read.
    """
    try:
        with duckdb.connect(str(path), read_only=True, config=_CONFIG) as con:
            con.execute("SET TimeZone = 'UTC'")
            yield Session(con, path)
    except duckdb.Error as error:
        text = str(error).splitlines()[0]
        if "Could not set lock" in text:
            raise WarehouseBusyError(path, 0, text) from error
        raise WarehouseError(
            f"{path} cannot be read: {text}; `locus doctor` says what to do"
        ) from error
