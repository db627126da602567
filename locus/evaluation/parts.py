"""Parts: immutable Parquet files of scores, named by what was asked, written whole or not."""

import errno
import hashlib
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from locus import frames
from locus.durable import remove_leftovers, whole_file

# The disk, or the user's share of it, is full.
_FULL = {errno.ENOSPC, errno.EDQUOT}


class PartNotWrittenError(RuntimeError):
    """A part could not be written; nothing of it is left, and parts before it are untouched.

    Attributes:
        path: the part.
        reason: what the operating system says, such as ``No space left on device``.
        free_bytes: room on the folder's disk if that is what lacks; None otherwise.
    """

    def __init__(self, path: Path, error: OSError) -> None:
        self.path = path
        self.reason = error.strerror or str(error)
        self.free_bytes = _free_bytes(path.parent) if error.errno in _FULL else None
        room = "" if self.free_bytes is None else f" ({self.free_bytes} bytes free)"
        if error.errno in _FULL:
            step = "make room there"
        elif error.errno == errno.EFBIG:
            step = "raise the limit on the size of files (ulimit -f)"
        else:
            step = "check that folder, its disk and its rights"
        super().__init__(
            f"part {path.name} can't be written to {path.parent}: {self.reason}{room}; {step} and "
            "run again"
        )


def part_name(
    model: str, revision: str, settings: Mapping[str, Any], query_ids: Sequence[str]
) -> str:
    """File name of the part that answers exactly these queries under exactly these settings."""
    key = json.dumps([model, revision, dict(settings), sorted(query_ids)], sort_keys=True)
    return hashlib.sha256(key.encode()).hexdigest()[:32] + ".parquet"


def write_part(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write a part, whole and durable or not at all; its folder is made if it isn't there.

    What killed writers of the same part left behind is removed first.

    Raises:
        PartNotWrittenError: the folder or file can't be written, such as on a full disk.
    """
    frame = pl.DataFrame(rows, schema=frames.SCORES, orient="row")
    # Not straight into the file: a full disk would be told of as a malformed table. With checksums,
    # since an answer that a disk has changed would count like any other.
    content = io.BytesIO()
    pq.write_table(frame.to_arrow(), content, compression="zstd", write_page_checksum=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        with whole_file(path) as stream:
            stream.write(content.getbuffer())
    except OSError as error:
        raise PartNotWrittenError(path, error) from error


def _free_bytes(folder: Path) -> int | None:
    """Room for files on the disk of a folder, or of the folder it would be made in."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
