"""Relatives: training models that a new model may be a copy, a merge or a re-tune of.

A Gaussian knows no families, and most new models have one. So beside its own factors, a model may
take its answers from one training model: with share 1 - c of queries answered as that relative
does, and share c by its own factors. Bayes' rule over all relatives and shares says who is likely.

Shape letters: B models to place, M training models, Q bank queries, c shares.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SHARES = np.array([0.03, 0.08, 0.15, 0.25, 0.4, 0.6, 0.8, 1.0])
"""Shares of queries that a model answers by its own factors; 1 is: no relative."""

_BLOCK = 1 << 25
_MODELS_FOR_PRIOR = 300
_SCORES_FOR_PRIOR = 256


@dataclass(frozen=True)
class Kinship:
    """How much of each model's behaviour is whose.

    Attributes:
        weights_BM: share of it that is each training model's; rows add up to at most 1, and the
            rest is the model's own.
        shares_Bc: probability of each of `SHARES`.
    """

    weights_BM: Floats
    shares_Bc: Floats

    @property
    def own_B(self) -> Floats:
        """Share that is the model's own."""
        return np.asarray(np.maximum(1 - self.weights_BM.sum(1), 0))


def kinship(
    values_BQ: Floats,
    own_BQ: Floats,
    relatives_MQ: Floats,
    prior_c: Floats,
    itself_B: NDArray[np.int64] | None = None,
) -> Kinship:
    """Weigh relatives by how well they explain a model's scores.

    A relative whose score is known to be s on a query counts there as s times one that is right
    and 1 - s times one that is wrong; for scores of 0 and 1 that is exact.

    Args:
        values_BQ: scores in [0, 1], NaN where not asked.
        own_BQ: P(correct) of each model by its own factors, each answered query predicted
            without its own answer.
        relatives_MQ: what the training models score there: observed, or predicted where missing.
        prior_c: probability of each of `SHARES` before any score.
        itself_B: for models that are training models themselves their row, which is left out.
    """
    n_models, n_relatives = len(values_BQ), len(relatives_MQ)
    if not n_relatives:
        return Kinship(np.zeros((n_models, 0)), np.tile(prior_c, (n_models, 1)))
    weights = np.zeros((n_models, n_relatives))
    shares = np.zeros((n_models, len(SHARES)))
    block = max(1, _BLOCK // (n_relatives * len(SHARES)))
    for start in range(0, n_models, block):
        rows = slice(start, start + block)
        fit_cBM = _fits(values_BQ[rows], own_BQ[rows], relatives_MQ)
        fit_cBM += np.log(np.maximum(prior_c, 1e-12))[:, None, None]
        if itself_B is not None:
            fit_cBM[:, np.arange(fit_cBM.shape[1]), itself_B[rows]] = -np.inf
        likely_cBM = np.exp(fit_cBM - fit_cBM.max(axis=(0, 2), keepdims=True))
        likely_cBM /= likely_cBM.sum(axis=(0, 2), keepdims=True)
        shares[rows] = likely_cBM.sum(2).T
        weights[rows] = np.einsum("cbm,c->bm", likely_cBM, 1 - SHARES)
    return Kinship(weights, shares)


def learn_prior(values_MQ: Floats, own_MQ: Floats, relatives_MQ: Floats, seed: int) -> Floats:
    """How closely related models of this pool are: mean over some of them, each among the others.

    Args:
        values_MQ: scores of the training models.
        own_MQ: as for `kinship`.
        relatives_MQ: as for `kinship`.
        seed: of the choice of models and of their scores.

    Returns:
        Probability of each of `SHARES`, none of them zero.
    """
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(values_MQ))[:_MODELS_FOR_PRIOR])
    some = np.full((len(rows), values_MQ.shape[1]), np.nan)
    for i, row in enumerate(rows):
        asked = rng.permutation(np.flatnonzero(~np.isnan(values_MQ[row])))[:_SCORES_FOR_PRIOR]
        some[i, asked] = values_MQ[row, asked]
    flat = np.full(len(SHARES), 1 / len(SHARES))
    found = kinship(some, own_MQ[rows], relatives_MQ, flat, rows).shares_Bc
    # One imaginary model of unknown kinship: nothing is impossible.
    return np.asarray((found.sum(0) + flat) / (len(found) + 1))


def _fits(values_BQ: Floats, own_BQ: Floats, relatives_MQ: Floats) -> Floats:
    """Log likelihood of each model's scores for each share and relative, [c, B, M]."""
    asked_BQ = ~np.isnan(values_BQ)
    y_BQ = np.where(asked_BQ, values_BQ, 0)
    own = own_BQ * y_BQ + (1 - own_BQ) * (1 - y_BQ)
    fits = np.empty((len(SHARES), len(values_BQ), len(relatives_MQ)))
    for i, share in enumerate(SHARES):
        unlike_BQ = np.where(asked_BQ, np.log(np.maximum(share * own, 1e-12)), 0)
        alike_BQ = np.where(asked_BQ, np.log(1 - share + share * own), 0)
        gain_BQ = alike_BQ - unlike_BQ
        # same = y f + (1 - y)(1 - f) = (1 - y) + (2 y - 1) f, summed over queries.
        constant_B = (unlike_BQ + gain_BQ * (1 - y_BQ)).sum(1)
        fits[i] = constant_B[:, None] + (gain_BQ * (2 * y_BQ - 1)) @ relatives_MQ.T
    return fits
