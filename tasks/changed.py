"""Whose scores changed: digests of all models' current scores, most of them from memory.

Which answers are the current ones takes sorting every answer there is, and that was most of the
work of a night with little new. Rows of answers and queries never change, and answers come in
parts: so each model's digest is remembered, with a mark of the parts and queries that were there by
then. As long as these are there as they were, only models in later parts can have new answers, and
those with a new revision other current ones. The memory is a file that may be lost: then every
digest is computed once more.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from locus.durable import whole_file
from warehouse.sql import query
from warehouse.store import Warehouse

log = logging.getLogger("locus.pipeline")

DIGESTS = "digests.json"
"""Name of the memory under the pipeline's home."""

# Beyond so many models one pass over all scores is quicker than picking theirs.
_FEW = 100

# XOR alone would not see two equal rows, so they are counted as well. Rows that came or went other
# than in parts, by somebody's own SQL, show in the last number.
_STATE = """
SELECT
    $definition::VARCHAR,
    version(),
    (
        SELECT concat_ws('-', count(*), bit_xor(hash(part_sha256, run_id, n_rows)))
        FROM score_part WHERE merged_at <= $until::TIMESTAMPTZ
    ),
    (
        SELECT concat_ws('-', count(*), bit_xor(hash(query_id, split)))
        FROM query WHERE added_at <= $until::TIMESTAMPTZ
    ),
    (SELECT count(*) FROM score) - CAST((
        SELECT coalesce(sum(n_rows), 0)
        FROM score_part AS p JOIN evaluation_run AS r ON r.run_id = p.run_id
        WHERE r.kind <> 'canary'
    ) AS BIGINT)
"""
_NEWEST = """
SELECT max(written_at) FROM (
    SELECT max(merged_at) AS written_at FROM score_part UNION ALL SELECT max(added_at) FROM query
)
"""
_REVISIONS = """
SELECT model_id, CAST(bit_xor(hash(revision, seen_at)) AS VARCHAR)
FROM model_revision GROUP BY model_id
"""
_LATER_RUNS = "SELECT DISTINCT run_id FROM score_part WHERE merged_at > ?"
_MODELS_OF = "SELECT DISTINCT model_id FROM score WHERE list_contains(?::VARCHAR[], run_id)"


class Digest(NamedTuple):
    """A model's scores in short.

    Attributes:
        model_id: the model.
        revision: the newest behind its current scores.
        n_scores: how many there are.
        digest: of all of them.
    """

    model_id: str
    revision: str
    n_scores: int
    digest: str


@dataclass(frozen=True)
class _Memory:
    """What was there when digests were computed, and the digests.

    Attributes:
        until: time of the newest part or query of then.
        state: what `_STATE` said of that time.
        models: mark of a model's revisions, and its digest.
    """

    until: datetime
    state: list[Any]
    models: dict[str, tuple[str | None, Digest]]


def current_digests(warehouse: Warehouse, memory: Path) -> list[Digest]:
    """What `warehouse.scores.Scores.scores_digest` says, computed for changed models only.

    Args:
        warehouse: open.
        memory: file of digests; written where something is new.

    Returns:
        A digest of each model with training scores, ordered by model.
    """
    definition = query("scores_digest")
    # Another schema may take other answers for current ones.
    name = f"{hashlib.sha256(definition.encode()).hexdigest()[:12]}-{warehouse.schema_version()}"
    newest = warehouse.rows(_NEWEST)[0][0]
    if newest is None:
        return []
    revisions: dict[str, str] = dict(warehouse.rows(_REVISIONS))
    before = _remembered(memory)
    models: dict[str, tuple[str | None, Digest]] = {}
    changed: set[str] | None = None
    if before and before.state == _state(warehouse, name, before.until):
        runs = [run for (run,) in warehouse.rows(_LATER_RUNS, [before.until])]
        changed = {model for (model,) in warehouse.rows(_MODELS_OF, [runs])} if runs else set()
        models = before.models
        changed |= {model for model, (mark, _) in models.items() if mark != revisions.get(model)}
        if not changed and before.until == newest:
            return [digest for _, digest in models.values()]
    found = _digests(warehouse, definition, changed)
    models = {model: one for model, one in models.items() if model not in (changed or ())}
    models |= {one.model_id: (revisions.get(one.model_id), one) for one in found}
    models = dict(sorted(models.items()))
    _remember(memory, _Memory(newest, _state(warehouse, name, newest), models))
    return [digest for _, digest in models.values()]


def _state(warehouse: Warehouse, definition: str, until: datetime) -> list[Any]:
    (state,) = warehouse.rows(_STATE, {"definition": definition, "until": until})
    return list(state)


def _digests(warehouse: Warehouse, definition: str, models: set[str] | None) -> list[Digest]:
    """Those of some models, or of all."""
    if models is None or len(models) > _FEW:
        rows = warehouse.rows(definition)
        return [Digest(*row) for row in rows if models is None or row[0] in models]
    if not models:
        return []
    # A plain condition on the model reaches the rows before they are sorted; a join does not.
    some = f"SELECT * FROM ({definition}) WHERE list_contains($models::VARCHAR[], model_id)"  # noqa: S608
    return [Digest(*row) for row in warehouse.rows(some, {"models": sorted(models)})]


def _remembered(memory: Path) -> _Memory | None:
    """What the file says; None where it is not there or can't be used."""
    try:
        found = json.loads(memory.read_bytes())
        if isinstance(found, list):  # of an earlier version
            return None
        models = {
            name: (mark, Digest(name, *digest)) for name, (mark, *digest) in found["models"].items()
        }
        return _Memory(datetime.fromisoformat(found["until"]), found["state"], models)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.warning("%s can't be used (%s): every digest is computed anew", memory, error)
        return None


def _remember(memory: Path, new: _Memory) -> None:
    content: Mapping[str, Any] = {
        "until": new.until.isoformat(),
        "state": new.state,
        "models": {name: (mark, *digest[1:]) for name, (mark, digest) in new.models.items()},
    }
    with whole_file(memory) as stream:
        stream.write(json.dumps(content).encode())
