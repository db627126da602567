"""What tells one model from two, and how the parts are weighed."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locus.embedding.calibration import sigmoid

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_STEPS = 50

# What each feature may say of "same": distance, rarity of the place, agreement.
_SIGNS = np.array([-1.0, 1.0, 1.0])


class FingerprintError(ValueError):
    """A test that can't be calibrated or made; the message says what is missing."""


def place_features(
    mean1_Pk: ArrayLike, cov1_Pkk: ArrayLike, mean2_Pk: ArrayLike, cov2_Pkk: ArrayLike
) -> Floats:
    """How far apart pairs of places are, and how rare the place is that they would share.

    The first is the squared Mahalanobis distance (m1 - m2)' (C1 + C2)^-1 (m1 - m2) / k. The second
    is what is left of the log Bayes factor of "one model" against "two drawn from the prior",
    log of the integral of N(x; m1, C1) N(x; m2, C2) / N(x; 0, I), per k, when half the first is
    added back: it is large where both lie far from the average model, or are known well.

    Returns:
        [P, 2].

    Raises:
        FingerprintError: shapes differ, or covariances are not those of posteriors under a
            standard normal prior (positive definite, nowhere wider than it).
    """
    m1, c1, m2, c2 = (
        np.asarray(x, dtype=np.float64) for x in (mean1_Pk, cov1_Pkk, mean2_Pk, cov2_Pkk)
    )
    if m1.ndim != 2 or m1.shape != m2.shape or c1.shape != c2.shape or c1.shape[:2] != m1.shape:
        raise FingerprintError(
            f"places of shapes {m1.shape} {c1.shape} and {m2.shape} {c2.shape} can't be compared"
        )
    k = m1.shape[1]
    apart = m1 - m2
    try:
        distance_P = _form(apart, c1 + c2)
        p1: Floats = np.asarray(np.linalg.inv(c1), dtype=np.float64)
        p2: Floats = np.asarray(np.linalg.inv(c2), dtype=np.float64)
        # The prior is in both posteriors, and must count once.
        joint = p1 + p2 - np.eye(k)
        np.linalg.cholesky(joint)
        h = np.einsum("pij,pj->pi", p1, m1) + np.einsum("pij,pj->pi", p2, m2)
        half_logs = 0.5 * (_logdet(p1) + _logdet(p2) - _logdet(joint))
        inner = _form(h, joint) - _form(m1, c1) - _form(m2, c2)
    except np.linalg.LinAlgError as error:
        raise FingerprintError(
            "a covariance is not that of a posterior under a standard normal prior"
        ) from error
    evidence_P = half_logs + 0.5 * inner
    features = np.stack([distance_P, evidence_P + 0.5 * distance_P], axis=1) / k
    if not np.isfinite(features).all():
        raise FingerprintError("a place or its covariance is not finite; place it again")
    return np.asarray(features)


def agreement(agree_P: Floats, n_common: int, near: float, noise: float) -> Floats:
    """Log-likelihood ratio of the agreements: one endpoint twice, against two near models."""
    return np.asarray(
        agree_P * np.log((1 - noise) / near) + (n_common - agree_P) * np.log(noise / (1 - near))
    )


def logistic(features_Pf: Floats, same_P: NDArray[np.bool_]) -> Floats:
    """Weights of a logistic regression: the intercept, then one a feature, on its own scale.

    No weight may have the wrong sign (distance speaks against "same", the rest for it): a feature
    that would take one, because the pairs are hard or few, is left out at weight 0. So two
    endpoints that lie further apart than any calibration pair are never called the same for it.
    """
    kept = np.arange(features_Pf.shape[1])
    while True:
        weights = _newton(features_Pf[:, kept], same_P)
        wrong = weights[1:] * _SIGNS[kept] < 0
        if not wrong.any():
            break
        # One at a time, the worst first: without it, the others may turn right.
        effect = np.abs(weights[1:] * features_Pf[:, kept].std(axis=0)) * wrong
        kept = np.delete(kept, int(effect.argmax()))
    full = np.zeros(1 + features_Pf.shape[1])
    full[0], full[1 + kept] = weights[0], weights[1:]
    return full


def _newton(features_Pf: Floats, same_P: NDArray[np.bool_]) -> Floats:
    """Logistic regression with a unit ridge on standardised weights.

    The ridge keeps them finite where the pairs can be told apart without error.
    """
    centre, scale = features_Pf.mean(axis=0), features_Pf.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    x = np.column_stack([np.ones(len(features_Pf)), (features_Pf - centre) / scale])
    y = same_P.astype(np.float64)
    ridge = np.ones(x.shape[1])
    ridge[0] = 0
    w = np.zeros(x.shape[1])
    for _ in range(_STEPS):
        p = sigmoid(x @ w)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + np.diag(ridge + 1e-9)
        step = np.linalg.solve(hessian, x.T @ (y - p) - ridge * w)
        # A full step may overshoot while the classes are all but separated.
        w = w + step / max(1.0, float(np.abs(step).max()) / 2)
        if np.abs(step).max() < 1e-9:
            break
    slopes = w[1:] / scale
    return np.concatenate([[w[0] - slopes @ centre], slopes])


def _form(x_Pk: Floats, inverse_of_Pkk: Floats) -> Floats:
    """X' A^-1 x for each pair."""
    solved = np.linalg.solve(inverse_of_Pkk, x_Pk[..., None])[..., 0]
    return np.asarray((x_Pk * solved).sum(axis=1))


def _logdet(x_Pkk: Floats) -> Floats:
    sign, log = np.linalg.slogdet(x_Pkk)
    return np.asarray(np.where(sign > 0, log, np.nan))
