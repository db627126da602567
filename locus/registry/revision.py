"""The revision of a local model: its content."""

import hashlib
from pathlib import Path

_BLOCK = 1 << 16
_WHOLE_FILE = 1 << 26


def folder_of(text: str, parent: Path | None = None) -> Path | None:
    """The folder that a text names, taken from ``parent`` if relative; None if there is none."""
    try:
        folder = Path(text).expanduser()
        folder = folder if parent is None else parent / folder
        return folder.resolve() if folder.is_dir() else None
    except (OSError, RuntimeError, ValueError):  # too long, an unknown ~user, a zero byte
        return None


def folder_revision(folder: Path) -> str:
    """A hash of a model folder's content, quick for large weights.

    Files up to 64 MiB are hashed whole; of a larger one the size and 64 blocks spread evenly,
    which a fine-tune changes as surely as it changes the weights.
    """
    digest = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.relative_to(folder).as_posix()}\0{size}\0".encode())
        with file.open("rb") as stream:
            if size <= _WHOLE_FILE:
                digest.update(stream.read())
                continue
            for i in range(64):
                stream.seek((size - _BLOCK) * i // 63)
                digest.update(stream.read(_BLOCK))
    return digest.hexdigest()[:40]
