"""Portfolios that cover the map: every model has a chosen one near it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from locus.portfolio._base import (
    Floats,
    Ints,
    Portfolio,
    PortfolioError,
    checked_costs,
    checked_distances,
    checked_k,
    costs_after,
)


def k_center(
    distances_MM: ArrayLike,
    k: int,
    *,
    first: int | None = None,
    cost_M: ArrayLike | Sequence[float | None] | None = None,
) -> Portfolio:
    """Greedy k-center: each next model is the one farthest from those chosen.

    The radius is at most twice the smallest possible (Gonzalez 1985) if distances keep the triangle
    inequality, whichever model comes first.

    Args:
        distances_MM: finite, symmetric, zero diagonal.
        k: models to choose.
        first: the first model; None takes the one whose farthest model is nearest. Ties, here and
            later, go to the lower index.
        cost_M: only counted, never looked at.

    Raises:
        PortfolioError: distances or costs that are not, or k or first out of range.
    """
    d = checked_distances(distances_MM)
    k, cost = checked_k(k, len(d)), checked_costs(cost_M, len(d))
    if first is None:
        first = int(d.max(axis=1).argmin())
    if not 0 <= first < len(d):
        raise PortfolioError(f"first is {first}; the models are 0 to {len(d) - 1}")
    chosen = [first]
    near_M = d[first].copy()
    near_M[first] = -1.0
    values = [float(max(near_M.max(), 0.0))]
    while len(chosen) < k:
        farthest = int(near_M.argmax())
        chosen.append(farthest)
        near_M = np.minimum(near_M, d[farthest])
        # Below every distance: copies of a chosen model may still be chosen, itself never.
        near_M[farthest] = -1.0
        values.append(float(max(near_M.max(), 0.0)))
    return Portfolio("radius", tuple(chosen), tuple(values), costs_after(chosen, cost))


def k_medoids(
    distances_MM: ArrayLike,
    k: int,
    *,
    swaps: int = 1000,
    cost_M: ArrayLike | Sequence[float | None] | None = None,
) -> Portfolio:
    """K medoids by PAM: greedy build, then the best swap as long as one helps.

    Kaufman and Rousseeuw 1990, with the gains of all swaps computed together as in FastPAM
    (Schubert and Rousseeuw 2021). The order of the result is that in which a greedy build would
    take the final medoids, so that each beginning of it is a portfolio of its own.

    Args:
        distances_MM: finite, symmetric, zero diagonal.
        k: models to choose.
        swaps: most swaps.
        cost_M: only counted, never looked at.

    Raises:
        PortfolioError: distances or costs that are not, or k out of range.
    """
    d = checked_distances(distances_MM)
    k, cost = checked_k(k, len(d)), checked_costs(cost_M, len(d))
    medoids, _ = build(d, k, np.arange(len(d)))
    for _ in range(swaps):
        gain, out, new = _best_swap(d, medoids)
        # A gain of rounding errors would swap for ever.
        if gain <= 1e-12 * max(float(d.sum()), 1e-300):
            break
        medoids[out] = new
    chosen, values = build(d, k, np.sort(np.array(medoids)))
    return Portfolio("mean distance", tuple(chosen), tuple(values), costs_after(chosen, cost))


def build(d: Floats, k: int, candidates: Ints) -> tuple[list[int], list[float]]:
    """PAM's BUILD: k times the candidate that lowers the mean distance most, and the means."""
    near_M = np.full(len(d), np.inf)
    chosen: list[int] = []
    values: list[float] = []
    open_c = np.ones(len(candidates), dtype=bool)
    for _ in range(k):
        mean_c = np.minimum(d[:, candidates], near_M[:, None]).mean(axis=0)
        at = int(np.where(open_c, mean_c, np.inf).argmin())
        open_c[at] = False
        chosen.append(int(candidates[at]))
        near_M = np.minimum(near_M, d[:, candidates[at]])
        values.append(float(near_M.mean()))
    return chosen, values


def _best_swap(d: Floats, medoids: list[int]) -> tuple[float, int, int]:
    """The swap that lowers the sum of distances most: gain, position that leaves, newcomer."""
    to_Mk = d[:, medoids]
    owner_M = to_Mk.argmin(axis=1)
    rows = np.arange(len(d))
    near_M = to_Mk[rows, owner_M]
    others_Mk = to_Mk.copy()
    others_Mk[rows, owner_M] = np.inf
    second_M = others_Mk.min(axis=1)
    # What the newcomer saves for points that keep their medoid or come over to it ...
    over_MM = np.minimum(d - near_M[:, None], 0)
    # ... and what it costs those whose medoid leaves: they go to the newcomer or to their second.
    left_MM = np.minimum(d, second_M[:, None]) - near_M[:, None] - over_MM
    member_kM = (owner_M[None] == np.arange(len(medoids))[:, None]).astype(np.float64)
    change_kM = over_MM.sum(axis=0) + member_kM @ left_MM
    change_kM[:, medoids] = np.inf
    out, new = np.unravel_index(int(change_kM.argmin()), change_kM.shape)
    return -float(change_kM[out, new]), int(out), int(new)
