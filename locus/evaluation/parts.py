"""Parts: immutable Parquet files of scores, named by what was asked, written whole or not."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from locus import frames


def part_name(
    model: str, revision: str, settings: Mapping[str, Any], query_ids: Sequence[str]
) -> str:
    """File name of the part that answers exactly these queries under exactly these settings."""
    key = json.dumps([model, revision, dict(settings), sorted(query_ids)], sort_keys=True)
    return hashlib.sha256(key.encode()).hexdigest()[:32] + ".parquet"


def write_part(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write a part: temporary file, fsync, rename, fsync of the folder.

    A reader sees the whole part or none; a process killed here leaves a dot file at most.
    """
    frame = pl.DataFrame(rows, schema=frames.SCORES, orient="row")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    try:
        with os.fdopen(handle, "wb") as stream:
            frame.write_parquet(stream)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        Path(temporary).unlink(missing_ok=True)
