"""UniRoute: models as vectors of their errors on clusters of queries."""

import warnings
from typing import Any

import numpy as np

from locus.bank import Array, Bank, Queries
from locus.peers.trivial import GroupMeans, bce, one_hot, unit


class UniRoute:
    """A model is its mean score per cluster of queries; a target takes its nearest cluster's.

    Source: "Universal Model Routing for Efficient LLM Inference" (Jitkrittum et al., 2025,
    section 5.1: k-means over encodings of unlabelled queries). Settings: k-means++ on unit
    encodings, all bank queries; the number of clusters is the one of `clusters` with the lowest
    validation BCE for the bank's models. Unlike the paper's, the means are shrunk (`GroupMeans`),
    which a model with few scores needs.
    """

    name = "UniRoute"
    needs_benchmark = False

    def __init__(self, clusters: tuple[int, ...] = (2, 4, 8, 16, 32, 64)) -> None:
        if not clusters or min(clusters) < 1:
            raise ValueError(f"clusters are {clusters}: give numbers of 1 and more")
        self.clusters = clusters

    def fit(self, bank: Bank, seed: int) -> None:
        """Cluster the bank's queries."""
        best = float("inf")
        phi_Qp = unit(bank.queries.phi_Qp)
        # Duplicate queries can't seed clusters of their own.
        most = len(np.unique(phi_Qp, axis=0))
        for n_clusters in sorted({min(k, most) for k in self.clusters}):
            centroid_Kp = _k_means(phi_Qp, n_clusters, seed)
            member_QK = _nearest(phi_Qp, centroid_Kp)
            means = GroupMeans.fit(bank.values_MQ, member_QK)
            p_MV = means.place(bank.values_MQ) @ _nearest(bank.val_queries.phi_Qp, centroid_Kp).T
            loss = bce(p_MV, bank.val_values_MV)
            if loss < best:
                best, self._means, self._centroid_Kp = loss, means, centroid_Kp

    def place(self, values_BQ: Array) -> Array:
        """Mean scores per cluster [B, K]."""
        return self._means.place(values_BQ)

    def predict(self, placed: Array, targets: Queries) -> Array:
        """The mean in the target's cluster, [B, T]."""
        p: Array = placed @ _nearest(targets.phi_Qp, self._centroid_Kp).T
        return p


def _k_means(phi_Qp: Array, n_clusters: int, seed: int) -> Array:
    from scipy.cluster.vq import kmeans2

    rng = np.random.default_rng(seed)
    # A cluster that loses its last query keeps its centroid: "warn" only says so.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found: Any = kmeans2(phi_Qp, n_clusters, iter=50, minit="++", missing="warn", rng=rng)
    centroid: Array = np.asarray(found[0], dtype=np.float32)
    return centroid


def _nearest(phi_Np: Array, centroid_Kp: Array) -> Array:
    """One-hot [N, K] of the nearest centroid by Euclidean distance between unit encodings."""
    gap_NK = (centroid_Kp**2).sum(1) - 2 * (unit(phi_Np) @ centroid_Kp.T)
    return one_hot(gap_NK.argmin(1), len(centroid_Kp))
