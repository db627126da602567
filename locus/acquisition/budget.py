"""What the next queries are worth per model, and how to spread a budget over many models.

Shape letters: B models, Q bank queries, n queries.
"""

import heapq

import numpy as np
from numpy.typing import NDArray

from locus.acquisition.beliefs import Values
from locus.acquisition.items import Floats, Items
from locus.acquisition.strategies import (
    MODELS_AT_ONCE,
    Adaptive,
    Mask,
    greedy,
    open_queries,
)


def expected_gains(
    items: Items,
    values_BQ: Values,
    n: int,
    allowed_BQ: Mask | None = None,
    *,
    sharpness: float = Adaptive.sharpness,
) -> Floats:
    """By how much each of the next n best queries lowers a model's mean variance over the targets.

    Args:
        items: the bank.
        values_BQ: scores so far, NaN where not asked.
        n: queries to look ahead.
        allowed_BQ: queries that may be asked; all by default.
        sharpness: as in `Adaptive`.

    Returns:
        Gains in asking order [B, n]; 0 where nothing is left to ask. They are comparable between
        models of one `items`; its target moment has trace 1, so a model without answers has 1 to
        lose.
    """
    seeds = [0] * len(values_BQ)
    open_BQ = open_queries(items, values_BQ, n, seeds, allowed_BQ)
    gains = np.zeros((len(values_BQ), n))
    for start in range(0, len(gains), MODELS_AT_ONCE):
        part = slice(start, start + MODELS_AT_ONCE)
        _, gains[part] = greedy(items, values_BQ[part], open_BQ[part], n, sharpness)
    return gains


def expected_gain(
    items: Items,
    values_BQ: Values,
    n: int,
    allowed_BQ: Mask | None = None,
    *,
    sharpness: float = Adaptive.sharpness,
) -> Floats:
    """What the next n queries are worth together, [B]; see `expected_gains`."""
    gains = expected_gains(items, values_BQ, n, allowed_BQ, sharpness=sharpness)
    return np.asarray(gains.sum(axis=1))


def allocate(
    items: Items,
    values_BQ: Values,
    budget: int,
    allowed_BQ: Mask | None = None,
    *,
    block: int = 8,
    most: int = 128,
    sharpness: float = Adaptive.sharpness,
) -> NDArray[np.int64]:
    """Spread a budget of queries over models, block by block to whom it is worth most.

    Args:
        items: the bank.
        values_BQ: scores so far, NaN where not asked.
        budget: queries in all.
        allowed_BQ: queries that may be asked; all by default.
        block: queries given at a time; the last block may be smaller.
        most: queries that one model is given at most.
        sharpness: as in `Adaptive`.

    Returns:
        Queries for each model [B]; less than the budget in all only where nothing is left to ask
        or every model has been given the most.

    Raises:
        ValueError: a negative budget, or a block or limit below 1.
    """
    if budget < 0 or block < 1 or most < 1:
        raise ValueError(
            f"budget {budget}, block {block}, most {most}: the budget can't be negative, the "
            "others must be 1 or more"
        )
    given = np.zeros(len(values_BQ), dtype=np.int64)
    depth = min(most, budget)
    gains = expected_gains(items, values_BQ, depth, allowed_BQ, sharpness=sharpness)
    seeds = [0] * len(given)
    room = open_queries(items, values_BQ, depth, seeds, allowed_BQ).sum(axis=1)
    room = np.minimum(room, depth)

    def next_block(row: int) -> tuple[float, int]:
        ahead = gains[row, given[row] : min(given[row] + block, room[row])]
        return -float(ahead.mean()), row

    queue = [next_block(row) for row in range(len(given)) if room[row]]
    heapq.heapify(queue)
    while queue and budget:
        _, row = heapq.heappop(queue)
        step = min(block, int(room[row] - given[row]), budget)
        given[row] += step
        budget -= step
        if given[row] < room[row]:
            heapq.heappush(queue, next_block(row))
    return given
