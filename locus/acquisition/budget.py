"""What the next queries are worth per model, and how to spread a budget over many models.

Shape letters: B models, Q bank queries, n queries, R limited things.
"""

import heapq
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Purse:
    """What is limited beside the number of queries, such as tokens or money.

    Attributes:
        left_R: how much there is of each of R things.
        need_BR: how much one query of each model takes.
    """

    left_R: Floats
    need_BR: Floats


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
    most: int | NDArray[np.int64] = 128,
    least: float = 0.0,
    price_B: Floats | None = None,
    purse: Purse | None = None,
    sharpness: float = Adaptive.sharpness,
) -> NDArray[np.int64]:
    """Spread a budget of queries over models, block by block to whom it is worth most.

    The next block goes where its queries are worth most on average; of equals to the first row. A
    block is made smaller where a limit leaves no room for a whole one.

    Args:
        items: the bank.
        values_BQ: scores so far, NaN where not asked.
        budget: queries in all.
        allowed_BQ: queries that may be asked; all by default.
        block: queries given at a time.
        most: queries that one model is given at most, for all or by model [B].
        least: what a query of a block must be worth on average; a model whose next block is worth
            less is given no more.
        price_B: what one query of each model costs, 0 or more: a block is then worth its gain per
            cost, and what costs nothing comes first. By default each query costs the same.
        purse: what else is limited.
        sharpness: as in `Adaptive`.

    Returns:
        Queries for each model [B]; less than the budget in all only where nothing is left to ask,
        nothing is worth the least, or every model has met a limit.

    Raises:
        ValueError: a negative budget, limit, least or price, or a block below 1.
    """
    n_models = len(values_BQ)
    most_B = np.broadcast_to(np.asarray(most, dtype=np.int64), n_models)
    if budget < 0 or block < 1 or (most_B < 0).any() or not least >= 0:
        raise ValueError(
            f"budget {budget}, block {block}, most {most}, least {least}: a block must be 1 or "
            "more, the others can't be negative"
        )
    price_B = np.ones(n_models) if price_B is None else price_B
    if not (price_B >= 0).all():
        raise ValueError(f"prices {price_B.tolist()}: none may be negative or unknown")
    given = np.zeros(n_models, dtype=np.int64)
    depth = min(int(most_B.max(initial=0)), budget)
    gains = expected_gains(items, values_BQ, depth, allowed_BQ, sharpness=sharpness)
    seeds = [0] * n_models
    open_B = open_queries(items, values_BQ, depth, seeds, allowed_BQ).sum(axis=1)
    room = np.minimum(np.minimum(open_B, depth), most_B)
    left_R = np.zeros(0) if purse is None else purse.left_R.copy()
    need_BR = np.zeros((n_models, 0)) if purse is None else purse.need_BR

    def push(row: int) -> None:
        step = min(block, int(room[row] - given[row]))
        worth = float(gains[row, given[row] : given[row] + step].mean()) if step else 0.0
        if step and worth >= least:
            # What costs nothing comes first, the most telling of it before the rest.
            rank = (0, -worth) if price_B[row] == 0 else (1, -worth / float(price_B[row]))
            heapq.heappush(queue, (*rank, row))

    queue: list[tuple[int, float, int]] = []
    for row in range(n_models):
        push(row)
    while queue and budget:
        *_, row = heapq.heappop(queue)
        step = min(block, int(room[row] - given[row]), budget, _fit(left_R, need_BR[row], block))
        if not step:
            continue
        given[row] += step
        budget -= step
        left_R -= step * need_BR[row]
        push(row)
    return given


def _fit(left_R: Floats, need_R: Floats, most: int) -> int:
    """How many queries fit into what is left, at most ``most``."""
    limited = need_R > 0
    # A hair's breadth, so that ten queries at 0.1 fit into 1.
    fits = np.floor(np.maximum(left_R, 0)[limited] / need_R[limited] * (1 + 1e-9))
    return int(min(fits.min(initial=most), most))
