"""Portfolios by what the set is expected to answer right."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from locus.portfolio._base import (
    Floats,
    Portfolio,
    PortfolioError,
    checked_costs,
    checked_k,
    checked_probabilities,
    costs_after,
)

Objective = Literal["route", "any"]

# Queries that are looked at together: 4,096 x 112 doubles are 4 MB.
_BLOCK = 4096


def set_value(p_TM: ArrayLike, chosen: Sequence[int], objective: Objective = "route") -> float:
    """What a set of models is expected to answer right, as a share of the queries.

    ``route``: the mean over queries of the set's highest p. It is the hit@1 that a router expects
    which asks one model of the set, the most probable one, if the probabilities are right; where
    they are noisy it promises too much, since the highest of many is also the luckiest.

    ``any``: the mean of 1 - prod(1 - p): the chance that at least one of the set is right if their
    answers are independent given p. It takes somebody who asks them all and knows the right answer
    when he sees it (a test, a verifier); models err alike, so it is above what is really reached.

    Both are monotone and submodular (a maximum, and a noisy or, averaged over queries).

    Raises:
        PortfolioError: probabilities that are not, or an unknown objective or model.
    """
    p = checked_probabilities(p_TM)
    _check(objective)
    if any(not 0 <= m < p.shape[1] for m in chosen):
        raise PortfolioError(f"a model of {list(chosen)} is not among the {p.shape[1]} of p_TM")
    covered_T = np.zeros(len(p))
    for model in chosen:
        covered_T = _with(covered_T, p[:, model], objective)
    return float(covered_T.mean())


def greedy_best_of_set(
    p_TM: ArrayLike,
    k: int,
    *,
    objective: Objective = "route",
    cost_M: ArrayLike | Sequence[float | None] | None = None,
) -> Portfolio:
    """Add, k times, the model that raises `set_value` most; ties go to the lower index.

    The value is at least 1 - 1/e of that of the best set of k (Nemhauser, Wolsey, Fisher 1978).

    Args:
        p_TM: predicted P(correct) on queries like those to be answered, [T, M].
        k: models to choose.
        objective: see `set_value`.
        cost_M: only counted, never looked at.

    Raises:
        PortfolioError: probabilities or costs that are not, k out of range, unknown objective.
    """
    p = checked_probabilities(p_TM)
    _check(objective)
    k, cost = checked_k(k, p.shape[1]), checked_costs(cost_M, p.shape[1])
    covered_T = np.zeros(len(p))
    chosen: list[int] = []
    values: list[float] = []
    for _ in range(k):
        gain_M = _gains(covered_T, p, objective)
        gain_M[chosen] = -np.inf
        chosen.append(int(gain_M.argmax()))
        covered_T = _with(covered_T, p[:, chosen[-1]], objective)
        values.append(float(covered_T.mean()))
    return Portfolio(objective, tuple(chosen), tuple(values), costs_after(chosen, cost))


def coverage_per_cost(
    p_TM: ArrayLike,
    cost_M: ArrayLike | Sequence[float | None],
    budget: float,
    *,
    objective: Objective = "route",
) -> Portfolio:
    """Choose under a budget of parameters or money, by coverage gained per cost.

    Cost-benefit greedy fails where a cheap crumb keeps the one good model out, so it is run a
    second time from the best single model that is affordable, and the better of the two is taken:
    at least (1 - 1/e) / 2 of the best set's value (Khuller, Moss, Naor 1999).

    Args:
        p_TM: predicted P(correct) on queries like those to be answered, [T, M].
        cost_M: cost of having the model in the set, [M]; a model whose cost is NaN or None can't
            be chosen and is named in the result.
        budget: what the set may cost together, in the unit of ``cost_M``.
        objective: see `set_value`.

    Returns:
        The portfolio, which ends when nothing affordable adds anything.

    Raises:
        PortfolioError: probabilities or costs that are not, an unknown objective, or a budget that
            buys no model.
    """
    p = checked_probabilities(p_TM)
    _check(objective)
    cost = checked_costs(cost_M, p.shape[1])
    if cost is None:
        raise PortfolioError("coverage per cost needs costs: give cost_M")
    if not (np.isfinite(budget) and budget >= 0):
        raise PortfolioError(f"the budget is {budget}; give a finite number of 0 or more")
    affordable = np.flatnonzero(cost <= budget)
    if not len(affordable):
        if np.isnan(cost).all():
            raise PortfolioError("no model has a known cost: give prices or parameters")
        raise PortfolioError(
            f"a budget of {budget} buys no model: the cheapest costs {np.nanmin(cost)}"
        )
    single = int(affordable[p[:, affordable].mean(axis=0).argmax()])
    runs = [
        _cost_benefit(p, cost, budget, objective, []),
        _cost_benefit(p, cost, budget, objective, [single]),
    ]
    chosen, values = max(runs, key=lambda run: run[1][-1] if run[1] else -np.inf)
    unknown = tuple(np.flatnonzero(np.isnan(cost)).tolist())
    return Portfolio(objective, tuple(chosen), tuple(values), costs_after(chosen, cost), unknown)


def _cost_benefit(
    p: Floats, cost: Floats, budget: float, objective: Objective, start: list[int]
) -> tuple[list[int], list[float]]:
    """Greedy by gain per cost, after the models of ``start``."""
    covered_T = np.zeros(len(p))
    chosen: list[int] = []
    values: list[float] = []
    queue = list(start)
    while True:
        if queue:
            model = queue.pop(0)
        else:
            left = budget - float(cost[chosen].sum())
            gain_M = _gains(covered_T, p, objective)
            fits = (cost <= left) & (gain_M > 0)
            fits[chosen] = False
            if not fits.any():
                return chosen, values
            with np.errstate(divide="ignore", invalid="ignore"):
                rate_M = np.where(fits, gain_M / cost, -np.inf)
            # Models for free come first, the one that adds most before the others.
            model = int(np.lexsort((-gain_M, -rate_M))[0])
        chosen.append(model)
        covered_T = _with(covered_T, p[:, model], objective)
        values.append(float(covered_T.mean()))


def _with(covered_T: Floats, p_T: Floats, objective: Objective) -> Floats:
    """Coverage of each query with one more model."""
    if objective == "route":
        return np.maximum(covered_T, p_T)
    return covered_T + (1 - covered_T) * p_T


def _gains(covered_T: Floats, p: Floats, objective: Objective) -> Floats:
    """What each model would add to the mean coverage, [M]."""
    if objective == "any":
        return np.asarray((1 - covered_T) @ p / len(p))
    gain_M = np.zeros(p.shape[1])
    for start in range(0, len(p), _BLOCK):
        rows = slice(start, start + _BLOCK)
        gain_M += np.maximum(p[rows] - covered_T[rows, None], 0).sum(axis=0)
    return gain_M / len(p)


def _check(objective: str) -> None:
    if objective not in get_args(Objective):
        raise PortfolioError(f"objective {objective!r} is unknown; use 'route' or 'any'")
