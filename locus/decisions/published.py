"""A published map in memory: places, prices, predictions and observed scores.

Shape letters: M models, T reference queries, Q queries with scores, d of an embedding, u of a
packed covariance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from locus.bank import Array
from locus.names import hint
from locus.routing.router import prices

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class DecisionError(ValueError):
    """A question that this map can't answer; the message says why and what to do."""


@dataclass(frozen=True)
class PublishedMap:
    """What was published of M models.

    Attributes:
        snapshot_id: where it comes from.
        models: one row a model: model_id, params_b, price_in_usd_per_mtok,
            price_out_usd_per_mtok, n_scores (null where unknown).
        z_Md: their places.
        uncertainty_M: how unsure each place is, in units of P(correct); None where unknown.
        queries: Q queries: query_id, task, split.
        values_MQ: observed scores on them, NaN where not asked.
        reference_T: which of the queries there are predictions for, as rows of ``queries``.
        p_TM: predicted P(correct) on those.
    """

    snapshot_id: str
    models: pl.DataFrame
    z_Md: Array
    uncertainty_M: Array | None
    queries: pl.DataFrame
    values_MQ: Array
    reference_T: Ints
    p_TM: Floats

    def __post_init__(self) -> None:
        """Refuse parts that don't fit one another."""
        n, q, t = self.models.height, self.queries.height, len(self.reference_T)
        shapes = (self.z_Md.shape[0], self.values_MQ.shape, self.p_TM.shape)
        if shapes != (n, (n, q), (t, n)):
            raise ValueError(f"{shapes} don't fit {n} models, {q} queries and {t} predictions")

    @property
    def ids(self) -> list[str]:
        """Ids of the models, in order."""
        ids: list[str] = self.models["model_id"].to_list()
        return ids

    @property
    def tasks(self) -> list[str]:
        """Tasks of the queries, sorted."""
        return sorted(self.queries["task"].unique())

    @property
    def task_T(self) -> NDArray[np.object_]:
        """Task of each reference query."""
        return self._column("task")[self.reference_T]

    @property
    def task_Q(self) -> NDArray[np.object_]:
        """Task of each query."""
        return self._column("task")

    @property
    def test_T(self) -> NDArray[np.bool_]:
        """Which reference queries are test queries: nothing was learned from their scores."""
        return np.asarray(self._column("split")[self.reference_T] == "test", dtype=np.bool_)

    @property
    def observed_TM(self) -> Floats:
        """Observed scores on the reference queries, NaN where not asked."""
        return self.values_MQ[:, self.reference_T].T.astype(np.float64)

    @property
    def price_M(self) -> Floats:
        """See `locus.routing.router.prices`."""
        return prices(self.models)

    @property
    def params_M(self) -> Floats:
        """Billions of parameters, NaN where unknown."""
        return _floats(self.models["params_b"])

    def index(self, model_id: str) -> int:
        """Row of a model.

        Raises:
            DecisionError: it is not published; names models that are spelled alike.
        """
        ids = self.ids
        if model_id not in ids:
            raise DecisionError(
                f"{model_id!r} is not in snapshot {self.snapshot_id}: "
                + hint(model_id, ids, "`locus models list` shows them")
            )
        return ids.index(model_id)

    def pair(self, model_a: str, model_b: str) -> tuple[int, int]:
        """Rows of two different models.

        Raises:
            DecisionError: one is not published, or both are the same.
        """
        a, b = self.index(model_a), self.index(model_b)
        if a == b:
            raise DecisionError(f"{model_a!r} is named twice: give two different models")
        return a, b

    def check_task(self, task: str) -> None:
        """Refuse a task that the map has no query of.

        Raises:
            DecisionError: names tasks that are spelled alike, or all.
        """
        if task not in self.tasks:
            raise DecisionError(
                f"task {task!r} is not in snapshot {self.snapshot_id}: "
                + hint(task, self.tasks, f"there are {', '.join(self.tasks)}")
            )

    def name(self, rows: Sequence[int] | Ints) -> list[str]:
        """Ids of the models at these rows."""
        ids = self.ids
        return [ids[int(row)] for row in rows]

    def distances(self) -> Floats:
        """Euclidean distances between all places, [M, M]."""
        from scipy.spatial.distance import pdist, squareform

        return np.asarray(squareform(pdist(self.z_Md.astype(np.float64))))

    def distances_to(self, row: int) -> Floats:
        """Euclidean distances to one model, [M]."""
        apart: Floats = np.linalg.norm(
            self.z_Md.astype(np.float64) - self.z_Md[row].astype(np.float64), axis=1
        )
        return apart

    def accuracy(self, task: str | None = None, rows: NDArray[np.bool_] | None = None) -> Floats:
        """Mean observed score of each model, [M]; NaN where it was asked nothing.

        Args:
            task: only on queries of this task.
            rows: bool mask over the queries.
        """
        kept = np.ones(self.queries.height, dtype=bool) if rows is None else rows
        if task is not None:
            kept = kept & (self.task_Q == task)
        values = self.values_MQ[:, kept].astype(np.float64)
        asked = ~np.isnan(values)
        n = asked.sum(axis=1)
        mean = np.where(asked, values, 0).sum(axis=1) / np.maximum(n, 1)
        return np.asarray(np.where(n > 0, mean, np.nan))

    def _column(self, name: str) -> NDArray[np.object_]:
        return np.array(self.queries[name].to_list(), dtype=object)


def known(value: float | np.floating[Any]) -> float | None:
    """A plain float, None where it is NaN."""
    return None if np.isnan(value) else float(value)


def _floats(column: pl.Series) -> Floats:
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy().copy()
