"""Posterior of models' weights by their scores: Bayesian linear regression, all models at once.

A model with weights theta ~ N(0, I) scores ``mean + factors @ theta`` on an item, up to noise of a
variance that is the item's. Every model has scores of its own, so a precision of its own: the sum
of its items' ``f f' / noise``. These products are the items' alone; with them the precisions of all
models are one matrix product, and so are the leverages.

Shape letters: B models, Q items, k factors, u = k (k + 1) / 2 numbers of a symmetric matrix.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from locus.embedding.calibration import bounded

Floats = NDArray[np.float64]

# Numbers of the items' products that are held at once: 16 MB.
_BLOCK = 1 << 21
# Scores that are looked at at once.
_SCORES = 1 << 22
# Of an item's own noise, what at least is not explained by its own answer.
_LEAST_UNSEEN = 1e-6


class LinearItems(Protocol):
    """What answers say about items; `locus.embedding.items.Items` for one."""

    @property
    def mean_Q(self) -> Floats:
        """Expected score of an average model."""
        ...

    @property
    def factors_Qk(self) -> Floats:
        """Loadings."""
        ...

    @property
    def noise_Q(self) -> Floats:
        """Variance of a score given the model's weights."""
        ...


def weights_of(values_BQ: NDArray[Any], items: LinearItems) -> tuple[Floats, Floats]:
    """Means [B, k] and covariances [B, k, k] of models' weights given their scores.

    Args:
        values_BQ: scores, NaN where not asked.
        items: the queries.
    """
    parts = [_Regression(some_BQ, items).weights() for some_BQ in _blocks(values_BQ)]
    mean_Bk, cov_Bkk = (np.concatenate(part) for part in zip(*parts, strict=True))
    return mean_Bk, cov_Bkk


def posterior(values_BQ: NDArray[Any], items: LinearItems) -> tuple[Floats, Floats, Floats]:
    """The same with what it says of every item.

    Args:
        values_BQ: scores, NaN where not asked.
        items: the queries.

    Returns:
        Means [B, k], covariances [B, k, k] and P(correct) on every item [B, Q]; an answered one is
        predicted without its own answer (leave-one-out of a linear model).
    """
    parts = [_posterior(some_BQ, items) for some_BQ in _blocks(values_BQ)]
    mean_Bk, cov_Bkk, expected_BQ = (np.concatenate(part) for part in zip(*parts, strict=True))
    return mean_Bk, cov_Bkk, expected_BQ


def _posterior(values_BQ: NDArray[Any], items: LinearItems) -> tuple[Floats, Floats, Floats]:
    regression = _Regression(values_BQ, items)
    mean_Bk, cov_Bkk = regression.weights()
    expected_BQ = items.mean_Q + mean_Bk @ items.factors_Qk.T
    regression.leave_out(expected_BQ, mean_Bk, cov_Bkk)
    return mean_Bk, cov_Bkk, bounded(expected_BQ)


def _blocks(values_BQ: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Some models at a time: what is computed on the way takes several times their scores."""
    size = max(1, _SCORES // max(values_BQ.shape[1], 1))
    for start in range(0, max(len(values_BQ), 1), size):
        yield values_BQ[start : start + size]


class _Regression:
    """Scores of some models on the items that at least one of them was asked."""

    def __init__(self, values_BQ: NDArray[Any], items: LinearItems) -> None:
        known_BQ = ~np.isnan(values_BQ)
        # Few models, or early ones, have answered a small part of the items.
        self._asked = np.flatnonzero(known_BQ.any(axis=0))
        self._factors_Qk = items.factors_Qk[self._asked]
        known_BQ = known_BQ[:, self._asked]
        self._trust_BQ = known_BQ / items.noise_Q[self._asked]
        self._mean_Q = items.mean_Q[self._asked]
        gap_BQ = values_BQ[:, self._asked] - self._mean_Q
        self._residual_BQ = np.where(known_BQ, gap_BQ, 0.0)
        k = self._factors_Qk.shape[1]
        self._rows, self._columns = np.triu_indices(k)
        self._k = k

    def weights(self) -> tuple[Floats, Floats]:
        precision_Bu = np.zeros((len(self._trust_BQ), len(self._rows)))
        for some, product_Qu in self._products():
            precision_Bu += self._trust_BQ[:, some] @ product_Qu
        precision_Bkk = np.empty((len(precision_Bu), self._k, self._k))
        precision_Bkk[:, self._rows, self._columns] = precision_Bu
        precision_Bkk[:, self._columns, self._rows] = precision_Bu
        cov_Bkk = np.linalg.inv(precision_Bkk + np.eye(self._k))
        linear_Bk = (self._trust_BQ * self._residual_BQ) @ self._factors_Qk
        return np.asarray(np.einsum("bkl,bl->bk", cov_Bkk, linear_Bk)), np.asarray(cov_Bkk)

    def leave_out(self, expected_BQ: Floats, mean_Bk: Floats, cov_Bkk: Floats) -> None:
        """Put in place of what is expected of an answered item what is without its answer."""
        cov_Bu = cov_Bkk[:, self._rows, self._columns]
        # Each number beside the diagonal stands for two.
        cov_Bu[:, self._rows != self._columns] *= 2
        for some, product_Qu in self._products():
            trust_BQ, residual_BQ = self._trust_BQ[:, some], self._residual_BQ[:, some]
            unseen_BQ = np.maximum(1 - trust_BQ * (cov_Bu @ product_Qu.T), _LEAST_UNSEEN)
            gap_BQ = residual_BQ - mean_Bk @ self._factors_Qk[some].T
            without_BQ = self._mean_Q[some] + residual_BQ - gap_BQ / unseen_BQ
            columns = self._asked[some]
            expected_BQ[:, columns] = np.where(trust_BQ > 0, without_BQ, expected_BQ[:, columns])

    def _products(self) -> Iterator[tuple[slice, Floats]]:
        """Blocks of items, and the products of their factors, [Q, u]."""
        size = max(1, _BLOCK // max(len(self._rows), 1))
        for start in range(0, len(self._asked), size):
            some = slice(start, start + size)
            factors_Qk = self._factors_Qk[some]
            yield some, factors_Qk[:, self._rows] * factors_Qk[:, self._columns]
