"""Relatives: training models that a new model may be a copy, a merge or a re-tune of.

A Gaussian knows no families, and most new models have one. So beside its own factors, a model may
take its answers from one training model: with share 1 - c of queries answered as that relative
does, and share c by its own factors. Bayes' rule over all relatives and shares says who is likely.

Among thousands of relatives (`_MANY`), a model with many scores is compared with all of them on
some of the queries, and on every query with the closest only: the rest would weigh nothing. So the
work grows with the number of scores and not with models times scores.

Shape letters: B models to place, M training models, C of them that are compared, Q bank queries, c
shares below 1.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

SHARES = np.array([0.03, 0.08, 0.15, 0.25, 0.4, 0.6, 0.8, 1.0])
"""Shares of queries that a model answers by its own factors; 1 is: no relative."""

_BELOW_ONE = SHARES[:-1]
# Numbers at once: more leave a core's cache, and fewer make products too small, as few models do.
_BLOCK = 1 << 21
_LEAST_MODELS = 128
_CHUNK = 512
# With more relatives than that, those of a model with `_ENOUGH` scores among `_SCREENED` queries
# are narrowed down to `_CLOSEST` first: the evidence of that many scores leaves hardly one.
_MANY = 4096
_SCREENED = 1024
_ENOUGH = 512
_SCREENING = SHARES[[3, 6]]
_CLOSEST = 64
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
    values_BQ: NDArray[Any],
    own_BQ: Floats,
    relatives_MQ: NDArray[Any],
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
    enough_B, screen = _screen(~np.isnan(values_BQ), n_relatives)
    itself = np.full(n_models, -1) if itself_B is None else itself_B
    n_others = n_relatives - (itself_B is not None)
    width = len(_BELOW_ONE) * (n_relatives + values_BQ.shape[1])
    for rows in _blocks(np.flatnonzero(~enough_B), width):
        scores = _Scores(values_BQ[rows], own_BQ[rows])
        fit_cBM = scores.fits(relatives_MQ)
        _leave_out(fit_cBM, itself[rows])
        weights[rows], shares[rows] = _by_bayes(fit_cBM, scores.alone_B, prior_c, n_others)
    screened_MQ = _centred(relatives_MQ[:, screen])
    for rows in _blocks(np.flatnonzero(enough_B), width):
        scores = _Scores(values_BQ[rows], own_BQ[rows])
        closest_BC = scores.closest(screened_MQ, screen, itself[rows])
        fit_cBC = scores.fits_of(relatives_MQ, closest_BC)
        of_closest_BC, shares[rows] = _by_bayes(fit_cBC, scores.alone_B, prior_c, n_others)
        weights[rows[:, None], closest_BC] = of_closest_BC
    return Kinship(weights, shares)


def learn_prior(
    values_MQ: NDArray[Any], own_MQ: Floats, relatives_MQ: NDArray[Any], seed: int
) -> Floats:
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


class _Scores:
    """Likelihoods of some models' scores, in float32: an error of 1e-5 in their logarithms."""

    def __init__(self, values_BQ: NDArray[Any], own_BQ: Floats) -> None:
        self.asked_BQ = ~np.isnan(values_BQ)
        y_BQ = np.where(self.asked_BQ, values_BQ, 0).astype(np.float32)
        own = own_BQ.astype(np.float32)
        self.sign_BQ = np.where(self.asked_BQ, 2 * y_BQ - 1, 0)
        # How likely each score is by the model's own factors.
        self.own_BQ = np.where(self.asked_BQ, own * y_BQ + (1 - own) * (1 - y_BQ), 1)

    @cached_property
    def alone_B(self) -> Floats:
        """Log likelihood of each model's scores without any relative."""
        return np.asarray(np.log(self.own_BQ).sum(1, dtype=np.float64))

    def fits(self, relatives_CQ: NDArray[Any]) -> Singles:
        """Log likelihood of each model's scores for each share and relative, [c, B, C]."""
        n_models, n_queries = self.own_BQ.shape
        shape = (len(_BELOW_ONE), n_models, len(relatives_CQ))
        flat = np.zeros((shape[0] * n_models, shape[2]), dtype=np.float32)
        constant_cB = np.zeros(shape[:2])
        for start in range(0, n_queries, _CHUNK):
            columns = slice(start, start + _CHUNK)
            if not self.asked_BQ[:, columns].any():
                continue
            gain_cBQ, constant = self._gains(_BELOW_ONE, columns)
            constant_cB += constant
            theirs_CQ = _centred(relatives_CQ[:, columns])
            flat += gain_cBQ.reshape(len(flat), -1) @ theirs_CQ.T
        fits = flat.reshape(shape)
        fits += constant_cB[:, :, None].astype(np.float32)
        return fits

    def fits_of(self, relatives_MQ: NDArray[Any], chosen_BC: NDArray[np.int64]) -> Singles:
        """The same for some relatives of each model, [c, B, C]."""
        gain_cBQ, constant_cB = self._gains(_BELOW_ONE, slice(None))
        gain_BcQ = np.ascontiguousarray(gain_cBQ.transpose(1, 0, 2))
        fits = np.zeros((*constant_cB.shape, chosen_BC.shape[1]), dtype=np.float32)
        for row, chosen in enumerate(chosen_BC):
            # Products this small run in one thread; larger ones wait for several at every row.
            for start in range(0, gain_BcQ.shape[2], _CHUNK):
                columns = slice(start, start + _CHUNK)
                theirs_CQ = _centred(relatives_MQ[chosen, columns])
                fits[:, row] += gain_BcQ[row, :, columns] @ theirs_CQ.T
        fits += constant_cB[:, :, None].astype(np.float32)
        return fits

    def closest(
        self, theirs_MQ: Singles, columns: NDArray[np.int64], itself_B: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """The relatives that explain each model's scores on some queries best, [B, C].

        As many by a small own share, which finds copies and re-tunes, as by a large one.

        Args:
            theirs_MQ: what all relatives score on these queries, centred.
            columns: the queries.
            itself_B: as for `kinship`.
        """
        gain_cBQ, _ = self._gains(_SCREENING, columns)
        chosen: list[NDArray[np.int64]] = []
        for gain_BQ in gain_cBQ:
            fit_BM = gain_BQ @ theirs_MQ.T
            _leave_out(fit_BM[None], itself_B)
            for before in chosen:
                np.put_along_axis(fit_BM, before, -np.inf, axis=1)
            chosen.append(np.argpartition(fit_BM, -_CLOSEST, axis=1)[:, -_CLOSEST:])
        return np.sort(np.concatenate(chosen, axis=1), axis=1)

    def _gains(
        self, share_c: Floats, columns: "slice | NDArray[np.int64]"
    ) -> tuple[Singles, NDArray[np.float64]]:
        """What agreeing adds to the likelihood [c, B, len], and what no relative changes [c, B].

        same = y f + (1 - y)(1 - f) = 1/2 + (2 y - 1)(f - 1/2), summed over queries.
        """
        own_BQ, sign_BQ = self.own_BQ[:, columns], self.sign_BQ[:, columns]
        share: Singles = share_c.astype(np.float32)[:, None, None]
        # Queries without a score have 1 here, of which all logarithms are 0, and a sign of 0.
        own_log_BQ, share_log = np.log(own_BQ), np.log(share)
        both_cBQ = share * own_BQ
        both_cBQ += 1 - share
        np.log(both_cBQ, out=both_cBQ)
        n_asked_B = self.asked_BQ[:, columns].sum(1)
        constant_cB = both_cBQ.sum(2, dtype=np.float64) + own_log_BQ.sum(1, dtype=np.float64)
        constant_cB += share_log[:, :, 0] * n_asked_B
        gain_cBQ = both_cBQ
        gain_cBQ -= own_log_BQ
        gain_cBQ -= share_log
        gain_cBQ *= sign_BQ
        return gain_cBQ, np.asarray(constant_cB / 2)


def _centred(relatives_CQ: NDArray[Any]) -> Singles:
    """So that sums of them stay small and their float32 exact enough."""
    centred: Singles = relatives_CQ.astype(np.float32) - np.float32(0.5)
    return centred


def _by_bayes(
    fit_cBC: Singles, alone_B: Floats, prior_c: Floats, n_others: int
) -> tuple[Floats, Floats]:
    """Weights of relatives [B, C] and probabilities of all shares [B, c + 1].

    A share of 1 says the same with every relative, so its likelihood counts once for each.
    """
    believed_c = np.log(np.maximum(prior_c, 1e-12))
    fit_cBC += believed_c[:-1, None, None].astype(np.float32)
    alone_B = alone_B + believed_c[-1] + np.log(max(n_others, 1))
    top_B = np.maximum(fit_cBC.max(axis=(0, 2)), alone_B)
    fit_cBC -= top_B.astype(np.float32)[:, None]
    likely_cBC = np.exp(fit_cBC, out=fit_cBC)
    alone_B = np.exp(alone_B - top_B)
    by_share_Bc = np.column_stack([likely_cBC.sum(2, dtype=np.float64).T, alone_B])
    total_B1 = by_share_Bc.sum(1, keepdims=True)
    weights_BC = np.tensordot((1 - _BELOW_ONE).astype(np.float32), likely_cBC, 1)
    return weights_BC / total_B1, by_share_Bc / total_B1


def _screen(
    asked_BQ: NDArray[np.bool_], n_relatives: int
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Models whose relatives are narrowed down first, and the queries by which that is done."""
    nobody = np.zeros(len(asked_BQ), dtype=bool)
    if n_relatives <= _MANY:
        return nobody, np.zeros(0, dtype=np.int64)
    columns = np.flatnonzero(asked_BQ.any(axis=0))
    some = columns[:: max(len(columns) // _SCREENED, 1)][:_SCREENED]
    return asked_BQ[:, some].sum(axis=1) >= _ENOUGH, some


def _leave_out(fit_cBM: Singles, itself_B: NDArray[np.int64]) -> None:
    rows = np.flatnonzero(itself_B >= 0)
    fit_cBM[:, rows, itself_B[rows]] = -np.inf


def _blocks(rows: NDArray[np.int64], width: int) -> list[NDArray[np.int64]]:
    """Rows in blocks that need memory for about `_BLOCK` numbers, so many each, or few models."""
    size = max(_LEAST_MODELS, _BLOCK // width)
    return [rows[start : start + size] for start in range(0, len(rows), size)]
