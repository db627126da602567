"""Platt scaling: probabilities that come true as often as they say."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EDGE = 0.02
"""Linear predictions nearer than this to 0 or 1 are bent, since no model is that sure."""


@dataclass(frozen=True)
class Calibration:
    """sigmoid(intercept + slope * logit(p)).

    Source: Platt, "Probabilistic outputs for support vector machines" (1999).

    Attributes:
        intercept: 0 leaves the level as it is.
        slope: 1 leaves the spread as it is.
    """

    intercept: float
    slope: float

    @classmethod
    def fit(cls, p: Floats, y: Floats, weight: Floats | None = None) -> "Calibration":
        """Fit on predictions strictly within (0, 1) and scores in [0, 1], by Newton's method.

        ``weight`` says for how many scores each one counts; None is one.

        The slope is pulled a little towards 1, which settles it where predictions do not vary.
        """
        x = np.stack([np.ones_like(p), logit(p)], axis=1)
        beta = np.array([0.0, 1.0])
        prior, strength = np.array([0.0, 1.0]), np.array([1e-6, 1.0])
        times = np.ones_like(p) if weight is None else weight
        for _ in range(25):
            q = sigmoid(x @ beta)
            gradient = x.T @ (times * (y - q)) - strength * (beta - prior)
            hessian = (x * (times * q * (1 - q))[:, None]).T @ x + np.diag(strength)
            step = np.linalg.solve(hessian, gradient)
            beta = beta + step
            if np.abs(step).max() < 1e-8:
                break
        return cls(float(beta[0]), float(beta[1]))

    def __call__(self, p: Floats) -> NDArray[np.float32]:
        """Calibrated probabilities, float32, of predictions strictly within (0, 1)."""
        return sigmoid(self.intercept + self.slope * logit(p)).astype(np.float32)


UNCALIBRATED = Calibration(0.0, 1.0)


def bounded(raw: Floats) -> Floats:
    """Bring linear predictions into (0, 1): as they are within the edges, bent beyond them.

    Strictly increasing, so that the best of many models that are all sure to be right is still
    the best; never nearer to 0 or 1 than half of `EDGE`.
    """
    over = np.maximum(raw - (1 - EDGE), 0) / EDGE
    under = np.maximum(EDGE - raw, 0) / EDGE
    bend = EDGE / 2 * (over / (1 + over) - under / (1 + under))
    return np.asarray(np.clip(raw, EDGE, 1 - EDGE) + bend)


def logit(p: Floats) -> Floats:
    """log(p / (1 - p))."""
    return np.asarray(np.log(p / (1 - p)))


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), without overflow on either side."""
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))
