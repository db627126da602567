"""Nearest neighbours: what a model scored on the queries most like the target."""

from dataclasses import dataclass

import numpy as np

from locus.bank import Array, Bank, Queries
from locus.peers.trivial import GroupMeans, bce, unit


@dataclass(frozen=True)
class _Placed:
    values_BQ: Array
    mean_B1: Array


class KNearest:
    """A model's mean score on its own k nearest answered bank queries, shrunk to its mean.

    Source: the kNN router that routing papers compare with (such as RouterBench, Hu et al. 2024,
    section 4). Settings: cosine of the encodings; k = 32, or all answered queries where there are
    fewer; the weight of the model's overall (shrunk) mean, in pseudo-neighbours, is the one of
    `SHRINKAGE` with the lowest validation BCE for the bank's models.
    """

    name = "kNN"
    needs_benchmark = False
    SHRINKAGE = (1.0, 4.0, 8.0, 16.0, 32.0, 64.0)

    def __init__(self, k: int = 32) -> None:
        if k < 1:
            raise ValueError(f"k is {k}: take 1 neighbour at least")
        self.k = k

    def fit(self, bank: Bank, seed: int) -> None:
        """Keep the bank's encodings and choose the shrinkage; nothing here is random."""
        self._phi_Qp = unit(bank.queries.phi_Qp)
        one_Q1 = np.ones((len(bank.queries), 1), np.float32)
        self._means = GroupMeans.fit(bank.values_MQ, one_Q1)
        placed = self.place(bank.values_MQ)
        total, n = self._neighbours(placed.values_BQ, bank.val_queries.phi_Qp)

        def loss(shrinkage: float) -> float:
            return bce(_shrink(total, n, placed.mean_B1, shrinkage), bank.val_values_MV)

        self._shrinkage = min(self.SHRINKAGE, key=loss)

    def place(self, values_BQ: Array) -> _Placed:
        """The scores themselves, and the shrunk means."""
        return _Placed(values_BQ, self._means.place(values_BQ))

    def _neighbours(self, values_BQ: Array, phi_Tp: Array) -> tuple[Array, Array]:
        """Sum of scores and number of neighbours, [B, T] each."""
        # Bank queries by nearness, sorted once for all models; equal ones keep their order.
        nearest_TQ = np.argsort(-(unit(phi_Tp) @ self._phi_Qp.T), axis=1, kind="stable")
        total = np.zeros((len(values_BQ), len(phi_Tp)), np.float32)
        n = np.zeros_like(total)
        for b, value_Q in enumerate(values_BQ):
            answered_Q = ~np.isnan(value_Q)
            known_TQ = answered_Q[nearest_TQ]
            taken_TQ = known_TQ & (np.cumsum(known_TQ, axis=1) <= self.k)
            total[b] = (np.nan_to_num(value_Q)[nearest_TQ] * taken_TQ).sum(1)
            n[b] = taken_TQ.sum(1)
        return total, n

    def predict(self, placed: _Placed, targets: Queries) -> Array:
        """Shrunk mean over neighbours, [B, T]."""
        total, n = self._neighbours(placed.values_BQ, targets.phi_Qp)
        return _shrink(total, n, placed.mean_B1, self._shrinkage)


def _shrink(total_BT: Array, n_BT: Array, mean_B1: Array, shrinkage: float) -> Array:
    p_BT = (total_BT + shrinkage * mean_B1) / (n_BT + shrinkage)
    cut_BT: Array = np.clip(p_BT, 0, 1).astype(np.float32)
    return cut_BT
