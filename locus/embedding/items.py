"""Items from the answers of many models: mean, factors and noise of each query of a bank.

Bayesian principal component analysis with missing values, by variational EM: a model is a Gaussian
vector, an item a Gaussian weight vector, each factor has its own prior variance, and a factor that
the data do not support loses its variance and drops out (automatic relevance determination).
Sources: Bishop, "Variational principal components" (1999); Ilin and Raiko, "Practical approaches to
principal component analysis in the presence of missing values" (JMLR 11, 2010).

What an item's text tells of it is the mean of its prior: an item that hardly anybody has answered
is what its text says, and one that many have answered is what they say.

Shape letters: M models, Q items, k factors; w = 1 + k weights of an item, its mean first.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# An item's own noise is pulled towards the pooled one as if that had been seen this many times.
_NOISE_PRIOR = 10.0
_LEAST_NOISE = 1e-3
# What answers say is not blown up by more than the inverse of this.
_LEAST_TRUST = 0.05
# A factor with less of the strongest factor's variance than this has dropped out.
_DROPPED = 1e-3


@dataclass(frozen=True)
class Items:
    """What the answers of the training models say about each query of the bank.

    A model with weights theta ~ N(0, I) scores ``mean + factors @ theta`` on an item, up to noise.

    Attributes:
        mean_Q: expected score of an average model.
        factors_Qk: loadings, strongest factor first.
        noise_Q: variance of a score given the model's weights, uncertainty of mean and loadings
            included.
    """

    mean_Q: Floats
    factors_Qk: Floats
    noise_Q: Floats


ReadTexts = Callable[[Floats, Floats], Floats]
"""From weights [Q, w] and trust in them [Q] to what the texts say, each without its own item."""


def learn_items(
    values_MQ: NDArray[np.float32],
    factors: int,
    sweeps: int,
    read_texts: ReadTexts | None = None,
) -> tuple[Items, Floats, Floats]:
    """Learn items from scores in [0, 1], NaN where missing; deterministic.

    Args:
        values_MQ: scores.
        factors: most factors; those that the data do not support drop out.
        sweeps: rounds of variational EM, before and again after texts are read.
        read_texts: what texts tell of items; None makes nothing of them.

    Returns:
        The items; what their answers alone say of mean and factors [Q, 1 + k], which is what a
        map from texts should learn; and how far that can be trusted [Q], from 0 to 1.

    Raises:
        ValueError: no score at all.
    """
    fit = _Fit(values_MQ, factors)
    fit.run(sweeps)
    if read_texts is not None:
        said_Qw, trust_Q = fit.by_answers()
        fit.prior_Qw = read_texts(said_Qw + _overall(fit), trust_Q) - _overall(fit)
        fit.has_texts = True
        fit.run(sweeps)
    return fit.result()


class _Fit:
    """State of the EM; every method is one of its steps."""

    def __init__(self, values_MQ: NDArray[np.float32], factors: int) -> None:
        known_MQ = ~np.isnan(values_MQ)
        if not known_MQ.any():
            raise ValueError("there are no scores to learn items from: put some into the bank")
        n_models, n_items = values_MQ.shape
        self.k = max(1, min(factors, n_models - 2, n_items - 2))
        self.known_MQ = known_MQ.astype(np.float64)
        self.count_Q = self.known_MQ.sum(0)
        values = np.where(known_MQ, values_MQ, 0.0).astype(np.float64)
        self.overall = float(values.sum() / self.known_MQ.sum())
        self.centred_MQ = np.where(known_MQ, values - self.overall, 0.0)
        mean_Q = self.centred_MQ.sum(0) / (self.count_Q + 2)
        residual_MQ = np.where(known_MQ, self.centred_MQ - mean_Q, 0.0)
        scores_Mk, loadings_Qk = _leading(residual_MQ, self.k)
        # Zeros stand for missing scores here, which shrinks the loadings: half of it is undone.
        loadings_Qk *= 0.5 / max(self.known_MQ.mean(), 0.05)
        self.theta_Mk = scores_Mk
        self.theta_cov_Mkk = np.tile(0.5 * np.eye(self.k), (n_models, 1, 1))
        self.weights_Qw = np.concatenate([mean_Q[:, None], loadings_Qk], axis=1)
        self.weights_cov_Qww = np.zeros((n_items, self.k + 1, self.k + 1))
        self.prior_Qw = np.zeros((n_items, self.k + 1))
        self.has_texts = False
        self.noise_Q = np.full(n_items, max(float((residual_MQ**2).sum() / known_MQ.sum()), 1e-3))
        self.mean_variance = float(mean_Q.var()) + 1e-3
        self.variance_k = np.maximum((loadings_Qk**2).mean(0), 1e-8)
        self.power_k = self.variance_k

    def run(self, sweeps: int) -> None:
        for _ in range(sweeps):
            gram_Qww = self._items()
            self._noise(gram_Qww)
            self._models()
            self._normalise()

    def by_answers(self) -> tuple[Floats, Floats]:
        """What answers alone say [Q, w], without the prior's pull, and trust in it [Q].

        A posterior is the prior moved by a share of the way to what the answers say; that share is
        the reliability of the answers. Factors are moved no further than the mean's share allows.
        """
        variance_w = np.r_[self.mean_variance, self.variance_k]
        uncertain_Qw = np.diagonal(self.weights_cov_Qww, axis1=1, axis2=2)
        share_Qw = np.clip(1 - uncertain_Qw / variance_w, 0, 1)
        trust_Q = share_Qw[:, 0]
        share_Qw = np.maximum(share_Qw, np.maximum(trust_Q, _LEAST_TRUST)[:, None])
        said_Qw = self.prior_Qw + (self.weights_Qw - self.prior_Qw) / share_Qw
        return said_Qw, trust_Q

    def result(self) -> tuple[Items, Floats, Floats]:
        kept = np.flatnonzero(self.power_k > _DROPPED * self.power_k[0])
        cov = self.weights_cov_Qww
        # Models have unit variance: an uncertain mean or loading is noise of that variance.
        unsure_Q = cov[:, 0, 0] + np.trace(cov[:, 1:, 1:], axis1=1, axis2=2)
        items = Items(
            self.overall + self.weights_Qw[:, 0],
            self.weights_Qw[:, 1:][:, kept],
            self.noise_Q + unsure_Q,
        )
        said_Qw, trust_Q = self.by_answers()
        return items, (said_Qw + _overall(self))[:, np.r_[0, 1 + kept]], trust_Q

    def _items(self) -> Floats:
        """Posterior of every item's weights; returns the sums of models' second moments."""
        n_models, w = len(self.theta_Mk), self.k + 1
        design_Mw = np.concatenate([np.ones((n_models, 1)), self.theta_Mk], axis=1)
        second_Mww = design_Mw[:, :, None] * design_Mw[:, None, :]
        second_Mww[:, 1:, 1:] += self.theta_cov_Mkk
        gram_Qww = (self.known_MQ.T @ second_Mww.reshape(n_models, -1)).reshape(-1, w, w)
        precision = gram_Qww / self.noise_Q[:, None, None]
        diagonal = np.arange(w)
        prior_w = np.r_[1 / self.mean_variance, 1 / self.variance_k]
        precision[:, diagonal, diagonal] += prior_w
        self.weights_cov_Qww = np.linalg.inv(precision)
        self.cross_Qw = self.centred_MQ.T @ design_Mw
        linear_Qw = self.cross_Qw / self.noise_Q[:, None] + self.prior_Qw * prior_w
        self.weights_Qw = np.einsum("qvw,qw->qv", self.weights_cov_Qww, linear_Qw)
        return np.asarray(gram_Qww)

    def _second_moments(self) -> Floats:
        w = self.weights_Qw
        return np.asarray(w[:, :, None] * w[:, None, :]) + self.weights_cov_Qww

    def _noise(self, gram_Qww: Floats) -> None:
        """Expected squared residual per item, pulled towards the pooled one."""
        explained_Q = (self._second_moments() * gram_Qww).sum((1, 2))
        total_Q = (self.centred_MQ**2).sum(0)
        left_Q = total_Q - 2 * (self.cross_Qw * self.weights_Qw).sum(1) + explained_Q
        pooled = float(left_Q.sum() / self.count_Q.sum())
        noise_Q = (left_Q + _NOISE_PRIOR * pooled) / (self.count_Q + _NOISE_PRIOR)
        self.noise_Q = np.maximum(noise_Q, _LEAST_NOISE)

    def _models(self) -> None:
        """Posterior of every model's weights."""
        moments_Qww = self._second_moments()
        weighted_MQ = self.known_MQ / self.noise_Q
        flat = moments_Qww[:, 1:, 1:].reshape(len(moments_Qww), -1)
        precision = (weighted_MQ @ flat).reshape(-1, self.k, self.k) + np.eye(self.k)
        self.theta_cov_Mkk = np.linalg.inv(precision)
        linear_Mk = (self.centred_MQ / self.noise_Q) @ self.weights_Qw[:, 1:]
        linear_Mk -= weighted_MQ @ moments_Qww[:, 0, 1:]
        self.theta_Mk = np.einsum("mkl,ml->mk", self.theta_cov_Mkk, linear_Mk)

    def _normalise(self) -> None:
        """Make models standard normal and factors orthogonal; changes no prediction."""
        mean_k = self.theta_Mk.mean(0)
        centred = self.theta_Mk - mean_k
        cov_kk = centred.T @ centred / len(centred) + self.theta_cov_Mkk.mean(0)
        root_kk = np.linalg.cholesky(cov_kk + 1e-12 * np.eye(self.k))
        undo_kk = np.linalg.inv(root_kk)
        step = np.zeros((self.k + 1, self.k + 1))
        step[0, 0], step[0, 1:], step[1:, 1:] = 1.0, mean_k, root_kk.T
        second_kk = step[1:] @ (self._second_moments().mean(0)) @ step[1:].T
        variance_k, axes_kk = np.linalg.eigh(second_kk)
        axes_kk = axes_kk[:, ::-1]
        step[1:] = axes_kk.T @ step[1:]
        self.weights_Qw = self.weights_Qw @ step.T
        self.prior_Qw = self.prior_Qw @ step.T
        self.weights_cov_Qww = step @ self.weights_cov_Qww @ step.T
        turn_kk = axes_kk.T @ undo_kk
        self.theta_Mk = centred @ turn_kk.T
        self.theta_cov_Mkk = turn_kk @ self.theta_cov_Mkk @ turn_kk.T
        self.power_k = np.maximum(variance_k[::-1], 1e-9)
        shift = float(self.weights_Qw[:, 0].mean())
        self.overall += shift
        self.centred_MQ -= shift * self.known_MQ
        self.weights_Qw[:, 0] -= shift
        if self.has_texts:
            self.prior_Qw[:, 0] -= shift
        # How far items lie from what their texts say.
        spread_Qw = (self.weights_Qw - self.prior_Qw) ** 2
        spread_w = (spread_Qw + np.diagonal(self.weights_cov_Qww, axis1=1, axis2=2)).mean(0)
        self.mean_variance = float(spread_w[0]) + 1e-6
        self.variance_k = np.maximum(spread_w[1:], 1e-9)


def _overall(fit: _Fit) -> Floats:
    """The part of weights that all items share: the overall mean, and no factor."""
    return np.concatenate([[fit.overall], np.zeros(fit.k)])


def _leading(matrix_MQ: Floats, k: int) -> tuple[Floats, Floats]:
    """Leading components of a matrix: rows of unit variance [M, k], and loadings [Q, k]."""
    if k >= min(matrix_MQ.shape) - 1 or min(matrix_MQ.shape) <= 500:
        u, s, vt = np.linalg.svd(matrix_MQ, full_matrices=False)
    else:
        from scipy.sparse.linalg import svds

        # A fixed start makes the iteration deterministic.
        u, s, vt = svds(matrix_MQ, k, v0=np.ones(min(matrix_MQ.shape)))
        u, s, vt = u[:, ::-1], s[::-1], vt[::-1]
    root = np.sqrt(len(matrix_MQ))
    return np.asarray(u[:, :k] * root), np.asarray(vt[:k].T * (s[:k] / root))
