"""The protocols: what is trained on, who is placed from how many scores, and what is asked then.

P1 is the paper's table: every model of the pool has the same budget of training scores, and unseen
queries are predicted. P2 is onboarding: the method learns from the whole pool, then held-out models
are placed from few scores each, and unseen queries are predicted.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from locus.bank import Array, Bank, Method
from locus.benchmark.data import BenchmarkData
from locus.benchmark.metrics import measures

P1_BUDGETS = (64, 256, 512, 0)  # 0: all training queries
P2_BUDGETS = (4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Cell:
    """One figure to be measured: a method under a protocol, a budget and a seed."""

    protocol: str
    method: str
    budget: int
    seed: int

    @property
    def key(self) -> str:
        """Its file name."""
        return f"{self.protocol}-{self.method}-{self.budget}-{self.seed}"


def some(values_BQ: Array, budget: int, seed: int) -> Array:
    """Keep ``budget`` random scores of each model (0 keeps all); the same for every method."""
    if not budget:
        return values_BQ
    rng = np.random.default_rng([seed, budget])
    kept = np.full_like(values_BQ, np.nan)
    for row, values in enumerate(values_BQ):
        chosen = rng.permutation(np.flatnonzero(~np.isnan(values)))[:budget]
        kept[row, chosen] = values[chosen]
    return kept


Row = dict[str, str | int | float]


def run_cells(
    data: BenchmarkData, make: Callable[[], Method], cells: list[Cell]
) -> Iterator[tuple[Cell, Row]]:
    """Measure cells of one method; in P2 one fit per seed serves all budgets.

    Yields:
        Each cell with its measures, labels used and seconds taken.
    """
    fitted: dict[int, tuple[Method, float]] = {}
    for cell in sorted(cells, key=lambda c: (c.protocol, c.seed, c.budget)):
        bank = data.bank()
        if cell.protocol == "P1":
            scores = some(data.pool["train"], cell.budget, cell.seed)
            bank = replace(bank, values_MQ=scores)
            method, fit_s = _fit(make, bank, cell.seed)
            answers = data.pool["test"]
        else:
            if cell.seed not in fitted:
                fitted[cell.seed] = _fit(make, bank, cell.seed)
            method, fit_s = fitted[cell.seed]
            scores = some(data.held["train"], cell.budget, cell.seed)
            answers = data.held["test"]
        started = time.perf_counter()
        predicted = method.predict(method.place(scores), data.queries["test"])
        seconds = time.perf_counter() - started
        yield (
            cell,
            {
                "protocol": cell.protocol,
                "method": cell.method,
                "budget": cell.budget,
                "seed": cell.seed,
                **measures(predicted, answers),
                "labels_learned": bank.n_labels,
                "labels_placed": int((~np.isnan(scores)).sum()),
                "fit_s": fit_s,
                "predict_s": seconds,
            },
        )


def _fit(make: Callable[[], Method], bank: Bank, seed: int) -> tuple[Method, float]:
    method = make()
    started = time.perf_counter()
    method.fit(bank, seed)
    return method, time.perf_counter() - started
