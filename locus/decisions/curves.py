"""What quality costs: routing at every price of money, on test queries."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from locus.decisions.published import DecisionError, Floats, PublishedMap
from locus.routing.policy import cost_quality_curve

_POINTS = 14


def curve(
    published: PublishedMap, lambdas: Sequence[float] | None = None
) -> tuple[pl.DataFrame, list[str]]:
    """Cost and score of cost-aware routing on test queries.

    Args:
        published: the map.
        lambdas: right answers that one USD per million tokens is worth; None takes a range from
            "money is nothing" to "only money counts", without repeated points.

    Returns:
        lambda, cost (mean USD per million tokens of the chosen model), score, n, on_hull; and the
        models that were left out because their price is unknown.

    Raises:
        DecisionError: fewer than two prices are known, or no test query has predictions.
        PolicyError: a price weight out of range, or no test query answered by a model with a price.
    """
    price = published.price_M
    if (~np.isnan(price)).sum() < 2:
        raise DecisionError(
            f"{int((~np.isnan(price)).sum())} models of snapshot {published.snapshot_id} have a "
            "price: a curve takes two or more; put prices into models.yaml and publish"
        )
    test = published.test_T
    if not test.any():
        raise DecisionError(
            f"snapshot {published.snapshot_id} has no test query with predictions: ask some "
            "(`test_queries` in locus.toml) and publish"
        )
    found = cost_quality_curve(
        published.p_TM[test],
        published.observed_TM[test],
        price,
        default_lambdas(price) if lambdas is None else list(lambdas),
    )
    if lambdas is None:
        found = found.unique(["cost", "score"], keep="first", maintain_order=True)
    unknown = published.name(np.flatnonzero(np.isnan(price)))
    return found.rename({"price_weight": "lambda"}), unknown


def default_lambdas(price_M: Floats) -> list[float]:
    """0, then evenly in logarithms up to where the cheapest model answers everything."""
    distinct = np.unique(price_M[~np.isnan(price_M)])
    if len(distinct) < 2:
        return [0.0]
    # No difference of two probabilities is above 1.
    most = 1.0 / float(np.diff(distinct).min())
    least = 0.01 / float(distinct[-1] - distinct[0])
    return [0.0, *np.geomspace(least, most, _POINTS).tolist()]
