"""What is believed of models from their answers, and what one more answer would change.

A model's factor weights are Gaussian. Asking a query with factors f and noise s changes their
covariance C by - C f f' C / (s + f' C f), whatever the answer, so a whole batch can be planned
before it is asked. The mean predictive variance over the targets, trace(C moment), falls by
f' C moment C f / (s + f' C f): the I-optimal criterion (Chaloner and Verdinelli, Bayesian
Experimental Design: A Review, 1995, section 2.3).

Shape letters: B models, Q bank queries, k factors.
"""

import numpy as np
from numpy.typing import NDArray

from locus.acquisition.items import EDGE, Floats, Items

Values = NDArray[np.float32] | NDArray[np.float64]


def noise_for(items: Items, mean_Bk: Floats, sharpness: float) -> Floats:
    """Noise of each query for each model [B, Q], larger where the model's answer is foregone.

    In a logistic model an answer's information is in proportion to p (1 - p), p being what is
    expected of the model at hand. The noise at the item's mean is therefore multiplied by
    (mean (1 - mean) / p (1 - p)) ** sharpness: 1 takes the logistic model at its word, 0 asks
    everybody alike.
    """
    average_Q = np.clip(items.mean_Q, EDGE, 1 - EDGE)
    p_BQ = np.clip(items.mean_Q + mean_Bk @ items.factors_Qk.T, EDGE, 1 - EDGE)
    ratio_BQ = average_Q * (1 - average_Q) / (p_BQ * (1 - p_BQ))
    return np.asarray(items.noise_Q * ratio_BQ**sharpness)


class Lookahead:
    """Covariances of models as they will be once the queries picked so far are answered.

    Everything is updated by rank one: O(Q k) per model and pick.

    Attributes:
        noise_BQ: noise of each query for each model.
        variance_BQ: what is not known of each expected score, f' C f.
    """

    def __init__(self, items: Items, cov_Bkk: Floats, noise_BQ: Floats) -> None:
        self._factors_Qk = items.factors_Qk
        self.noise_BQ = noise_BQ
        # moment = root root', also where it is singular.
        values, vectors = np.linalg.eigh(items.moment_kk)
        self._root_kk = vectors * np.sqrt(np.maximum(values, 0))
        self._spread_BQk = items.factors_Qk @ cov_Bkk  # C f
        self._reach_BQk = self._spread_BQk @ self._root_kk  # root' C f
        self.variance_BQ = np.einsum("bqk,qk->bq", self._spread_BQk, items.factors_Qk)
        self._cov_Bkk = cov_Bkk.copy()

    @property
    def cov_Bkk(self) -> Floats:
        """Covariances after the picks so far."""
        return self._cov_Bkk

    def gains(self) -> Floats:
        """By how much each query would lower the mean variance over the targets, [B, Q]."""
        reached = np.einsum("bqk,bqk->bq", self._reach_BQk, self._reach_BQk)
        return np.asarray(reached / (self.noise_BQ + self.variance_BQ))

    def ask(self, columns_B: NDArray[np.int64]) -> None:
        """Take one query per model as answered; -1 asks a model nothing."""
        rows = np.arange(len(columns_B))
        spread_Bk = self._spread_BQk[rows, columns_B]
        total_B = self.noise_BQ[rows, columns_B] + self.variance_BQ[rows, columns_B]
        weight_B = np.where(columns_B >= 0, 1 / total_B, 0.0)
        shared_BQ = (self._factors_Qk @ spread_Bk.T).T
        scaled_BQ = weight_B[:, None] * shared_BQ
        reach_Bk = spread_Bk @ self._root_kk
        self._spread_BQk -= scaled_BQ[:, :, None] * spread_Bk[:, None, :]
        self._reach_BQk -= scaled_BQ[:, :, None] * reach_Bk[:, None, :]
        self.variance_BQ -= scaled_BQ * shared_BQ
        outer = spread_Bk[:, :, None] * spread_Bk[:, None, :]
        self._cov_Bkk -= weight_B[:, None, None] * outer
