"""Parts: immutable Parquet files of scores, named by what was asked, written whole or not."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from locus import frames
from locus.durable import whole_file


def part_name(
    model: str, revision: str, settings: Mapping[str, Any], query_ids: Sequence[str]
) -> str:
    """File name of the part that answers exactly these queries under exactly these settings."""
    key = json.dumps([model, revision, dict(settings), sorted(query_ids)], sort_keys=True)
    return hashlib.sha256(key.encode()).hexdigest()[:32] + ".parquet"


def write_part(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write a part, whole and durable or not at all; its folder is made if it isn't there."""
    frame = pl.DataFrame(rows, schema=frames.SCORES, orient="row")
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as stream:
        frame.write_parquet(stream)
