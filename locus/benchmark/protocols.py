"""The protocols: what is learned from, who is placed from how many scores, and what is asked then.

P1 is the paper's table: every model of the pool has the same budget of training scores. P2 is
onboarding: the method learns from the pool's scores on 256 training queries, then held-out models
are placed from few scores each; in P2-all it learns from every training score of the pool. P3 is
scale: every training model there is, every held-out model placed. Everywhere unseen test queries
are predicted, and bank queries that the placed model has not answered.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from locus.bank import Array, Bank
from locus.benchmark.data import BenchmarkData, Models

P2_QUERIES = 256
HELD_LEAST = 3
"""Fewer held-out models than that rank nobody."""
BANK_MOST = 2000
"""Bank queries that are predicted at most, the same random ones for every method."""
STABILITY = (32, 128)
"""Budgets at which models are placed a second time, from a disjoint sample."""

ALL = 0
BUDGETS: dict[str, tuple[int, ...]] = {
    "P1": (64, 256, 512, ALL),
    "P2": (4, 8, 16, 32, 64, 128, 256),
    "P2-all": (4, 8, 16, 32, 64, 128, 256),
    "P3": (8, 32, 128),
}
QUICK_BUDGETS: dict[str, tuple[int, ...]] = {
    "P1": (256, ALL),
    "P2": (8, 32, 128, 256),
    "P2-all": (8, 32, 128, 256),
    "P3": (),
}


@dataclass(frozen=True)
class Cell:
    """One thing to be measured: a method under a protocol, a budget and a seed."""

    protocol: str
    method: str
    budget: int
    seed: int

    @property
    def key(self) -> str:
        """Its file name, without the method's settings."""
        return f"{self.protocol}-{self.method}-{self.budget}-{self.seed}"


@dataclass(frozen=True)
class Job:
    """Cells that share one fit."""

    protocol: str
    method: str
    seed: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Situation:
    """What one cell gives a method.

    Attributes:
        models: those that are placed.
        columns: training queries that the bank is made of, as positions in the split [n].
        scores_Bn: the scores that they are placed from.
        again_Bn: as many others, disjoint; None where the protocol has no second placement. A row
            of a model that has not so many is empty.
        bank_columns: columns of the bank that are to be predicted.
    """

    models: Models
    columns: NDArray[np.int64]
    scores_Bn: Array
    again_Bn: Array | None
    bank_columns: NDArray[np.int64]


def ladders(data: BenchmarkData, quick: bool) -> tuple[dict[str, list[int]], list[str]]:
    """The budgets of each protocol that this data can bear, and why others are left out."""
    ladder = {p: list(b) for p, b in (QUICK_BUDGETS if quick else BUDGETS).items()}
    notes = []
    n_train, n_held = data.n_train, len(data.held)
    learned = {"P1": n_train, "P2": min(P2_QUERIES, n_train), "P2-all": n_train, "P3": n_train}
    for protocol, budgets in ladder.items():
        over = [b for b in budgets if b > learned[protocol]]
        if over:
            notes.append(
                f"{protocol}: budgets {', '.join(map(str, over))} are left out, the method learns "
                f"from {learned[protocol]} queries"
            )
            ladder[protocol] = [b for b in budgets if b not in over]
    if n_held < HELD_LEAST:
        ladder["P2"] = ladder["P2-all"] = []
        notes.append(
            f"P2 and P2-all are left out: {n_held} held-out models, {HELD_LEAST} are needed"
        )
    elif n_train <= P2_QUERIES:
        ladder["P2-all"] = []
        notes.append(f"P2-all is left out: P2 has all {n_train} training queries already")
    if quick:
        notes.append("P3 is left out of a quick run")
    elif data.wide_pool is None or data.wide_held is None:
        ladder["P3"] = []
        notes.append("P3 is left out: the pool is all training models there are")
    return {p: b for p, b in ladder.items() if b}, notes


def plan_jobs(ladder: dict[str, list[int]], methods: Sequence[str], seeds: int) -> list[Job]:
    """All jobs, the first seed of everything first: a run that is stopped has the widest view."""
    jobs = []
    for seed in range(seeds):
        for protocol, budgets in ladder.items():
            # In P1 the bank itself depends on the budget: no fit is shared.
            groups = [[b] for b in budgets] if protocol == "P1" else [budgets]
            for method in methods:
                for group in groups:
                    cells = tuple(Cell(protocol, method, budget, seed) for budget in group)
                    jobs.append(Job(protocol, method, seed, cells))
    return jobs


def some(values_BQ: Array, budget: int, seed: int, part: int = 0) -> Array:
    """Keep ``budget`` random scores of each model (0 keeps all); the same for every method.

    ``part`` 1 keeps the next ``budget`` of the same random order, so that parts are disjoint.
    """
    if not budget:
        return values_BQ
    rng = np.random.default_rng([seed, budget])
    kept = np.full_like(values_BQ, np.nan)
    for row, values in enumerate(values_BQ):
        order = rng.permutation(np.flatnonzero(~np.isnan(values)))
        chosen = order[part * budget : (part + 1) * budget]
        kept[row, chosen] = values[chosen]
    return kept


def people(data: BenchmarkData, protocol: str) -> tuple[Models, Models]:
    """Who is learned from and who is placed.

    Raises:
        ValueError: P3 on data that has no more than a pool.
    """
    if protocol == "P1":
        return data.pool, data.pool
    if protocol == "P3":
        if data.wide_pool is None or data.wide_held is None:
            raise ValueError(f"{data.name} has no models beyond the pool: P3 can't be measured")
        return data.wide_pool, data.wide_held
    return data.pool, data.held


def columns_of(data: BenchmarkData, protocol: str, seed: int) -> NDArray[np.int64]:
    """Training queries that a method may learn from, as positions in the split, sorted."""
    if protocol != "P2" or data.n_train <= P2_QUERIES:
        return np.arange(data.n_train)
    rng = np.random.default_rng([seed, 2])
    return np.sort(rng.permutation(data.n_train)[:P2_QUERIES])


def bank_of(data: BenchmarkData, protocol: str, budget: int, seed: int) -> Bank:
    """Everything that a method may learn from."""
    learned, _ = people(data, protocol)
    columns = columns_of(data, protocol, seed)
    values = learned.scores["train"][:, columns]
    if protocol == "P1":
        values = some(values, budget, seed)
    train = data.queries["train"]
    return Bank(train.take(columns), values, data.queries["val"], learned.scores["val"])


def situation_of(data: BenchmarkData, cell: Cell) -> Situation:
    """Who is placed from what, and what of the bank is asked then."""
    _, placed = people(data, cell.protocol)
    columns = columns_of(data, cell.protocol, cell.seed)
    values = placed.scores["train"][:, columns]
    again = None
    if cell.protocol.startswith("P2") and cell.budget in STABILITY:
        again = some(values, cell.budget, cell.seed, part=1)
        short = (~np.isnan(again)).sum(axis=1) < cell.budget
        again[short] = np.nan
    asked = np.arange(len(columns))
    if len(asked) > BANK_MOST:
        rng = np.random.default_rng([cell.seed, 3])
        asked = np.sort(rng.permutation(len(columns))[:BANK_MOST])
    return Situation(placed, columns, some(values, cell.budget, cell.seed), again, asked)
