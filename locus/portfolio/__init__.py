"""A few models that serve almost as well as the pool.

Belongs here: choosing a small set by distance (k-center, k-medoids) or by what the set is expected
to answer (greedy, also under a budget of parameters or price), and the curve of a growing set on
held-out answers. Does not belong here: where distances and predictions come from, and who of the
set answers a query (`locus.routing`).

Shape letters: M models, T queries, k chosen models.
"""

from locus.portfolio._base import Portfolio, PortfolioError
from locus.portfolio._coverage import Objective, coverage_per_cost, greedy_best_of_set, set_value
from locus.portfolio._curve import portfolio_curve, random_curve
from locus.portfolio._distance import k_center, k_medoids

__all__ = [
    "Objective",
    "Portfolio",
    "PortfolioError",
    "coverage_per_cost",
    "greedy_best_of_set",
    "k_center",
    "k_medoids",
    "portfolio_curve",
    "random_curve",
    "set_value",
]
