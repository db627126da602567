"""Lower bounds of a model's accuracy in a bucket, calibrated on answers that nothing learned from.

A model's true accuracy in a bucket differs from its mean predicted P(correct) because its place is
not known exactly (the map says by how much) and because no map knows everything that sets a bucket
apart (measured here). How far down a bound must go is read off held-out pairs of bucket and model:
a one-sided split conformal quantile (Vovk et al., Algorithmic Learning in a Random World, 2005) of
residuals that are scaled by what is expected of them (Lei et al., 2018, section 5.2). All models
are asked the same held-out queries, so that pairs share the luck of these: the quantile is
bootstrapped over queries, and its lower end is taken. So a bound holds for 95 % or more.

Shape letters: T queries, M models, G buckets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEVEL = 0.95
FEWEST_ANSWERS = 5
"""Answers of a pair of bucket and model that count as evidence."""

BOOTSTRAPS = 50
MOST_MODELS = 300
"""Models that a bootstrap looks at; more say no more of the luck of queries."""

CAUTION = 0.1
"""Share of bootstrapped quantiles that are lower than the one that is taken."""

FEWEST_PAIRS = 60
"""Pairs without which nothing is said: a twentieth of fewer is a matter of two or three."""


@dataclass(frozen=True)
class Calibrated:
    """How far a lower bound lies below a mean prediction.

    Attributes:
        misfit: standard deviation of true accuracy around the prediction that no doubt about
            places explains.
        quantile: number of standard deviations below; 0 or less.
        pairs: pairs of bucket and model that it was read from.
    """

    misfit: float
    quantile: float
    pairs: int

    def lower(self, p: Floats, deviation: Floats) -> Floats:
        """Lower bounds of true accuracy, clipped to [0, 1], of the shape of the arguments."""
        below = self.quantile * np.sqrt(deviation**2 + self.misfit**2)
        return np.asarray(np.clip(p + below, 0, 1))


@dataclass(frozen=True)
class Check:
    """How often accuracy on test queries was below what the bound allows for.

    Attributes:
        level: share of pairs that the bound should hold for.
        held: share that it held for, chance in a finite sample allowed for.
        pairs: pairs of bucket and model.
    """

    level: float
    held: float
    pairs: int

    def to_dict(self) -> dict[str, float | int]:
        """As plain JSON values."""
        return dict(vars(self))


def calibrate(
    p_TM: Floats,
    y_TM: Floats,
    deviation_TM: Floats | None,
    buckets: Sequence[Ints],
    *,
    seed: int = 0,
) -> Calibrated | None:
    """Read off held-out answers how far a bound must go.

    Args:
        p_TM: predicted P(correct) of held-out queries, which the map hasn't learned from.
        y_TM: their scores, NaN where missing.
        deviation_TM: standard deviation of ``p_TM`` that is due to places; None where unknown.
        buckets: rows of each bucket.
        seed: of the bootstrap.

    Returns:
        None where there is too little evidence.
    """
    pairs = _pairs(p_TM, y_TM, deviation_TM, buckets)
    if len(pairs) < FEWEST_PAIRS:
        return None
    residual, noise, deviation = pairs.T
    # The part of the residuals' variance that neither chance nor places explain.
    misfit = np.sqrt(max(0.0, float(np.mean(residual**2 - noise - deviation**2))))
    drawn = _quantiles(p_TM, y_TM, deviation_TM, buckets, misfit, seed)
    quantile = min(_quantile(pairs, misfit), float(np.quantile(drawn, CAUTION)), 0.0)
    return Calibrated(float(misfit), quantile, len(pairs))


def _quantile(pairs: Floats, misfit: float) -> float:
    residual, noise, deviation = pairs.T
    scaled = np.sort(residual / np.sqrt(noise + deviation**2 + misfit**2))
    place = max(int(np.floor((1 - LEVEL) * (len(scaled) + 1))) - 1, 0)
    return float(scaled[place])


def _quantiles(
    p_TM: Floats,
    y_TM: Floats,
    deviation_TM: Floats | None,
    buckets: Sequence[Ints],
    misfit: float,
    seed: int,
) -> list[float]:
    """The quantile with queries drawn again, the same for all models and buckets."""
    rng = np.random.default_rng(seed)
    some = slice(None, None, -(-p_TM.shape[1] // MOST_MODELS))
    p_TM, y_TM = p_TM[:, some], y_TM[:, some]
    deviation_TM = None if deviation_TM is None else deviation_TM[:, some]
    rows = np.unique(np.concatenate(buckets))
    quantiles = []
    for _ in range(BOOTSTRAPS):
        weight_T = np.zeros(len(p_TM))
        weight_T[rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)))
        drawn = [np.repeat(b, weight_T[b].astype(np.int64)) for b in buckets]
        pairs = _pairs(p_TM, y_TM, deviation_TM, drawn)
        if len(pairs):
            quantiles.append(_quantile(pairs, misfit))
    return quantiles or [0.0]


def check(
    calibrated: Calibrated,
    p_TM: Floats,
    y_TM: Floats,
    deviation_TM: Floats | None,
    buckets: Sequence[Ints],
) -> Check | None:
    """How often the bound holds on other queries; arguments as in `calibrate`.

    Accuracy on a few queries varies by chance, so a pair counts as held while its accuracy is not
    below the bound by more than the same number of standard deviations, chance included, allows.
    """
    pairs = _pairs(p_TM, y_TM, deviation_TM, buckets)
    if len(pairs) < FEWEST_PAIRS:
        return None
    residual, noise, deviation = pairs.T
    spread = np.sqrt(noise + deviation**2 + calibrated.misfit**2)
    held = residual >= calibrated.quantile * spread
    return Check(LEVEL, float(held.mean()), len(pairs))


def _pairs(
    p_TM: Floats, y_TM: Floats, deviation_TM: Floats | None, buckets: Sequence[Ints]
) -> Floats:
    """Residual, variance by chance and deviation of each pair with enough answers, [n, 3]."""
    known_TM = ~np.isnan(y_TM)
    dev_TM = np.zeros_like(p_TM) if deviation_TM is None else deviation_TM
    found = []
    for rows in buckets:
        known = known_TM[rows]
        n_M = known.sum(axis=0)
        keep = n_M >= FEWEST_ANSWERS
        if not keep.any():
            continue
        n = n_M[keep]
        p = np.where(known, p_TM[rows], 0)[:, keep]
        y = np.where(known, y_TM[rows], 0)[:, keep]
        # Of graded scores p (1 - p) is the most that chance can do.
        noise = (p * (1 - p)).sum(axis=0) / n**2
        deviation = np.where(known, dev_TM[rows], 0)[:, keep].sum(axis=0) / n
        residual = (y.sum(axis=0) - p.sum(axis=0)) / n
        found.append(np.stack([residual, noise, deviation], axis=1))
    return np.concatenate(found) if found else np.empty((0, 3))
