"""Gates: the facts of a built snapshot and of its parent, the verdict, and whom it is told.

`gatekeeper` makes the function that `tasks.publish` calls between build and switch.
"""

import json
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from locus.bank import Array
from locus.gates.facts import Asked, Beside, GateFailedError, GateResult, Holds, Watched
from locus.gates.rules import check
from locus.gates.settings import GATES, UnknownGateError
from locus.matrix import ScoreMatrix
from locus.routing import predictor as predictors
from locus.snapshots import Snapshot
from tasks.artifacts import leave
from tasks.evaluate import EVALUATION
from tasks.events import GATE_FAILED, post_event
from tasks.features import query_features
from tasks.markdown import plain
from tasks.notify import notify
from tasks.publish import blocked_folder, parent_snapshot, reference_sample
from tasks.settings import Settings
from warehouse.console import run_sql
from warehouse.store import Warehouse

log = logging.getLogger("locus.pipeline")

AUDIT = "gates"
_COPY = "warehouse.duckdb"
# A map of thousands of models takes a while to count.
_TIMEOUT_S = 1800.0

_ANSWERS = """
SELECT l.model_id, q.task, count(*) AS n
FROM latest_score AS l JOIN query AS q ON q.query_id = l.query_id
WHERE l.status = 'ok'
GROUP BY l.model_id, q.task
"""

_HELD_OUT = """
SELECT l.model_id, l.query_id, l.score
FROM latest_score AS l JOIN query AS q ON q.query_id = l.query_id
WHERE l.status = 'ok' AND q.split = 'test'
"""

# A query that was asked again and got an answer has one. Queries that a failed run never came to
# ended without an answer as well.
_ASKED = """
WITH run AS (
    SELECT run_id, model_id, status, n_planned, n_ok + n_other AS n_rows
    FROM evaluation_run
    WHERE kind = '{kind}' AND started_at >= TIMESTAMPTZ '{since}'
),
asked AS (
    SELECT s.model_id, s.query_id, bool_or(s.status = 'ok') AS ok
    FROM score AS s JOIN run AS r ON r.run_id = s.run_id
    GROUP BY s.model_id, s.query_id
),
counted AS (
    SELECT model_id, count(*) AS n, count(*) FILTER (WHERE NOT ok) AS without
    FROM asked GROUP BY model_id
    UNION ALL
    SELECT model_id, greatest(n_planned - n_rows, 0), greatest(n_planned - n_rows, 0)
    FROM run WHERE status = 'failed' AND n_planned IS NOT NULL
)
SELECT model_id, CAST(sum(n) AS BIGINT) AS n, CAST(sum(without) AS BIGINT) AS without
FROM counted GROUP BY model_id ORDER BY model_id
"""

_AUDITED = "SELECT subject, detail FROM audit_log WHERE action = 'gates' ORDER BY logged_at DESC"


@dataclass(frozen=True)
class Canaries:
    """Models whose canaries this run asked.

    Attributes:
        watched: ids of all of them.
        drifted: of those that answer otherwise than they did.
    """

    watched: Collection[str] = ()
    drifted: Collection[str] = ()


def gatekeeper(
    settings: Settings,
    *,
    since: datetime | None = None,
    canaries: Canaries | None = None,
    accept: Collection[str] = (),
) -> Callable[[Snapshot], None]:
    """Make the function that lets a built snapshot through or raises `GateFailedError`.

    Args:
        settings: the pipeline's settings.
        since: when this run began (UTC): what was asked after it is this run's; by default, all
            that was asked since the parent.
        canaries: what came of this run's canaries.
        accept: gates whose failure a person accepts, this once.

    Raises:
        UnknownGateError: ``accept`` names something else; before anything is built.
    """
    if unknown := sorted(set(accept) - set(GATES)):
        raise UnknownGateError(
            f"{', '.join(map(repr, unknown))} can't be accepted; gates are: {', '.join(GATES)}"
        )
    asked_canaries = canaries or Canaries()

    def keep(snapshot: Snapshot) -> None:
        results, drifted = judge(
            settings, snapshot, since=since, canaries=asked_canaries, accept=accept
        )
        blocked = any(one.blocks for one in results)
        detail = {"results": [one.to_dict() for one in results], "drifted": drifted}
        with Warehouse.open(settings.warehouse) as warehouse:
            # The next candidate asks its parent's entry which models had drifted already.
            subject = blocked_folder(snapshot).name if blocked else snapshot.snapshot_id
            warehouse.audit(AUDIT, subject, detail)
        _show(results)
        if blocked:
            error = GateFailedError(results, snapshot.snapshot_id, blocked_folder(snapshot))
            _tell(settings, error)
            raise error

    return keep


def judge(
    settings: Settings,
    snapshot: Snapshot,
    *,
    since: datetime | None = None,
    canaries: Canaries | None = None,
    accept: Collection[str] = (),
) -> tuple[list[GateResult], list[str]]:
    """Collect the facts and ask every gate.

    Args:
        settings: the pipeline's settings.
        snapshot: the candidate.
        since: when this run began (UTC).
        canaries: what came of this run's canaries.
        accept: gates whose failure a person accepts.

    Returns:
        What each gate says; and the models known to have changed behind their address.
    """
    parent = parent_snapshot(settings.published)
    known = _known_drifted(snapshot, parent)
    now = canaries or Canaries()
    watched = Watched(len(now.watched), sorted(set(now.drifted) - known))
    if since is None and parent is not None:
        since = datetime.fromisoformat(parent.manifest["created_at"])
    candidate = _holds(snapshot)
    results = check(
        candidate,
        _holds(parent) if parent else None,
        _beside(settings, snapshot, parent) if parent else None,
        settings.gates,
        asked=_asked(snapshot, since),
        watched=watched,
        accept=accept,
    )
    return results, sorted((known - set(now.watched)) | set(now.drifted))


def _holds(snapshot: Snapshot) -> Holds:
    """What a snapshot holds, from its own files."""
    models = pl.read_parquet(
        snapshot.folder / "similarity" / "embeddings.parquet", columns=["model_id"]
    )["model_id"]
    answers = run_sql(snapshot.folder / _COPY, _ANSWERS, timeout_s=_TIMEOUT_S)
    routed = [row for row in snapshot.manifest["routing_quality"] if row["method"] == "routed"]
    return Holds(
        snapshot.snapshot_id,
        str(snapshot.manifest["lineage"]["checkpoint_id"]),
        frozenset(models),
        answers.filter(pl.col("model_id").is_in(models.implode())),
        routed[0] if routed else None,
    )


def _asked(snapshot: Snapshot, since: datetime | None) -> dict[str, Asked]:
    """This run's queries by model."""
    start = (since or datetime(1970, 1, 1, tzinfo=UTC)).astimezone(UTC)
    sql = _ASKED.format(kind=EVALUATION, since=start.isoformat())
    rows = run_sql(snapshot.folder / _COPY, sql, timeout_s=_TIMEOUT_S)
    return {model: Asked(n, without) for model, n, without in rows.iter_rows()}


def _known_drifted(snapshot: Snapshot, parent: Snapshot | None) -> set[str]:
    """Models that had changed already when the parent was published."""
    if parent is None:
        return set()
    audited = run_sql(snapshot.folder / _COPY, _AUDITED)
    mine = audited.filter(subject=parent.snapshot_id)
    return set(json.loads(mine["detail"][0])["drifted"]) if mine.height else set()


def _beside(settings: Settings, snapshot: Snapshot, parent: Snapshot) -> Beside | None:
    """Candidate and parent on the same reference queries; None where that can't be computed."""
    try:
        maps = [_Map.read(one) for one in (snapshot, parent)]
    except predictors.PredictorError as error:
        log.warning("gates: candidate and parent are compared by their figures only: %s", error)
        return None
    with Warehouse.open(settings.warehouse) as warehouse:
        bank = warehouse.catalogue.queries(columns=["query_id", "task", "split"])
        wanted = reference_sample(bank, settings.reference_queries)["query_id"].to_list()
        identities = [one.predictor.encoder for one in maps]
        features = {i: query_features(warehouse, i, wanted) for i in dict.fromkeys(identities)}
    queries = sorted(set.intersection(*(set(ids) for ids, _ in features.values())))
    if not queries:
        log.warning("gates: no reference query has vectors of both encoders: %s", identities)
        return None
    (new, p_new), (old, p_old) = (
        (one, one.probabilities(*features[one.predictor.encoder], queries)) for one in maps
    )
    both = [model for model in new.models if model in old.row]
    if not both:
        return None
    in_new, in_old = [new.row[m] for m in both], [old.row[m] for m in both]
    moved = np.sqrt(((p_new[:, in_new] - p_old[:, in_old]) ** 2).mean(axis=0))
    changed = p_new[:, in_new].argmax(axis=1) != p_old[:, in_old].argmax(axis=1)
    right, right_parent = _right(snapshot, queries, new.models, p_new, in_new, p_old[:, in_old])
    return Beside(
        right,
        right_parent,
        dict(zip(both, moved.tolist(), strict=True)),
        dict(zip(both, old.unsure[in_old].tolist(), strict=True)),
        len(queries),
        int(changed.sum()),
    )


def _right(
    snapshot: Snapshot,
    queries: list[str],
    models: list[str],
    p_TM: Array,
    in_both: list[int],
    p_parent_TB: Array,
) -> tuple[Array, Array]:
    """Scores of the first choices of both, on held-out queries, by the candidate's answers.

    The candidate chooses among all its models, the parent among those that are in both: a good
    model that was taken out does not count against the candidate. Only models that have answered a
    query can be chosen for it, by either, and only queries with two such models count.
    """
    scores = run_sql(snapshot.folder / _COPY, _HELD_OUT, timeout_s=_TIMEOUT_S)
    wanted = pl.col("query_id").is_in(queries) & pl.col("model_id").is_in(models)
    y_TM = ScoreMatrix.from_frame(scores.filter(wanted), models, queries).values_MQ.T
    kept = (~np.isnan(y_TM[:, in_both])).sum(axis=1) >= 2
    y, y_both = y_TM[kept], y_TM[kept][:, in_both]
    return _chosen(p_TM[kept], y), _chosen(p_parent_TB[kept], y_both)


def _chosen(p: Array, y: Array) -> Array:
    """Score of the most probable model, of those that have answered."""
    if not len(y):
        return np.zeros(0, dtype=np.float32)
    best = np.where(np.isnan(y), -np.inf, p).argmax(axis=1)
    chosen: Array = y[np.arange(len(y)), best]
    return chosen


@dataclass(frozen=True)
class _Map:
    """Places and predictor of a snapshot."""

    models: list[str]
    row: Mapping[str, int]
    z_Md: Array
    unsure: Array
    predictor: predictors.Predictor

    @classmethod
    def read(cls, snapshot: Snapshot) -> "_Map":
        columns = ["model_id", "vector", "uncertainty"]
        path = snapshot.folder / "similarity" / "embeddings.parquet"
        frame = pl.read_parquet(path, columns=columns).sort("model_id")
        models = frame["model_id"].to_list()
        return cls(
            models,
            {model: row for row, model in enumerate(models)},
            np.asarray(frame["vector"].to_list(), dtype=np.float32),
            frame["uncertainty"].cast(pl.Float32).fill_null(float("nan")).to_numpy(),
            predictors.read(snapshot.folder / "routing" / "predictor", check=False),
        )

    def probabilities(self, ids: list[str], x_Nf: Array, queries: list[str]) -> Array:
        """P(correct) on these queries, whose features are rows of ``x_Nf``, [T, M]."""
        at = {query: row for row, query in enumerate(ids)}
        return self.predictor.probabilities(self.z_Md, x_Nf[[at[q] for q in queries]])


def _show(results: list[GateResult]) -> None:
    """Log every gate, and leave the table as an artifact of the run there is one of."""
    from prefect.artifacts import create_table_artifact

    for one in results:
        level = logging.INFO if one.passed else logging.ERROR if one.blocks else logging.WARNING
        log.log(level, "gate %s %s: %s", one.name, one.verdict, plain(one.reason))
    rows: list[dict[str, Any]] = [
        {
            "gate": one.name,
            "verdict": one.verdict,
            "value": None if one.value is None else round(one.value, 4),
            "limit": one.limit,
            "reason": plain(one.reason),
        }
        for one in results
    ]
    leave(
        create_table_artifact,
        key="gates",
        table=rows,
        description="May the snapshot be published?",
    )


def _tell(settings: Settings, error: GateFailedError) -> None:
    """An event for each gate that blocks, and one message to people."""
    for one in error.failed:
        post_event(
            settings,
            GATE_FAILED,
            f"locus.gate.{one.name}",
            {"gate": one.name, "reason": one.reason, "snapshot": error.snapshot_id},
        )
    names = ", ".join(one.name for one in error.failed)
    notify(settings.notify, "gate-failed", f"LOCUS: not published: {names}", str(error))
