"""A small warehouse whose every number can be checked by hand.

Models: a/alpha (revisions a1, then a2), b/beta, c/gamma (imported), d/delta (never asked).
Current scores with status ok:

            arith                    geo
            q1    q2    q3   q4     q5     q6
a/alpha     0     0     1    1      error  0
b/beta      1     1     0    0.5    1
c/gamma     0     0                        1
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import HealthCheck

from warehouse import contracts
from warehouse.store import Warehouse

T0 = datetime(2026, 1, 1, tzinfo=UTC)


# Examples share one warehouse on purpose; `rolled_back` gives each a clean one.
SHARED = [HealthCheck.function_scoped_fixture]


class _RollBackError(Exception):
    pass


@contextmanager
def rolled_back(w: Warehouse) -> Iterator[None]:
    """Undo at the end whatever is written inside."""
    with suppress(_RollBackError), w.transaction():
        yield
        raise _RollBackError


def hours(n: float) -> datetime:
    return T0 + timedelta(hours=n)


def score_row(
    model: str, revision: str, query: str, score: float | None, **more: Any
) -> dict[str, Any]:
    return {
        "model_id": model,
        "revision": revision,
        "query_id": query,
        "status": "error" if score is None else "ok",
        "score": score,
        "metric": "acc",
        "scored_at": T0,
    } | more


def scores(*rows: dict[str, Any]) -> pl.DataFrame:
    return contracts.build(contracts.ScoreFrame, rows)


def models(*ids: str, source: str = "registry") -> pl.DataFrame:
    return contracts.build(
        contracts.ModelFrame, [{"model_id": i, "org": i[0], "source": source} for i in ids]
    )


def revisions(*rows: tuple[str, str, datetime]) -> pl.DataFrame:
    return contracts.build(
        contracts.RevisionFrame,
        [{"model_id": m, "revision": r, "backend": "hf", "seen_at": t} for m, r, t in rows],
    )


def tasks() -> pl.DataFrame:
    return contracts.build(
        contracts.TaskFrame,
        [{"task": t, "task_version": "1", "source": "matrix"} for t in ("arith", "geo")],
    )


QUERIES = [
    ("q1", "arith", "train"),
    ("q2", "arith", "train"),
    ("q3", "arith", "val"),
    ("q4", "arith", "test"),
    ("q5", "geo", "train"),
    ("q6", "geo", "test"),
]


def queries() -> pl.DataFrame:
    return contracts.build(
        contracts.QueryFrame,
        [
            {
                "query_id": q,
                "task": t,
                "task_version": "1",
                "split": s,
                "text": f"text of {q}",
                "choices": ["yes", "no"],
                "target": "yes",
                "doc": f'{{"id": "{q}"}}',
            }
            for q, t, s in QUERIES
        ],
    )


def write_part(folder: Path, name: str, frame: pl.DataFrame) -> Path:
    path = folder / f"{name}.parquet"
    frame.write_parquet(path)
    return path


def start(w: Warehouse, run_id: str, model: str | None, revision: str | None, n: int = 6) -> None:
    w.scores.start_run(run_id, "evaluation", model, revision, {"seed": 1}, {"x": "1"}, "abc", n)


def evaluate(w: Warehouse, folder: Path, run_id: str, frame: pl.DataFrame) -> None:
    first = frame.row(0, named=True)
    start(w, run_id, first["model_id"], first["revision"], frame.height)
    w.scores.merge_part(write_part(folder, run_id, frame), run_id)
    w.scores.finish_run(run_id, "finished")


def vectors(frame: dict[str, list[float]], **more: Any) -> pl.DataFrame:
    return contracts.build(
        contracts.EmbeddingFrame,
        [
            {
                "model_id": m,
                "revision": "r",
                "vector": v,
                "dim": len(v),
                "n_scores": 3,
                "scores_digest": "d",
            }
            | more
            for m, v in frame.items()
        ],
    )


def fill_catalogue(w: Warehouse) -> None:
    w.catalogue.add_models(models("a/alpha", "b/beta", "d/delta"))
    w.catalogue.add_models(models("c/gamma", source="import"))
    w.catalogue.add_revisions(
        revisions(
            ("a/alpha", "a1", hours(0)),
            ("a/alpha", "a2", hours(24)),
            ("b/beta", "b1", hours(0)),
            ("c/gamma", "import", hours(0)),
        )
    )
    w.catalogue.add_tasks(tasks())
    w.catalogue.add_queries(queries())


def fill(w: Warehouse, folder: Path) -> None:
    """Everything of the module's docstring, plus costs, embeddings, predictions, a snapshot."""
    fill_catalogue(w)
    call = {"latency_ms": 100.0, "tokens_in": 10, "tokens_out": 2, "cost_usd": 0.001}
    answers = [("q1", 1.0), ("q2", 0.0), ("q3", 1.0), ("q4", 1.0), ("q6", 0.0)]
    evaluate(
        w,
        folder,
        "run-a1",
        scores(
            *[score_row("a/alpha", "a1", q, s, scored_at=hours(48), **call) for q, s in answers],
            score_row("a/alpha", "a1", "q5", None, scored_at=hours(48), latency_ms=500.0),
        ),
    )
    # Scored earlier than the rows of a1, but the revision is newer; its error hides nothing.
    slow = {"scored_at": hours(30), "latency_ms": 200.0}
    evaluate(
        w,
        folder,
        "run-a2",
        scores(
            score_row("a/alpha", "a2", "q1", 0.0, tokens_in=10, tokens_out=2, **slow),
            score_row("a/alpha", "a2", "q2", None, **slow),
        ),
    )
    answers = [("q1", 1.0), ("q2", 1.0), ("q3", 0.0), ("q4", 0.5), ("q5", 1.0)]
    evaluate(
        w,
        folder,
        "run-b",
        scores(*[score_row("b/beta", "b1", q, s, latency_ms=50.0) for q, s in answers]),
    )
    answers = [("q1", 0.0), ("q2", 0.0), ("q6", 1.0)]
    evaluate(
        w, folder, "run-c", scores(*[score_row("c/gamma", "import", q, s) for q, s in answers])
    )
    w.scores.start_run("run-z", "evaluation", "b/beta", "b1", {}, {}, None, 6)
    w.scores.finish_run("run-z", "failed", "no answer from the server")
    w.checkpoints.add({"checkpoint_id": "old", "encoder": "mini", "created_at": hours(50)})
    w.vectors.replace_embeddings("old", vectors({"a/alpha": [1.0], "b/beta": [1.0]}))
    w.checkpoints.add(
        {
            "checkpoint_id": "new",
            "parent": "old",
            "encoder": "mini",
            "created_at": hours(60),
            "config": {"width": 2},
            "metrics": {"auc": 0.7},
            "n_models": 3,
        }
    )
    w.vectors.replace_embeddings(
        "new", vectors({"a/alpha": [1.0, 0.0], "b/beta": [0.0, 2.0], "c/gamma": [1.0, 1.0]})
    )
    w.vectors.replace_predictions(
        "new",
        contracts.build(
            contracts.PredictionFrame,
            [
                {"model_id": "a/alpha", "query_id": "q4", "p_correct": 0.9},
                {"model_id": "b/beta", "query_id": "q4", "p_correct": 0.91},
                {"model_id": "a/alpha", "query_id": "q6", "p_correct": 0.2},
                {"model_id": "a/alpha", "query_id": "q1", "p_correct": 0.2},
            ],
        ),
    )
    w.snapshots.add(
        {
            "snapshot_id": "s1",
            "checkpoint_id": "new",
            "manifest_sha256": "00",
            "n_models": 3,
            "n_queries": 6,
            "n_scores": 13,
        }
    )
    w.audit("publish", "s1", {"by": "test"})
