"""What a strategy would have learned: reveal known scores step by step, as it asks for them."""

from collections.abc import Sequence

import numpy as np

from locus.acquisition.items import Items
from locus.acquisition.strategies import Strategy
from locus.bank import Array


def simulate(
    items: Items, truth_BQ: Array, strategy: Strategy, budgets: Sequence[int], seed: int
) -> dict[int, Array]:
    """Ask models whose scores are known, and keep what was seen at each budget.

    Args:
        items: the bank.
        truth_BQ: scores; NaN cells can't be asked.
        strategy: sees only what it has asked for.
        budgets: queries per model; a model with fewer scores is asked all it has.
        seed: each model's own is made from it and the row.

    Returns:
        By budget the scores seen, float32 [B, Q], NaN where not asked.
    """
    allowed_BQ = ~np.isnan(truth_BQ)
    seeds = [
        int(np.random.SeedSequence([seed, row]).generate_state(1)[0])
        for row in range(len(truth_BQ))
    ]
    seen_BQ = np.full(truth_BQ.shape, np.nan, dtype=np.float32)
    asked = 0
    snapshots = {}
    for budget in sorted(set(budgets)):
        while asked < budget:
            step = min(strategy.batch or budget, budget - asked)
            chosen = strategy.choose_many(items, seen_BQ, step, seeds, allowed_BQ)
            rows, places = np.nonzero(chosen >= 0)
            columns = chosen[rows, places]
            seen_BQ[rows, columns] = truth_BQ[rows, columns]
            asked += step
        snapshots[budget] = seen_BQ.copy()
    return snapshots
