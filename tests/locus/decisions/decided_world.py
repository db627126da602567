"""A published map without files: models with a skill per task, placed by the real method."""

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from locus.bank import Array, Bank, Queries
from locus.decisions import PublishedMap
from locus.embedding.factors import FactorPlacement
from locus.embedding.posterior import weights_of

TASKS = ("x", "y", "z")
Floats = NDArray[np.float64]
Posterior = Callable[[Array], tuple[Floats, Floats]]


def scores(n_models: int, n_queries: int, seed: int = 0) -> Array:
    """0/1 scores: the skill of a model is one of three kinds, queries are of three tasks."""
    rng = np.random.default_rng(seed)
    task = np.arange(n_queries) % len(TASKS)
    skill = rng.normal(-0.3, 0.4, (n_models, len(TASKS)))
    skill[np.arange(n_models), np.arange(n_models) % len(TASKS)] += 2.5
    logit = skill[:, task] - rng.normal(0, 0.7, n_queries)
    return (rng.random(logit.shape) < 1 / (1 + np.exp(-logit))).astype(np.float32)


class World:
    """Scores, a map of them, and how it was placed; every fifth query is for test."""

    def __init__(self, values_MQ: Array) -> None:
        n, q = values_MQ.shape
        task = [TASKS[i % len(TASKS)] for i in range(q)]
        split = ["test" if i % 5 == 4 else "train" for i in range(q)]
        self.train = np.array([s == "train" for s in split])
        phi = np.eye(len(TASKS), dtype=np.float32)[[TASKS.index(t) for t in task]]
        queries = Queries(phi, tuple(task))
        bank = queries.take(np.flatnonzero(self.train))
        known = values_MQ[:, self.train]
        self.placement = FactorPlacement()
        self.placement.fit(Bank(bank, known, bank, known), seed=0)
        placed = self.placement.place(known)
        self.bank = [f"q{i:04}" for i in np.flatnonzero(self.train)]
        self.published = PublishedMap(
            "s1",
            pl.DataFrame(
                {
                    "model_id": [f"m{i:02}" for i in range(n)],
                    "params_b": [None if i == n - 1 else float(1 + i % 4) for i in range(n)],
                    "price_in_usd_per_mtok": [None if i == 0 else 0.5 + i % 4 for i in range(n)],
                    "price_out_usd_per_mtok": [1.0 if i == 1 else None for i in range(n)],
                    "n_scores": [int(k) for k in (~np.isnan(known)).sum(axis=1)],
                },
                schema_overrides={"price_out_usd_per_mtok": pl.Float64},
            ),
            self.placement.vectors(placed),
            None,
            pl.DataFrame(
                {"query_id": [f"q{i:04}" for i in range(q)], "task": task, "split": split}
            ),
            values_MQ,
            np.arange(q),
            self.placement.predict(placed, queries).T.astype(np.float64),
        )

    def place(self, values: Array) -> Array:
        """Public vectors."""
        return self.placement.vectors(self.placement.place(values))

    def posterior(self, values: Array) -> tuple[Floats, Floats]:
        """Means and covariances."""
        return weights_of(values, self.placement.items)
