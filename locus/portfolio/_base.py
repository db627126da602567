"""What the parts of `locus.portfolio` share: the result, the error, and checks of input."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class PortfolioError(ValueError):
    """Input that no portfolio can be chosen from; the message names what is wrong."""


@dataclass(frozen=True)
class Portfolio:
    """A chosen set, in the order of choice.

    Attributes:
        objective: what ``values`` are: ``radius`` (largest distance of a model to its nearest
            chosen one), ``mean distance`` (the same, averaged), ``route`` or ``any`` (see
            `set_value`). The first two fall as the set grows, the others rise.
        chosen: indices of models.
        values: the objective after each choice.
        costs: cost of the set after each choice; None from the first model on whose cost is
            unknown, and everywhere if no costs were given.
        unknown_cost: models that could not be chosen because their cost is unknown.
    """

    objective: str
    chosen: tuple[int, ...]
    values: tuple[float, ...]
    costs: tuple[float | None, ...]
    unknown_cost: tuple[int, ...] = ()


def costs_after(chosen: Sequence[int], cost_M: Floats | None) -> tuple[float | None, ...]:
    """Cost of the set after each choice; None where not known."""
    if cost_M is None:
        return (None,) * len(chosen)
    total = np.cumsum(cost_M[list(chosen)])
    return tuple(None if np.isnan(c) else float(c) for c in total)


def checked_costs(
    cost_M: ArrayLike | Sequence[float | None] | None, n_models: int
) -> Floats | None:
    """Costs [M] as floats, NaN where unknown."""
    if cost_M is None:
        return None
    cost = np.asarray(cost_M, dtype=np.float64)
    if cost.shape != (n_models,):
        raise PortfolioError(f"costs of shape {cost.shape} for {n_models} models")
    bad = np.flatnonzero(~(np.isnan(cost) | ((cost >= 0) & np.isfinite(cost))))
    if len(bad):
        raise PortfolioError(
            f"the cost of model {bad[0]} is {cost[bad[0]]}; give 0 or more, or NaN if unknown"
        )
    return cost


def checked_distances(distances_MM: ArrayLike) -> Floats:
    """Distances [M, M]: finite, symmetric, 0 or more, zero diagonal."""
    d = np.asarray(distances_MM, dtype=np.float64)
    if d.ndim != 2 or d.shape[0] != d.shape[1] or len(d) == 0:
        raise PortfolioError(f"distances of shape {d.shape}; give a square of one row a model")
    if not np.isfinite(d).all():
        row, column = np.argwhere(~np.isfinite(d))[0].tolist()
        raise PortfolioError(
            f"models {row} and {column} have no distance; leave out models without a place"
        )
    if (d < 0).any() or np.diagonal(d).any() or not np.allclose(d, d.T):
        raise PortfolioError("distances must be symmetric, 0 or more, with a zero diagonal")
    return d


def checked_probabilities(p_TM: ArrayLike) -> Floats:
    """P(correct) [T, M] in [0, 1], at least one of each."""
    p = np.asarray(p_TM, dtype=np.float64)
    if p.ndim != 2 or p.size == 0:
        raise PortfolioError(f"p_TM has shape {p.shape}; give one row a query, one column a model")
    if not ((p >= 0) & (p <= 1)).all():
        raise PortfolioError("p_TM has numbers outside [0, 1]; give probabilities")
    return p


def checked_k(k: int, n_models: int) -> int:
    """K in 1 .. M."""
    if not 1 <= k <= n_models:
        raise PortfolioError(f"k is {k}; choose 1 to {n_models} of {n_models} models")
    return k
