"""How often two models would differ: predicted, observed, and from their distance."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locus.similarity._base import Floats, SimilarityInputError, wilson

# A score of 0.5 or more counts as right, as everywhere agreement is counted.
_RIGHT = 0.5


@dataclass(frozen=True)
class ObservedDisagreement:
    """Share of common queries on which exactly one of two models is right.

    Attributes:
        rate_MM: the share; NaN without a common query, 0 on the diagonal of models with answers.
        n_MM: common queries, int64.
        low_MM: lower bound of its Wilson interval; NaN without a common query.
        high_MM: upper bound.
    """

    rate_MM: Floats
    n_MM: NDArray[np.int64]
    low_MM: Floats
    high_MM: Floats


def predicted_disagreement(p_TM: ArrayLike, reference: ArrayLike | None = None) -> Floats:
    """Expected share of queries on which exactly one of two models is right.

    The mean of p_a (1 - p_b) + p_b (1 - p_a), which holds if, given p, the answers of two models
    are independent. They are not: models alike err alike, in ways that p doesn't carry, so this
    overstates how much near models differ; `calibrated_disagreement` corrects that from what was
    observed.

    Args:
        p_TM: P(correct) of M models on T queries.
        reference: which of the T queries to average over, a bool mask [T] or indices; None for all.

    Returns:
        [M, M], symmetric, in [0, 1]. The diagonal is 0: a model doesn't differ from itself.

    Raises:
        SimilarityInputError: numbers that are no probabilities, or no reference query.
    """
    p = np.asarray(p_TM, dtype=np.float64)
    if p.ndim != 2 or not ((p >= 0) & (p <= 1)).all():
        raise SimilarityInputError(
            f"p_TM of shape {p.shape} must be probabilities, one row a query, one column a model"
        )
    if reference is not None:
        rows = np.asarray(reference)
        if rows.dtype == np.bool_ and rows.shape != (len(p),):
            raise SimilarityInputError(f"reference has shape {rows.shape} for {len(p)} queries")
        p = p[rows if rows.dtype == np.bool_ else rows.astype(np.int64)]
    if len(p) == 0:
        raise SimilarityInputError("no reference query: there is nothing to differ on")
    half = p.T @ (1 - p) / len(p)
    apart_MM = np.clip(half + half.T, 0, 1)
    np.fill_diagonal(apart_MM, 0)
    return np.asarray(apart_MM)


def observed_disagreement(values_MQ: ArrayLike, z: float = 1.96) -> ObservedDisagreement:
    """Count how often each two models differ, with Wilson intervals.

    Args:
        values_MQ: scores in [0, 1], NaN where missing; 0.5 or more counts as right.
        z: normal quantile of the interval.

    Raises:
        SimilarityInputError: a score outside [0, 1].
    """
    values = np.asarray(values_MQ, dtype=np.float32)
    if values.ndim != 2:
        raise SimilarityInputError(f"scores of shape {values.shape} must be one row a model")
    asked = ~np.isnan(values)
    bad = asked & ~((values >= 0) & (values <= 1))
    if bad.any():
        model, query = np.argwhere(bad)[0].tolist()
        raise SimilarityInputError(
            f"score {values[model, query]} of model {model} on query {query} is not in [0, 1]; "
            "use NaN for no answer"
        )
    # float32 counts exactly up to 2**24 queries.
    right = (asked & (values >= _RIGHT)).astype(np.float32)
    wrong = asked.astype(np.float32) - right
    one = right @ wrong.T
    apart_MM = (one + one.T).astype(np.float64)
    n_MM = (asked.astype(np.float32) @ asked.T.astype(np.float32)).astype(np.int64)
    low, high = wilson(apart_MM.ravel(), n_MM.ravel(), z)
    rate_MM = np.where(n_MM > 0, apart_MM / np.maximum(n_MM, 1), np.nan)
    return ObservedDisagreement(
        rate_MM,
        n_MM,
        low.to_numpy().reshape(n_MM.shape),
        high.to_numpy().reshape(n_MM.shape),
    )


@dataclass(frozen=True)
class DisagreementMap:
    """From a distance in the embedding to the share of queries two models differ on.

    Attributes:
        distance_K: corners, rising.
        rate_K: the rate there, never falling.
        n: common queries that it was fitted on, over all pairs.
    """

    distance_K: Floats
    rate_K: Floats
    n: float

    def __call__(self, distance: ArrayLike) -> Floats:
        """Rates of any shape of distances; flat beyond the distances seen, NaN stays NaN."""
        d = np.asarray(distance, dtype=np.float64)
        return np.asarray(np.interp(d, self.distance_K, self.rate_K))


def calibrated_disagreement(
    distance_P: ArrayLike, observed_P: ArrayLike, n_P: ArrayLike
) -> DisagreementMap:
    """Fit the rising curve from distance to observed disagreement (isotonic regression).

    Weighted least squares under monotonicity (Barlow et al. 1972), each pair counting by its
    common queries; between its steps the curve is linear. Pairs that share a model are not
    independent: judge the curve on models that it was not fitted on.

    Args:
        distance_P: distances of P pairs.
        observed_P: their disagreement in [0, 1]; NaN where not known.
        n_P: their common queries.

    Raises:
        SimilarityInputError: lengths differ, a number is out of range, or no pair has all three.
    """
    from scipy.optimize import isotonic_regression

    d, rate, n = (
        np.asarray(values, dtype=np.float64).ravel() for values in (distance_P, observed_P, n_P)
    )
    if not len(d) == len(rate) == len(n):
        raise SimilarityInputError(f"{len(d)} distances, {len(rate)} rates and {len(n)} counts")
    kept = ~np.isnan(d) & ~np.isnan(rate) & (n > 0)
    d, rate, n = d[kept], rate[kept], n[kept]
    if not len(d):
        raise SimilarityInputError(
            "no pair has a distance, a disagreement and a common query: nothing to calibrate on"
        )
    if not (np.isfinite(d) & (d >= 0)).all() or not ((rate >= 0) & (rate <= 1)).all():
        raise SimilarityInputError("distances must be 0 or more and disagreement in [0, 1]")
    # Pairs at the same distance are one observation: a curve can't have two values there.
    at, group = np.unique(d, return_inverse=True)
    weight = np.bincount(group, weights=n)
    mean = np.bincount(group, weights=n * rate) / weight
    level = np.clip(np.asarray(isotonic_regression(mean, weights=weight).x), 0, 1)
    # Only the two ends of each step are corners.
    edge = np.ones(len(at), dtype=bool)
    edge[1:-1] = (level[1:-1] != level[:-2]) | (level[1:-1] != level[2:])
    return DisagreementMap(at[edge], level[edge], float(n.sum()))
