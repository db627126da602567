"""A few models that serve almost as well as all: chosen on the map, judged on test queries."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from locus.decisions.published import DecisionError, Floats, PublishedMap
from locus.portfolio import (
    Portfolio,
    coverage_per_cost,
    greedy_best_of_set,
    k_center,
    k_medoids,
    portfolio_curve,
)

SetMethod = Literal["k-center", "k-medoids", "best-of-set"]
Unit = Literal["params", "price"]

_UNIT_TEXT = {"params": "number of parameters", "price": "price"}


@dataclass(frozen=True)
class ChosenSet:
    """A portfolio that people can read.

    Attributes:
        objective: what ``value`` is, in words.
        rows: one a model, in the order of choice: order, model_id, value (after it), params_b,
            price_usd_per_mtok, params_b_so_far, price_so_far (null from the first unknown one
            on), hit1 (routing within the set so far, on test queries), pool_hit1 (within the
            whole pool, on the same queries), n_test.
        unknown_cost: models that couldn't be chosen because their cost is unknown.
    """

    objective: str
    rows: pl.DataFrame
    unknown_cost: list[str]


_OBJECTIVES = {
    "radius": "largest distance of a model to its nearest chosen one (falls)",
    "mean distance": "mean distance of a model to its nearest chosen one (falls)",
    "route": "expected share of right answers when the best of the set is asked (rises)",
}


def choose_set(
    published: PublishedMap,
    *,
    size: int | None = None,
    method: SetMethod = "best-of-set",
    budget: float | None = None,
    unit: Unit = "params",
) -> ChosenSet:
    """Choose a set by size, or by coverage per cost under a budget.

    Predictions that choose are those on queries that are not for test; test queries only judge.

    Args:
        published: the map.
        size: models wanted; with ``budget`` the most there may be.
        method: how a set of a given size is chosen; a budget has its own.
        budget: what the set may cost together: billions of parameters, or USD per million tokens.
        unit: of the budget.

    Raises:
        DecisionError: size out of range, or nothing to choose by.
        PortfolioError: a budget that buys nothing, or no known costs.
    """
    n = published.models.height
    if size is not None and not 1 <= size <= n:
        raise DecisionError(f"a set of {size} out of {n} models: ask for 1 to {n}")
    if budget is None and size is None:
        raise DecisionError("give a size, or a budget of parameters or of money")
    p_TM = published.p_TM[~published.test_T]
    if (budget is not None or method == "best-of-set") and not len(p_TM):
        raise DecisionError(
            f"snapshot {published.snapshot_id} has no predictions to choose by: use k-center or "
            "k-medoids, or publish with more reference queries"
        )
    if budget is not None:
        cost = published.params_M if unit == "params" else published.price_M
        if np.isnan(cost).all():
            raise DecisionError(
                f"no model has a known {_UNIT_TEXT[unit]}: put it into models.yaml or "
                "models.parquet, or choose by size"
            )
        chosen = coverage_per_cost(p_TM, cost, budget)
        if size is not None:
            chosen = _first(chosen, size)
    elif method == "best-of-set":
        chosen = greedy_best_of_set(p_TM, int(size or 1))
    else:
        pick = k_center if method == "k-center" else k_medoids
        chosen = pick(published.distances(), int(size or 1))
    return ChosenSet(
        _OBJECTIVES[chosen.objective],
        judge(published, chosen),
        published.name(chosen.unknown_cost),
    )


def _first(portfolio: Portfolio, size: int) -> Portfolio:
    return Portfolio(
        portfolio.objective,
        portfolio.chosen[:size],
        portfolio.values[:size],
        portfolio.costs[:size],
        portfolio.unknown_cost,
    )


def judge(published: PublishedMap, portfolio: Portfolio) -> pl.DataFrame:
    """What a chosen set costs and how it does on test queries: `ChosenSet.rows`."""
    chosen = list(portfolio.chosen)
    test = published.test_T
    order = pl.Series(range(1, len(chosen) + 1), dtype=pl.Int64)

    def column(values: Floats) -> pl.Series:
        return pl.Series(values, dtype=pl.Float64).fill_nan(None)

    params, price = published.params_M[chosen], published.price_M[chosen]
    frame = pl.DataFrame(
        {
            "order": order,
            "model_id": published.name(chosen),
            "value": list(portfolio.values),
            "params_b": column(params),
            "params_b_so_far": column(np.cumsum(params)),
            "price_usd_per_mtok": column(price),
            "price_so_far": column(np.cumsum(price)),
        }
    )
    if not test.any():
        nothing = pl.lit(None, dtype=pl.Float64)
        return frame.with_columns(hit1=nothing, pool_hit1=nothing, n_test=pl.lit(0))
    curve = portfolio_curve(chosen, published.p_TM[test], published.observed_TM[test])
    return frame.with_columns(curve["hit1"], curve["pool_hit1"], curve["n"].alias("n_test"))
