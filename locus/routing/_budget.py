"""The budget of `locus.routing.policy`: most expected right answers for a sum of money."""

import heapq

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

# Halvings of the price of money: from the largest price worth a thought to its last bits.
_HALVINGS = 100


def spend(p: Floats, cost: Floats, open_TM: Bools, budget: float) -> tuple[Ints, float, float]:
    """Multiple-choice knapsack: for each query one model or none, within the budget.

    Lagrangian relaxation (Fisher 1981): at a price of money each query takes what is worth most;
    bisection finds the lowest price at which that is affordable, and what is left over then buys
    upgrades by right answers gained per cost. The result lacks less than one right answer to the
    optimum, since the relaxation leaves at most one query between two models.

    Returns:
        The choice of each query (-1 for none), the price, and the relaxation's upper bound.
    """
    # "Nobody answers" is an option like any other: it is worth nothing and costs nothing.
    worth = np.column_stack([np.zeros(len(p)), np.where(open_TM, p, -np.inf)])
    price_of = np.concatenate([[0.0], np.nan_to_num(cost, nan=np.inf)])
    known = np.isfinite(price_of)
    finite = np.where(known, price_of, 0.0)
    rows = np.arange(len(p))
    # Cheapest first, so that argmax takes the cheaper of two equal ones.
    cheapest = np.argsort(price_of, kind="stable")

    def at(price: float) -> tuple[Ints, float, float]:
        value = worth[:, cheapest] - price * finite[cheapest]
        taken = cheapest[value.argmax(axis=1)]
        return taken, float(finite[taken].sum()), float(value.max(axis=1).sum())

    taken, spent, bound = at(0.0)
    if spent <= budget:
        return taken - 1, 0.0, bound
    paid = finite[finite > 0]
    low, high = 0.0, 2.0 / float(paid.min())
    taken, _, bound = at(high)
    at_most = bound + high * budget
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        tried, spent, bound = at(middle)
        # Every price gives an upper bound on what the budget can buy.
        at_most = min(at_most, bound + middle * budget)
        if spent <= budget:
            high, taken = middle, tried
        else:
            low = middle
    taken = _upgrade(worth, finite, taken, budget)
    at_most = max(at_most, float(worth[rows, taken].sum()))
    return taken - 1, high, at_most


def _upgrade(worth: Floats, finite: Floats, taken: Ints, budget: float) -> Ints:
    """Spend what is left on upgrades, most right answers per cost first."""
    taken = taken.copy()
    left = budget - float(finite[taken].sum())

    def best(row: int) -> tuple[float, int] | None:
        gain = worth[row] - worth[row, taken[row]]
        extra = finite - finite[taken[row]]
        fits = (gain > 0) & (extra <= left)
        if not fits.any():
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            rate = np.where(fits, np.where(extra > 0, gain / extra, np.inf), -np.inf)
        option = int(rate.argmax())
        return float(rate[option]), option

    heap = [(-found[0], row) for row in range(len(taken)) if (found := best(row)) is not None]
    heapq.heapify(heap)
    while heap:
        rate, row = heapq.heappop(heap)
        found = best(row)
        if found is None:
            continue
        if found[0] < -rate:
            # What was best no longer fits: the next best of this query waits its turn.
            heapq.heappush(heap, (-found[0], row))
            continue
        left -= float(finite[found[1]] - finite[taken[row]])
        taken[row] = found[1]
        after = best(row)
        if after is not None:
            heapq.heappush(heap, (-after[0], row))
    return taken
