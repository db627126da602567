"""Ridge regression of a model's scores on query encodings."""

import itertools
from dataclasses import dataclass

import numpy as np

from locus.bank import Array, Bank, Queries
from locus.peers.trivial import GroupMeans, bce

# Predictions are a line's: cut off before they claim certainty.
_LEAST = 0.02
# Bank models that the penalty is chosen on: enough, and cheap.
_STEERING = 32


@dataclass(frozen=True)
class _Placed:
    mean_B1: Array
    weight_Bp: Array


class RidgeOnEncodings:
    """Per model a ridge regression from query encoding to score, on its answered queries.

    Source: ridge regression (Hoerl and Kennard, 1970), on a sentence encoder's space as the space
    of tasks. Settings: closed form; encodings centred on the bank; the intercept is the model's
    shrunk mean; the penalty is the one of `PENALTIES` with the lowest validation BCE over at most
    32 bank models drawn by the seed. With `pooled`, what is regressed is the distance from a
    ridge of the training models' mean score, so that models share what makes a query hard; a
    model without scores gets that alone (without `pooled`, the training models' mean).
    """

    needs_benchmark = False
    PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)

    def __init__(self, pooled: bool = False) -> None:
        self.pooled = pooled
        self.name = "ridge, pooled prior" if pooled else "ridge"

    def fit(self, bank: Bank, seed: int) -> None:
        """Choose penalties, one for the model and, with `pooled`, one for the shared ridge."""
        self._centre_p = bank.queries.phi_Qp.mean(0)
        self._phi_Qp = bank.queries.phi_Qp - self._centre_p
        self._means = GroupMeans.fit(
            bank.values_MQ, np.ones((len(bank.queries), 1), dtype=np.float32)
        )
        rng = np.random.default_rng(seed)
        usable = np.flatnonzero((~np.isnan(bank.val_values_MV)).any(1))
        rows = np.sort(rng.permutation(usable)[:_STEERING])
        self._shared_p = np.zeros(self._phi_Qp.shape[1], np.float32)
        best = (float("inf"), self._shared_p, self.PENALTIES[-1])
        shared_penalties = self.PENALTIES if self.pooled else (None,)
        mean_1Q = _mean_of_residuals(bank.values_MQ)
        shared = {
            c: self._shared_p if c is None else _ridge(self._phi_Qp, mean_1Q, c)[0]
            for c in shared_penalties
        }
        for (_, w_p), penalty in itertools.product(shared.items(), self.PENALTIES):
            self._shared_p, self._penalty = w_p, penalty
            p = self.predict(self.place(bank.values_MQ[rows]), bank.val_queries)
            loss = bce(p, bank.val_values_MV[rows])
            if loss < best[0]:
                best = (loss, w_p, penalty)
        _, self._shared_p, self._penalty = best

    def place(self, values_BQ: Array) -> _Placed:
        """Intercepts and weights."""
        mean_B1 = self._means.place(values_BQ)
        residual_BQ = values_BQ - mean_B1 - self._phi_Qp @ self._shared_p
        return _Placed(mean_B1, self._shared_p + _ridge(self._phi_Qp, residual_BQ, self._penalty))

    def predict(self, placed: _Placed, targets: Queries) -> Array:
        """The line's value cut to [0.02, 0.98], [B, T]."""
        p = placed.mean_B1 + placed.weight_Bp @ (targets.phi_Qp - self._centre_p).T
        cut_BT: Array = np.clip(p, _LEAST, 1 - _LEAST).astype(np.float32)
        return cut_BT


def _mean_of_residuals(values_MQ: Array) -> Array:
    """How much better each query is answered than its answerers' average, [1, Q], NaN if never."""
    known = ~np.isnan(values_MQ)
    n_M1 = np.maximum(known.sum(1, keepdims=True), 1)
    residual = values_MQ - np.nansum(values_MQ, 1, keepdims=True) / n_M1
    n_Q = known.sum(0)
    mean_Q = np.nansum(residual, 0) / np.maximum(n_Q, 1)
    return np.where(n_Q > 0, mean_Q, np.nan)[None].astype(np.float32)


def _ridge(phi_Qp: Array, y_BQ: Array, penalty: float) -> Array:
    """Weights [B, p] that minimise |y - phi w|^2 + penalty |w|^2 over each row's known entries."""
    known_BQ = ~np.isnan(y_BQ)
    weight = np.zeros((len(y_BQ), phi_Qp.shape[1]), np.float32)
    patterns, row_of = np.unique(known_BQ, axis=0, return_inverse=True)
    # Models that answered the same queries share one factorisation.
    for i, pattern in enumerate(patterns):
        rows = np.flatnonzero(row_of.ravel() == i)
        x, y = phi_Qp[pattern].astype(np.float64), y_BQ[rows][:, pattern].T.astype(np.float64)
        n, p = x.shape
        if n > p:
            weight[rows] = np.linalg.solve(x.T @ x + penalty * np.eye(p), x.T @ y).T
        else:
            weight[rows] = (x.T @ np.linalg.solve(x @ x.T + penalty * np.eye(n), y)).T
    return weight
