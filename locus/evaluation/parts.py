"""Parts: immutable Parquet files of scores, named by what was asked, written whole or not."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

# One row per asked query; the warehouse's contract for scores (docs/warehouse.md).
SCHEMA: dict[str, pl.DataType] = {
    "model_id": pl.String(),
    "revision": pl.String(),
    "query_id": pl.String(),
    "status": pl.String(),
    "score": pl.Float64(),
    "metric": pl.String(),
    "filter": pl.String(),
    "metrics": pl.String(),
    "response": pl.String(),
    "latency_ms": pl.Float64(),
    "tokens_in": pl.Int64(),
    "tokens_out": pl.Int64(),
    "cost_usd": pl.Float64(),
    "doc_hash": pl.String(),
    "prompt_hash": pl.String(),
    "target_hash": pl.String(),
    "scored_at": pl.Datetime("us", "UTC"),
}


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
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
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
