"""Measures of one prediction matrix against the answers; missing answers are left out.

A graded score of 0.5 or more counts as right where a measure asks for right or wrong (accuracy and
AUC), as in `locus.similarity`.
"""

import numpy as np
from numpy.typing import NDArray

from locus.bank import Array
from locus.routing.quality import expected_calibration_error

EDGE = 1e-4
"""Predictions are cut to [EDGE, 1 - EDGE] before their logarithm is taken."""
RIGHT = 0.5


def auc(y: Array, p: Array) -> float:
    """Area under the ROC curve by ranks, ties counted half; NaN if only one class is there."""
    from scipy.stats import rankdata

    right = y >= RIGHT
    n1, n0 = int(right.sum()), int((~right).sum())
    if not n1 or not n0:
        return float("nan")
    ranks = rankdata(p)
    return float((ranks[right].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))


def losses(p: Array, y: Array) -> NDArray[np.float64]:
    """Binary cross-entropy of each entry, in nats; NaN where there is no answer."""
    clipped = np.clip(p.astype(np.float64), EDGE, 1 - EDGE)
    return np.asarray(-(y * np.log(clipped) + (1 - y) * np.log1p(-clipped)))


def best_of_first(p_MT: Array, y_MT: Array, k: int) -> Array:
    """Best score among the k models ranked first for each query, of those that answered it [T].

    NaN where nobody answered. Models with the same prediction stand in the order of the rows.
    """
    chosen = np.where(np.isnan(y_MT), -np.inf, p_MT)
    order = np.argsort(-chosen, axis=0, kind="stable")[:k]
    ranked = np.take_along_axis(y_MT, order, axis=0)
    best: Array = np.where(np.isnan(ranked), -1, ranked).max(axis=0)
    return np.where(best < 0, np.nan, best)


def hit_at(p_MT: Array, y_MT: Array, k: int) -> float:
    """Mean over queries of `best_of_first`; NaN if no query was answered."""
    gain_T = best_of_first(p_MT, y_MT, k)
    answered = ~np.isnan(gain_T)
    return float(gain_T[answered].mean()) if answered.any() else float("nan")


def correctness(p: Array, y: Array) -> dict[str, float]:
    """Accuracy, AUC, BCE (nats), Brier and ECE of predictions and answers of the same shape.

    Raises:
        ValueError: shapes differ, or a prediction is not a probability.
    """
    if p.shape != y.shape:
        raise ValueError(f"predictions {p.shape} for answers {y.shape}")
    if not np.isfinite(p).all() or p.min(initial=0) < 0 or p.max(initial=1) > 1:
        raise ValueError("predictions must be probabilities in [0, 1]")
    known = ~np.isnan(y)
    if not known.any():
        return dict.fromkeys(("accuracy", "auc", "bce", "brier", "ece"), float("nan"))
    p, y = p[known], y[known]
    return {
        "accuracy": float(((p >= RIGHT) == (y >= RIGHT)).mean()),
        "auc": auc(y, p),
        "bce": float(losses(p, y).mean()),
        "brier": float(((p - y).astype(np.float64) ** 2).mean()),
        "ece": expected_calibration_error(p, y),
    }


def measures(p_MT: Array, y_MT: Array) -> dict[str, float]:
    """All measures of predictions [M, T] against scores [M, T], NaN where missing.

    Returns:
        Those of `correctness`, and hit1, hit3, hit5.

    Raises:
        ValueError: as `correctness`.
    """
    hits = {f"hit{k}": hit_at(p_MT, y_MT, k) for k in (1, 3, 5)}
    return {**correctness(p_MT, y_MT), **hits}


def accuracy_error(
    p_test_MT: Array,
    y_test_MT: Array,
    p_bank_Mm: Array,
    y_bank_Mm: Array,
    asked_Mm: NDArray[np.bool_],
) -> float:
    """Mean absolute error of the models' predicted overall accuracy.

    Overall is the mean score over bank and test queries together, as far as it was observed.
    Predicted: scores that the model was placed from count as they are, all others as predicted.
    Models that nobody scored are left out.
    """
    y = np.concatenate([y_bank_Mm, y_test_MT], axis=1).astype(np.float64)
    guess = np.where(asked_Mm, y_bank_Mm, p_bank_Mm)
    p = np.concatenate([guess, p_test_MT], axis=1).astype(np.float64)
    known = ~np.isnan(y)
    count = known.sum(axis=1)
    error = np.abs(np.where(known, p - y, 0).sum(axis=1))[count > 0] / count[count > 0]
    return float(error.mean()) if len(error) else float("nan")


def random_hits(y_MT: Array, draws: int = 20) -> dict[str, float]:
    """hit1, hit3 and hit5 of choosing at random, the mean of some draws."""
    rng = np.random.default_rng(0)
    noise = [rng.random(y_MT.shape).astype(np.float32) for _ in range(draws)]
    return {f"hit{k}": float(np.mean([hit_at(p_MT, y_MT, k) for p_MT in noise])) for k in (1, 3, 5)}


def bars(y_MT: Array, rate: float) -> dict[str, dict[str, float]]:
    """Rows that no method makes: what is reached without one, and what can be reached at all.

    Args:
        y_MT: answers.
        rate: mean score of the learning models: predicted for everything by ``base rate``, whose
            choices are random.
    """
    known = ~np.isnan(y_MT)
    base = correctness(np.full_like(y_MT, rate), y_MT)
    total = np.where(known, y_MT, 0).sum(axis=1, keepdims=True)
    single = np.broadcast_to(total / np.maximum(known.sum(axis=1, keepdims=True), 1), y_MT.shape)
    return {
        "base rate, random choice": {**base, **random_hits(y_MT)},
        "best single in hindsight": measures(single.astype(np.float32), y_MT),
        "oracle": measures(np.where(known, y_MT, 0.5).astype(np.float32), y_MT),
    }
