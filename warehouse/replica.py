"""A complete copy of the database in another file, there whole or not at all."""

import os
from pathlib import Path

from warehouse.connection import Session
from warehouse.engine import Error
from warehouse.errors import WarehouseError

_READ_ONLY = 0o444


def write_copy(session: Session, dst: Path, *, read_only: bool = True) -> None:
    """Copy tables, rows, views and comments to ``dst``, replacing what is there in one step.

    The copy grows under a hidden name beside ``dst`` and is renamed once it is on disk, so a
    reader finds the old file or the new one; a reader that has the old one open keeps it. A copy
    that was killed leaves its hidden file, which the next one removes.

    Args:
        session: the database to copy; no transaction may be open.
        dst: the new file; its folder is made where missing.
        read_only: take away the permission to write to it.

    Raises:
        WarehouseError: a transaction is open, ``dst`` is the database itself, or rows can't be
            written, such as on a full disk.
        OSError: the file can't be put in its place.
    """
    if session.in_transaction:
        raise WarehouseError(f"{dst}: a copy cannot be taken inside a transaction; commit first")
    if dst.resolve() == session.path.resolve():
        raise WarehouseError(f"{dst} is the working file itself; copy it to another place")
    dst.parent.mkdir(parents=True, exist_ok=True)
    part = dst.with_name(f".{dst.name}.part")
    _remove(part)
    try:
        session.execute("ATTACH ? AS locus_copy", [str(part)])
        try:
            # Names of databases cannot be bound; this one is DuckDB's own, quoted.
            source = str(session.value("SELECT current_database() AS name")).replace('"', '""')
            with session.transaction():
                session.execute(f'COPY FROM DATABASE "{source}" TO locus_copy')
        finally:
            session.execute("DETACH locus_copy")
        if read_only:
            part.chmod(_READ_ONLY)
        _sync(part)
        part.replace(dst)
        _sync(dst.parent)
    except Error as error:
        _remove(part)
        raise WarehouseError(
            f"{dst} can't be written: {' '.join(str(error).split())}; if its disk is full, make "
            "room there, and run again"
        ) from error
    except BaseException:
        _remove(part)
        raise


def _sync(path: Path) -> None:
    """Force a file or a folder's entries to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(part: Path) -> None:
    part.unlink(missing_ok=True)
    part.with_name(part.name + ".wal").unlink(missing_ok=True)
