"""Measures of one prediction matrix against the answers; missing answers are left out."""

import numpy as np
from numpy.typing import NDArray

from locus.bank import Array
from locus.routing.quality import expected_calibration_error

_EDGE = 1e-4


def auc(y: Array, p: Array) -> float:
    """Area under the ROC curve by ranks, ties counted half; NaN if only one class is there."""
    from scipy.stats import rankdata

    right = y > 0.5
    n1, n0 = int(right.sum()), int((~right).sum())
    if not n1 or not n0:
        return float("nan")
    ranks = rankdata(p)
    return float((ranks[right].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))


def hit_at(p_MT: Array, y_MT: Array, k: int) -> float:
    """Mean best score among the k models ranked first, for each query among those that answered."""
    chosen = np.where(np.isnan(y_MT), -np.inf, p_MT)
    order = np.argsort(-chosen, axis=0, kind="stable")[:k]
    best = np.nanmax(np.take_along_axis(y_MT, order, axis=0), axis=0)
    return float(np.nanmean(best))


def measures(p_MT: Array, y_MT: Array) -> dict[str, float]:
    """All measures of predictions [M, T] against scores [M, T], NaN where missing.

    Returns:
        accuracy, auc, bce (nats), brier, ece, hit1, hit3, hit5, accuracy_error (mean absolute
        error of each model's predicted overall accuracy).

    Raises:
        ValueError: shapes differ, or a prediction is not a probability.
    """
    if p_MT.shape != y_MT.shape:
        raise ValueError(f"predictions {p_MT.shape} for answers {y_MT.shape}")
    if not np.isfinite(p_MT).all() or p_MT.min() < 0 or p_MT.max() > 1:
        raise ValueError("predictions must be probabilities in [0, 1]")
    answered = ~np.isnan(y_MT).all(axis=0)
    p_MT, y_MT = p_MT[:, answered], y_MT[:, answered]
    known = ~np.isnan(y_MT)
    p, y = p_MT[known], y_MT[known]
    clipped = np.clip(p, _EDGE, 1 - _EDGE).astype(np.float64)
    return {
        "accuracy": float(((p > 0.5) == (y > 0.5)).mean()),
        "auc": auc(y, p),
        "bce": float(-(y * np.log(clipped) + (1 - y) * np.log(1 - clipped)).mean()),
        "brier": float(((p - y) ** 2).mean()),
        "ece": expected_calibration_error(p, y),
        "hit1": hit_at(p_MT, y_MT, 1),
        "hit3": hit_at(p_MT, y_MT, 3),
        "hit5": hit_at(p_MT, y_MT, 5),
        "accuracy_error": _accuracy_error(p_MT, y_MT, known),
    }


def _accuracy_error(p_MT: Array, y_MT: Array, known: NDArray[np.bool_]) -> float:
    count = np.maximum(known.sum(axis=1), 1)
    predicted = np.where(known, p_MT, 0).sum(axis=1) / count
    observed = np.where(known, y_MT, 0).sum(axis=1) / count
    return float(np.abs(predicted - observed)[known.any(axis=1)].mean())
