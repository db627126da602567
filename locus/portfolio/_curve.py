"""How well a growing set serves, on answers that were held out."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from locus.portfolio._base import (
    Floats,
    PortfolioError,
    checked_costs,
    checked_k,
    checked_probabilities,
    costs_after,
)


def portfolio_curve(
    chosen: Sequence[int],
    p_TM: ArrayLike,
    y_TM: ArrayLike,
    cost_M: ArrayLike | Sequence[float | None] | None = None,
) -> pl.DataFrame:
    """Routing accuracy inside the set after each choice, beside that of the whole pool.

    Inside the set, the model of the highest p among those that answered the query is chosen; a
    query that nobody in the set answered doesn't count, so the pool's figure is taken on the same
    queries at each size.

    Args:
        chosen: models in the order of choice, as `Portfolio.chosen`.
        p_TM: predicted P(correct), [T, M].
        y_TM: scores, [T, M]; NaN where missing.
        cost_M: cost of having each model; NaN or None where unknown.

    Returns:
        One row a size: size, model (index of the last chosen), cost (of the set; null where not
        known), hit1 (mean score of the first choice), pool_hit1, n (queries); both rates are null
        where n is 0.

    Raises:
        PortfolioError: shapes differ, a model is unknown or twice in the set, or is no set at all.
    """
    p, y = _matched(p_TM, y_TM)
    order = list(chosen)
    if not order or len(set(order)) != len(order) or not all(0 <= m < p.shape[1] for m in order):
        raise PortfolioError(f"{order} are not distinct models out of 0 to {p.shape[1] - 1}")
    costs = costs_after(order, checked_costs(cost_M, p.shape[1]))
    ranked = np.where(np.isnan(y), -np.inf, p)
    pool_T = _score_of_best(ranked, y)
    best_T = np.full(len(p), -np.inf)
    score_T = np.full(len(p), np.nan)
    rows = []
    for size, model in enumerate(order, start=1):
        # Ties go to the model chosen first.
        better = ranked[:, model] > best_T
        best_T = np.where(better, ranked[:, model], best_T)
        score_T = np.where(better, y[:, model], score_T)
        counted = ~np.isnan(score_T)
        n = int(counted.sum())
        rows.append(
            {
                "size": size,
                "model": int(model),
                "cost": costs[size - 1],
                "hit1": float(score_T[counted].mean()) if n else None,
                "pool_hit1": float(pool_T[counted].mean()) if n else None,
                "n": n,
            }
        )
    schema = {
        "size": pl.Int64(),
        "model": pl.Int64(),
        "cost": pl.Float64(),
        "hit1": pl.Float64(),
        "pool_hit1": pl.Float64(),
        "n": pl.Int64(),
    }
    return pl.DataFrame(rows, schema=schema)


def random_curve(
    k: int, p_TM: ArrayLike, y_TM: ArrayLike, *, draws: int = 100, seed: int = 0
) -> pl.DataFrame:
    """The bar for a portfolio: routing inside random sets, over ``draws`` random orders.

    Returns:
        size, hit1 (mean over draws), low and high (2.5 % and 97.5 % of the draws).

    Raises:
        PortfolioError: shapes differ, or k or draws out of range.
    """
    p, y = _matched(p_TM, y_TM)
    checked_k(k, p.shape[1])
    if draws < 1:
        raise PortfolioError(f"draws is {draws}; ask for one or more")
    rng = np.random.default_rng(seed)
    curves = [
        portfolio_curve(rng.permutation(p.shape[1])[:k].tolist(), p, y).select("size", "hit1")
        for _ in range(draws)
    ]
    return (
        pl.concat(curves)
        .group_by("size")
        .agg(
            pl.col("hit1").mean(),
            low=pl.col("hit1").quantile(0.025, "linear"),
            high=pl.col("hit1").quantile(0.975, "linear"),
        )
        .sort("size")
    )


def _matched(p_TM: ArrayLike, y_TM: ArrayLike) -> tuple[Floats, Floats]:
    p, y = checked_probabilities(p_TM), np.asarray(y_TM, dtype=np.float64)
    if p.shape != y.shape:
        raise PortfolioError(f"y_TM has shape {y.shape}, p_TM {p.shape}")
    return p, y


def _score_of_best(ranked: Floats, y: Floats) -> Floats:
    """Score of the first choice of each query; NaN where nobody answered."""
    scores: Floats = y[np.arange(len(y)), ranked.argmax(axis=1)]
    return scores
