"""How good routing is on held-out queries: hit@k against trivial choices and the oracle.

The label of a routed query is the chosen model's own score on it. A missing score is never
guessed: for each query only the models that have answered it can be chosen, by every method alike.
Intervals are percentile bootstraps over queries.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Quality:
    """One way of choosing and how often its choice was right.

    Attributes:
        method: its name.
        hit1: share of queries whose first choice is right (mean score for graded scores).
        low: lower end of the 95 % bootstrap interval.
        high: upper end.
        hit3: share of queries with a right answer among the first three choices; None where a
            method ranks no further than one.
        n: queries.
    """

    method: str
    hit1: float
    low: float
    high: float
    hit3: float | None
    n: int

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def _interval(gain_T: Array, rng: np.random.Generator, rounds: int) -> tuple[float, float]:
    """95 % percentile bootstrap of a mean over queries."""
    draws = rng.integers(0, len(gain_T), size=(rounds, len(gain_T)))
    low, high = np.quantile(gain_T[draws].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def routing_quality(
    p_TM: Array,
    scores_TM: Array,
    train_accuracy_M: Array,
    *,
    seed: int = 0,
    rounds: int = 2000,
) -> list[Quality]:
    """Compare routing by predicted correctness with best single, random and oracle.

    Args:
        p_TM: predicted P(correct) for test queries.
        scores_TM: what the models really scored there; NaN where missing.
        train_accuracy_M: each model's accuracy on training queries: the best single model is
            chosen by it, as a user without the test answers would.
        seed: of the bootstrap.
        rounds: bootstrap rounds.

    Returns:
        Rows ``routed``, ``best single`` (chosen on training queries), ``best single in
        hindsight`` (chosen on the test answers themselves, a bar nobody could have used),
        ``random`` (expectation) and ``oracle``. Empty if no query has two answers.
    """
    kept = (~np.isnan(scores_TM)).sum(axis=1) >= 2
    p, y = p_TM[kept], scores_TM[kept]
    if not len(y):
        return []
    rng = np.random.default_rng(seed)
    answered = ~np.isnan(y)
    hindsight_M = np.where(answered, y, 0).sum(0) / np.maximum(answered.sum(0), 1)
    ranked: list[tuple[str, Array]] = [
        ("routed", p),
        ("best single", np.broadcast_to(train_accuracy_M, y.shape)),
        ("best single in hindsight", np.broadcast_to(hindsight_M, y.shape)),
    ]
    rows = []
    for method, preference in ranked:
        top = _ranked_scores(preference, y)
        rows.append(_quality(method, top[:, 0], np.nanmax(top[:, :3], axis=1), rng, rounds))
    rows.append(_quality("random", np.nanmean(y, axis=1), None, rng, rounds))
    rows.append(_quality("oracle", np.nanmax(y, axis=1), None, rng, rounds))
    return rows


def _ranked_scores(preference_TM: Array, y_TM: Array) -> Array:
    """Scores in the order of preference; models without an answer come last, as NaN."""
    answered = np.where(np.isnan(y_TM), -np.inf, preference_TM)
    return np.take_along_axis(y_TM, np.argsort(-answered, axis=1, kind="stable"), axis=1)


def _quality(
    method: str, gain: Array, gain3: Array | None, rng: np.random.Generator, rounds: int
) -> Quality:
    low, high = _interval(gain, rng, rounds)
    hit3 = None if gain3 is None else float(gain3.mean())
    return Quality(method, float(gain.mean()), low, high, hit3, len(gain))


def expected_calibration_error(p: Array, y: Array, bins: int = 15) -> float:
    """Mean gap between predicted and observed rate over equal-width bins (Guo et al., 2017)."""
    if not len(p):
        return float("nan")
    index = np.minimum((p * bins).astype(int), bins - 1)
    count = np.bincount(index, minlength=bins)
    gap = np.abs(
        np.bincount(index, weights=p, minlength=bins)
        - np.bincount(index, weights=y, minlength=bins)
    )
    return float(gap.sum() / count.sum())
