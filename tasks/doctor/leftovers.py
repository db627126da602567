"""What killed runs left half-made: private folders and temporary files that nobody reads."""

import fcntl
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from tasks.settings import Settings
from tasks.unfinished import half_made

RESTORING = ".restoring-"

# `locus.durable.whole_file` writes under such a name: a dot, the file's stem, eight characters. A
# home is a place where people may put files of their own, so there only our own names count.
_PART = re.compile(r"\.[\w.-]+-[a-z0-9_]{8}")
_NOTE = re.compile(r"\.(current|digests|last_night|pipeline|serve|stale|watch)-[a-z0-9_]{8}")
# `warehouse.replica.write_copy` under this one.
_COPY = re.compile(r"\.warehouse\.duckdb(\.backup-v\d+)?\.part(\.wal)?")


def leftovers(settings: Settings) -> list[Path]:
    """Folders and files that a run which still went on would be at work on; else they are left.

    Whether a run goes on is for the caller to know. Temporary files that somebody is writing are
    not among them, whoever it is.
    """
    return sorted({*_folders(settings), *_files(settings)})


def remove(path: Path) -> None:
    """Take one away.

    Raises:
        OSError: it can't be removed.
    """
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _folders(settings: Settings) -> Iterator[Path]:
    yield from half_made(settings)
    yield from settings.home.parent.glob(f"{settings.home.name}{RESTORING}*")


def _files(settings: Settings) -> Iterator[Path]:
    home = settings.home
    looked = [(home, _NOTE), (home, _COPY), (settings.published, _NOTE)]
    for parent in (settings.parts, home / "canaries"):
        looked += [(folder, _PART) for folder in (parent, *parent.glob("*")) if folder.is_dir()]
    for folder, name in looked:
        for path in folder.glob(".*"):
            if name.fullmatch(path.name) and path.is_file() and _is_left(path):
                yield path


def _is_left(path: Path) -> bool:
    """Whether nobody writes it: a writer holds the lock of its temporary file until it is done."""
    try:
        with path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # its writer holds it, or has just finished
        return False
    return True
