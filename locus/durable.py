"""Files that are there whole or not at all, and still there after a power cut."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Write a file: temporary file beside it, flush, rename, flush of the folder.

    A reader sees the old content or the new one. If the block raises, ``path`` stays as it was; a
    process killed here leaves a dot file at most, which `remove_leftovers` takes away.

    Args:
        path: the file; its folder must be there.

    Yields:
        The temporary file's stream; its ``name`` is a path beside ``path``.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path))
    part = Path(temporary)
    try:
        # Held until the process ends or is done: how others know that a dot file has an owner.
        _locked(handle)
        with part.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp made it private to its owner.
        part.chmod(0o644)
        part.replace(path)
        sync(path.parent)
    finally:
        os.close(handle)
        part.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> int:
    """Remove the temporary files of killed writers of one file; those being written are left.

    Returns:
        How many there were.
    """
    removed = 0
    for left in path.parent.iterdir():
        if not left.name.startswith(_prefix(path)):
            continue
        # Renamed or removed by its writer in between: then it is no leftover.
        with suppress(FileNotFoundError), left.open("rb") as stream:
            if _locked(stream.fileno()):
                left.unlink()
                removed += 1
    return removed


def _prefix(path: Path) -> str:
    return f".{path.stem}-"


def _locked(handle: int) -> bool:
    """Take the lock of an open file; False if another has it, or the file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
