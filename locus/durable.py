"""Files that are there whole or not at all, and still there after a power cut."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Write a file: temporary file beside it, flush, rename, flush of the folder.

    A reader sees the old content or the new one. If the block raises, ``path`` stays as it was; a
    process killed here leaves a dot file at most.

    Args:
        path: the file; its folder must be there.

    Yields:
        The temporary file's stream; its ``name`` is a path beside ``path``.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-")
    part = Path(temporary)
    try:
        os.close(handle)
        with part.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp made it private to its owner.
        part.chmod(0o644)
        part.replace(path)
        sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
