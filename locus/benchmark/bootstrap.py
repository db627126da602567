"""Intervals by resampling test queries, and paired differences between methods.

Every round draws as many test queries as there are, with replacement, the same for all methods and
seeds. A measure is made of sums per query, so that a round is a weighted sum: means need numerator
and denominator; AUC needs counts of right and wrong answers by bins of the prediction. What is
bootstrapped is the mean over seeds. The models are not resampled: intervals speak of other
queries, not of other models.

Shape letters: R rounds, T test queries, K bins.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from locus.bank import Array
from locus.benchmark.metrics import RIGHT, best_of_first, losses

Floats = NDArray[np.float64]

MEASURES = ("auc", "bce", "accuracy", "hit1")
BINS = 512
ROUNDS = 1000


@dataclass(frozen=True)
class Sums:
    """What each test query adds to the measures of one cell.

    Attributes:
        totals: by measure, (numerator [T], denominator [T]).
        right_TK: right answers by bin of the prediction.
        wrong_TK: wrong answers.
    """

    totals: dict[str, tuple[Floats, Floats]]
    right_TK: Array
    wrong_TK: Array


def sums(p_MT: Array, y_MT: Array) -> Sums:
    """The sums of predictions [M, T] and answers [M, T].

    Bins are quantiles of the predictions: equal predictions share a bin, and within a bin order
    doesn't count (as for ties).
    """
    known = ~np.isnan(y_MT)
    n_T = known.sum(axis=0).astype(np.float64)
    right = y_MT >= RIGHT
    hit_T = best_of_first(p_MT, y_MT, 1)
    hit_known = ~np.isnan(hit_T)
    totals = {
        "bce": (np.where(known, losses(p_MT, y_MT), 0).sum(axis=0), n_T),
        "accuracy": ((((p_MT >= RIGHT) == right) & known).sum(axis=0).astype(np.float64), n_T),
        "hit1": (np.where(hit_known, hit_T, 0).astype(np.float64), hit_known.astype(np.float64)),
    }
    flat = p_MT[known]
    edges = np.unique(np.quantile(flat, np.arange(1, BINS) / BINS)) if len(flat) else np.zeros(0)
    width = len(edges) + 1
    place = np.searchsorted(edges, p_MT, side="right") + width * np.arange(p_MT.shape[1])

    def counts(which: NDArray[np.bool_]) -> Array:
        found = np.bincount(place[which], minlength=width * p_MT.shape[1])
        return found.reshape(p_MT.shape[1], width).astype(np.float32)

    return Sums(totals, counts(known & right), counts(known & ~right))


def draw(n_queries: int, rounds: int = ROUNDS, seed: int = 0) -> Array:
    """How often each query is in each round, float32 [R, T]."""
    rng = np.random.default_rng(seed)
    share = np.full(n_queries, 1 / n_queries)
    return rng.multinomial(n_queries, share, size=rounds).astype(np.float32)


def resampled(cell: Sums, weight_RT: Array) -> dict[str, Floats]:
    """`MEASURES` in every round, [R] each; NaN where a round has no answer or only one class."""
    found = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        for name, (top_T, bottom_T) in cell.totals.items():
            found[name] = (weight_RT @ top_T) / (weight_RT @ bottom_T)
        right_RK = (weight_RT @ cell.right_TK).astype(np.float64)
        wrong_RK = (weight_RT @ cell.wrong_TK).astype(np.float64)
        below_RK = np.cumsum(wrong_RK, axis=1) - wrong_RK / 2
        pairs_R = right_RK.sum(axis=1) * wrong_RK.sum(axis=1)
        found["auc"] = (right_RK * below_RK).sum(axis=1) / pairs_R
    return found


def interval(values_R: Floats) -> tuple[float, float]:
    """95 % percentile interval; NaN if no round has a value."""
    finite = values_R[np.isfinite(values_R)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [0.025, 0.975])
    return float(low), float(high)


SCHEMA = {
    "protocol": pl.String,
    "budget": pl.Int64,
    "method": pl.String,
    "measure": pl.String,
    "low": pl.Float64,
    "high": pl.Float64,
    "diff_low": pl.Float64,
    "diff_high": pl.Float64,
}


def intervals(
    protocol: str, budget: int, rounds: dict[str, dict[str, Floats]], default: str
) -> pl.DataFrame:
    """Intervals of methods, and of their paired difference to the default one.

    Args:
        protocol: for the rows.
        budget: for the rows.
        rounds: by method and measure, the mean over seeds in every round [R].
        default: the method that others are compared with; without it differences are null.

    Returns:
        Rows of `SCHEMA`.
    """
    rows = []
    for method, by_measure in rounds.items():
        for measure, values_R in by_measure.items():
            low, high = interval(values_R)
            diff_low = diff_high = None
            if default in rounds and method != default:
                diff_low, diff_high = interval(values_R - rounds[default][measure])
            rows.append((protocol, budget, method, measure, low, high, diff_low, diff_high))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")
