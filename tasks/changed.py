"""Whose scores changed: digests of all models' current scores, most of them from memory.

Which answers are the current ones takes sorting every answer there is, and that was most of the
work of a night with little new. So each model's digest is remembered with a mark of all that it
follows from: the model's rows, its revisions, the splits of queries. A mark takes one pass and no
sorting. The memory is a file that may be lost: then every digest is computed once more.
"""

import hashlib
import json
import logging
from pathlib import Path

import polars as pl

from locus.durable import whole_file
from warehouse.sql import query
from warehouse.store import Warehouse

log = logging.getLogger("locus.pipeline")

DIGESTS = "digests.json"
"""Name of the memory under the pipeline's home."""

# Beyond so many models one pass over all scores is quicker than picking theirs.
_FEW = 100

# Rows are only added, and XOR alone would not see two equal ones: so they are counted as well.
_MARKS = """
SELECT s.model_id,
    concat_ws('-', $definition::VARCHAR, version(), any_value(r.revisions), count(*),
        bit_xor(hash(s.run_id, s.query_id, q.split, s.revision, s.status, s.score, s.metric,
            s.filter, s.scored_at))) AS mark
FROM score AS s
LEFT JOIN query AS q ON q.query_id = s.query_id
LEFT JOIN (
    SELECT model_id, bit_xor(hash(revision, seen_at)) AS revisions
    FROM model_revision GROUP BY model_id
) AS r ON r.model_id = s.model_id
GROUP BY s.model_id
ORDER BY s.model_id
"""
_SCHEMA = pl.Schema(
    {
        "model_id": pl.String,
        "mark": pl.String,
        "revision": pl.String,
        "n_scores": pl.Int64,
        "digest": pl.String,
    }
)


def current_digests(warehouse: Warehouse, memory: Path) -> pl.DataFrame:
    """What `warehouse.scores.Scores.scores_digest` says, computed for changed models only.

    Args:
        warehouse: open.
        memory: file of digests; written where something is new.

    Returns:
        ``model_id``, ``revision``, ``n_scores``, ``digest``, ordered by model.
    """
    definition = query("scores_digest")
    # Another schema may take other answers for current ones.
    version = f"{hashlib.sha256(definition.encode()).hexdigest()[:12]}-{warehouse.schema_version()}"
    marks = warehouse.read(_MARKS, {"definition": version})
    known = _remembered(memory).join(marks, on=["model_id", "mark"], how="semi")
    new = marks.join(known, on="model_id", how="anti")
    if not new.is_empty():
        digests = _digests(warehouse, definition, new["model_id"].to_list())
        # A model without a training score has no digest, which is remembered as well.
        found = new.join(digests, on="model_id", how="left")
        known = pl.concat([known, found.select(known.columns).cast(_SCHEMA)])
        with whole_file(memory) as stream:
            stream.write(known.write_json().encode())
    return known.filter(pl.col("digest").is_not_null()).drop("mark").sort("model_id")


def _digests(warehouse: Warehouse, definition: str, models: list[str]) -> pl.DataFrame:
    if len(models) > _FEW:
        return warehouse.scores.scores_digest()
    # A plain condition on the model reaches the rows before they are sorted; a join does not.
    return warehouse.read(
        f"SELECT * FROM ({definition}) WHERE list_contains($models::VARCHAR[], model_id)",  # noqa: S608
        {"models": models},
    )


def _remembered(memory: Path) -> pl.DataFrame:
    """Models, marks and digests of the file; none where it is not there or can't be used."""
    nothing = pl.DataFrame(schema=_SCHEMA)
    if not memory.exists():
        return nothing
    try:
        return pl.DataFrame(json.loads(memory.read_bytes()), schema=_SCHEMA, orient="row")
    except (pl.exceptions.PolarsError, OSError, ValueError, TypeError) as error:
        log.warning("%s can't be used (%s): every digest is computed anew", memory, error)
        return nothing
