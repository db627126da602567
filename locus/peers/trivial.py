"""Methods that read no query text, or only guess its benchmark; and the shrunk means they share.

Shape letters as in `locus.bank`, and K for groups of queries (benchmarks, clusters).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from locus.bank import Array, Bank, Queries


def bce(p: Array, y: Array) -> float:
    """Mean binary cross-entropy in nats over the entries of ``y`` that are not NaN.

    Raises:
        ValueError: ``y`` has no entry.
    """
    known = ~np.isnan(y)
    if not known.any():
        raise ValueError("there are no scores to compare with: put some into the bank")
    q, s = np.clip(p[known].astype(np.float64), 1e-4, 1 - 1e-4), y[known]
    return float(-(s * np.log(q) + (1 - s) * np.log1p(-q)).mean())


def _pseudo_counts(residual_MQ: Array, member_QK: Array) -> float:
    """Scores that a group's prior weighs: noise within over variance between, by moments.

    Both are pooled over models and groups as DerSimonian and Laird (1986) do for studies.
    Kept within [1, 1000]: a tiny bank can't tell more than that.
    """
    known = (~np.isnan(residual_MQ)).astype(np.float64)
    r = np.nan_to_num(residual_MQ).astype(np.float64)
    n, total, square = known @ member_QK, r @ member_QK, (r * r) @ member_QK
    many = n >= 2
    if not many.any():
        return 10.0
    n, total, square = n[many], total[many], square[many]
    within = float((square - total**2 / n).sum() / (n - 1).sum())
    # E[total^2 / n] = within + n * between, for effects with mean zero.
    between = float((total**2 / n - within).sum() / n.sum())
    return float(np.clip(within / max(between, 1e-9), 1.0, 1000.0))


@dataclass(frozen=True)
class GroupMeans:
    """A model's mean score in each group of queries, shrunk twice.

    group mean of all training models -> plus the model's overall deviation -> plus its deviation
    in that group. How much each step is trusted comes from the variances in the bank.

    Attributes:
        member_QK: 1 where a bank query is in a group, else 0.
        base_K: mean score of the training models in each group.
        strength_model: pseudo-counts against a model's overall deviation.
        strength_group: pseudo-counts against its deviation in one group.
    """

    member_QK: Array
    base_K: Array
    strength_model: float
    strength_group: float

    @classmethod
    def fit(cls, values_MQ: Array, member_QK: Array) -> "GroupMeans":
        """Learn base and strengths.

        Raises:
            ValueError: no score at all.
        """
        known = ~np.isnan(values_MQ)
        if not known.any():
            raise ValueError("the bank has no scores: give it some before fitting a method")
        overall = np.nanmean(values_MQ)
        n_K = known.sum(0) @ member_QK
        total_K = np.nansum(values_MQ, 0) @ member_QK
        # One pseudo-count: a group that nobody answered gets the overall mean.
        base_K = ((total_K + overall) / (n_K + 1)).astype(np.float32)
        residual_MQ = values_MQ - member_QK @ base_K
        one_Q1 = np.ones((len(member_QK), 1), np.float32)
        strength_model = _pseudo_counts(residual_MQ, one_Q1)
        left_MQ = residual_MQ - _deviation(residual_MQ, strength_model)
        return cls(member_QK, base_K, strength_model, _pseudo_counts(left_MQ, member_QK))

    def place(self, values_BQ: Array) -> Array:
        """Means [B, K] within [0, 1]; a model without scores gets the training models'."""
        deviation_B1 = _deviation(values_BQ - self.member_QK @ self.base_K, self.strength_model)
        prior_BK = self.base_K + deviation_B1
        n_BK = (~np.isnan(values_BQ)).astype(np.float32) @ self.member_QK
        total_BK = np.nan_to_num(values_BQ) @ self.member_QK
        mean_BK = (total_BK + self.strength_group * prior_BK) / (n_BK + self.strength_group)
        placed_BK: Array = np.clip(mean_BK, 0, 1).astype(np.float32)
        return placed_BK


def _deviation(residual_BQ: Array, strength: float) -> Array:
    """Shrunk mean of what is known in each row, [B, 1]."""
    n_B1 = (~np.isnan(residual_BQ)).sum(1, keepdims=True)
    shrunk: Array = np.nansum(residual_BQ, 1, keepdims=True) / (n_B1 + strength)
    return shrunk


def one_hot(group_Q: np.ndarray[Any, np.dtype[np.int64]], n_groups: int) -> Array:
    """[Q, K] with a 1 per row; a row with group -1 gets the same weight everywhere."""
    member: Array = np.eye(n_groups, dtype=np.float32)[np.maximum(group_Q, 0)]
    member[group_Q < 0] = 1 / n_groups
    return member


class BestSingle:
    """Each model's overall mean score for every query, so that routing takes the best model.

    Source: the trivial row of every routing table. Settings: shrinkage by moments, none free.
    """

    name = "best single"
    needs_benchmark = False

    def fit(self, bank: Bank, seed: int) -> None:
        """Learn mean and shrinkage; nothing here is random."""
        one_Q1 = np.ones((len(bank.queries), 1), np.float32)
        self._means = GroupMeans.fit(bank.values_MQ, one_Q1)

    def place(self, values_BQ: Array) -> Array:
        """Mean scores [B, 1]."""
        return self._means.place(values_BQ)

    def predict(self, placed: Array, targets: Queries) -> Array:
        """The same for every query, [B, T]."""
        return np.repeat(placed, len(targets), axis=1)


class Majority:
    """A model's mean score on the benchmark of the target, which must be known.

    Source: the trivial row "(model, benchmark) majority"; it reads no query text. Ranked by it,
    each query goes to the best model of its benchmark: "best per benchmark" is this method and
    has no class of its own. Settings: shrinkage by moments, none free. A target of a benchmark
    that the bank lacks gets the plain average over the model's benchmarks.
    """

    name = "majority (benchmark known)"
    needs_benchmark = True

    def fit(self, bank: Bank, seed: int) -> None:
        """Learn means and shrinkage; nothing here is random."""
        self._benchmarks = sorted(set(bank.queries.benchmark))
        self._means = GroupMeans.fit(bank.values_MQ, self._member(bank.queries.benchmark))

    def _member(self, benchmark: tuple[str, ...]) -> Array:
        position = {b: k for k, b in enumerate(self._benchmarks)}
        group = np.array([position.get(b, -1) for b in benchmark], dtype=np.int64)
        return one_hot(group, len(position))

    def place(self, values_BQ: Array) -> Array:
        """Mean scores [B, K]."""
        return self._means.place(values_BQ)

    def predict(self, placed: Array, targets: Queries) -> Array:
        """The mean on the target's benchmark, [B, T]."""
        return placed @ self._member(targets.benchmark).T


class MajorityPredicted(Majority):
    """As `Majority`, with the benchmark of the target guessed softly from its encoding.

    Source: nearest centroid with a softmax over cosines and class shares (a softened
    "best per benchmark", usable in a router). Settings: the softmax's temperature is the one of
    `SHARPNESS` that gives validation queries' benchmarks the lowest cross-entropy.
    """

    name = "majority (benchmark predicted)"
    needs_benchmark = False
    SHARPNESS = (1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0)

    def fit(self, bank: Bank, seed: int) -> None:
        """Learn means, shrinkage, centroids and temperature; nothing here is random."""
        super().fit(bank, seed)
        member_QK = self._member(bank.queries.benchmark)
        # A sum points where the mean does, and only the direction counts.
        self._centroid_Kp = unit(member_QK.T @ unit(bank.queries.phi_Qp))
        self._log_share_K = np.log(member_QK.mean(0))
        val_member_VK = self._member(bank.val_queries.benchmark)

        def loss(sharpness: float) -> float:
            p_VK = self._benchmark_of(bank.val_queries.phi_Qp, sharpness)
            return float(-(val_member_VK * np.log(p_VK + 1e-9)).sum())

        self._sharpness = min(self.SHARPNESS, key=loss)

    def _benchmark_of(self, phi_Tp: Array, sharpness: float) -> Array:
        logit_TK = sharpness * (unit(phi_Tp) @ self._centroid_Kp.T) + self._log_share_K
        p_TK = np.exp(logit_TK - logit_TK.max(1, keepdims=True))
        share_TK: Array = (p_TK / p_TK.sum(1, keepdims=True)).astype(np.float32)
        return share_TK

    def predict(self, placed: Array, targets: Queries) -> Array:
        """The mean over benchmarks, weighed by how likely each is, [B, T]."""
        p: Array = np.clip(placed @ self._benchmark_of(targets.phi_Qp, self._sharpness).T, 0, 1)
        return p


def unit(x_Np: Array) -> Array:
    """Rows scaled to length 1; a row of zeros stays."""
    length = np.linalg.norm(x_Np, axis=1, keepdims=True)
    scaled: Array = (x_Np / np.maximum(length, 1e-9)).astype(np.float32)
    return scaled
