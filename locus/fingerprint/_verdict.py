"""The calibrated test and its verdict."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from locus.bank import Array
from locus.embedding.calibration import sigmoid
from locus.fingerprint._draws import RIGHT, Draws, Place
from locus.fingerprint._statistic import (
    FingerprintError,
    Floats,
    agreement,
    logistic,
    place_features,
)
from locus.similarity import observed_disagreement

# Fewer pairs than that on a side calibrate nothing.
_LEAST_PAIRS = 20


@dataclass(frozen=True)
class Side:
    """Where one endpoint's scores put it.

    Attributes:
        mean_k: posterior mean, under a standard normal prior.
        cov_kk: posterior covariance.
        n: scores behind it.
    """

    mean_k: Floats
    cov_kk: Floats
    n: int


@dataclass(frozen=True)
class Verdict:
    """What the test says of two endpoints.

    Attributes:
        p_same: probability that it is the same model, given the prior that was stated.
        statistic: log odds of "same" under even prior odds, as calibrated.
        threshold: above it the verdict is "same".
        different_below: below it the verdict is "different"; in between it is "undecided".
        verdict: see above.
        n: scores of the side that has fewer.
    """

    p_same: float
    statistic: float
    threshold: float
    different_below: float
    verdict: Literal["same", "different", "undecided"]
    n: int


@dataclass(frozen=True)
class Fingerprint:
    """A calibrated test; made by `Fingerprint.fit`.

    Attributes:
        n: scores per side it was calibrated with.
        n_common: of those, queries that both sides answered.
        near_agreement: how often pool models agree with the one most like them (median).
        self_disagreement: how often an endpoint is taken to differ from itself.
        weights_f: intercept, then the weight of each feature.
        same_P: statistics of calibration pairs of the same model, rising.
        different_P: statistics of calibration pairs of different models, rising.
    """

    n: int
    n_common: int
    near_agreement: float
    self_disagreement: float
    weights_f: Floats
    same_P: Floats
    different_P: Floats

    @classmethod
    def fit(
        cls,
        place: Place,
        values_MQ: Array,
        n: int,
        *,
        n_common: int = 0,
        self_disagreement: float = 0.02,
        rivals: int | None = None,
        rounds: int = 4,
        seed: int = 0,
    ) -> "Fingerprint":
        """Calibrate on a pool: pairs of samples of one model, and of two.

        Each round takes, of every model with enough scores, two samples of ``n`` that share
        ``n_common`` queries, and a sample of it beside one of another model. The pool holds one
        answer to a query, so on common queries the second sample of the same model is that answer,
        turned over at the rate ``self_disagreement``.

        The rates hold for models like those of the pool, so ``values_MQ`` should be of models that
        ``place`` was not learned from: placed models that it knows lie nearer to their own scores.

        Args:
            place: from scores [B, Q] to posterior means [B, k] and covariances [B, k, k], under a
                standard normal prior.
            values_MQ: the pool's scores in [0, 1], NaN where missing.
            n: scores per side that the endpoints will have.
            n_common: queries that both will be asked, at most ``n``.
            self_disagreement: share of queries on which an endpoint differs from itself (sampling,
                quantisation, batching); stated by the caller, in (0, 0.5).
            rivals: draw the other model from this many that agree with it most, for a test against
                look-alikes; None draws from the whole pool.
            rounds: see above.
            seed: of the draws.

        Raises:
            FingerprintError: a number out of range, or fewer than 20 pairs of either sort.
            SimilarityInputError: a score outside [0, 1].
        """
        values = np.asarray(values_MQ, dtype=np.float32)
        _check(values, n, n_common, self_disagreement, rivals, rounds)
        apart = observed_disagreement(values)
        away_MM = np.where(apart.n_MM > 0, apart.rate_MM, np.inf)
        np.fill_diagonal(away_MM, np.inf)
        nearest_M = away_MM.min(axis=1)
        found = nearest_M[np.isfinite(nearest_M)]
        near = 1 - float(np.median(found)) if len(found) else RIGHT
        # In a pool of copies near models agree as often as one with itself: agreement would then
        # speak against "same".
        near = min(max(near, RIGHT), 1 - 2 * self_disagreement)
        draws = Draws(values, away_MM, n, n_common, self_disagreement, rivals, seed)
        features, same = draws.features(place, rounds, near)
        for name, count in (("the same model", same.sum()), ("two models", (~same).sum())):
            if count < _LEAST_PAIRS:
                raise FingerprintError(
                    f"{count} pairs of {name} have {n} scores a side, {n_common} in common; "
                    f"{_LEAST_PAIRS} are needed: lower n, or give a larger pool or more rounds"
                )
        weights = logistic(features, same)
        statistic = weights[0] + features @ weights[1:]
        return cls(
            n,
            n_common,
            near,
            self_disagreement,
            weights,
            np.sort(statistic[same]),
            np.sort(statistic[~same]),
        )

    def thresholds(
        self, false_same: float = 0.05, false_different: float = 0.05
    ) -> tuple[float, float]:
        """Above which statistic it is "same", and below which "different".

        Order statistics of the calibration pairs such that a new pair of the same kind is on the
        wrong side with at most the stated probability (split conformal: Vovk et al. 2005); that the
        same pairs chose the few weights, and that rounds repeat models, is neglected. Where
        the two kinds lie further apart than the rates ask for, both are set halfway between: every
        pair is then decided, and rarer errors than stated are to be expected.

        Args:
            false_same: share of different pairs that may be called "same", in (0, 1).
            false_different: share of same pairs that may be called "different", in (0, 1).

        Raises:
            FingerprintError: a rate that so few calibration pairs can't vouch for.
        """
        same_above = _upper(self.different_P, false_same, "false_same")
        different_below = -_upper(np.sort(-self.same_P), false_different, "false_different")
        if same_above < different_below:
            halfway = (same_above + different_below) / 2
            return halfway, halfway
        return same_above, different_below

    def compare(
        self,
        left: Side,
        right: Side,
        *,
        n_agree: int | None = None,
        n_common: int = 0,
        prior_same: float = 0.5,
        false_same: float = 0.05,
        false_different: float = 0.05,
    ) -> Verdict:
        """Judge two endpoints.

        Rates and probability were measured at the sizes of `fit`; more scores than that tell more,
        but calibrate anew for sizes much larger.

        Args:
            left: one endpoint.
            right: the other.
            n_agree: of the common queries, those that both got right or both wrong.
            n_common: queries that both answered.
            prior_same: how probable "same" was before, in (0, 1).
            false_same: see `thresholds`.
            false_different: see `thresholds`.

        Raises:
            FingerprintError: fewer scores or common queries than the test was calibrated for,
                common queries for a test without, counts or sides that can't be.
        """
        n = min(left.n, right.n)
        if n < self.n:
            raise FingerprintError(
                f"the test is calibrated for {self.n} scores a side and one side has {n}; ask "
                f"more, or fit with n={n}"
            )
        if (n_common > 0) != (self.n_common > 0) or n_common < self.n_common:
            raise FingerprintError(
                f"the test is calibrated for {self.n_common} common queries and there are "
                f"{n_common}; fit with n_common={n_common}"
            )
        if n_common > 0 and (n_agree is None or not 0 <= n_agree <= n_common <= n):
            raise FingerprintError(f"{n_agree} agreements on {n_common} common of {n} queries")
        if not 0 < prior_same < 1:
            raise FingerprintError(f"prior_same is {prior_same}; give a number within (0, 1)")
        features = place_features(
            *(np.asarray(x)[None] for x in (left.mean_k, left.cov_kk, right.mean_k, right.cov_kk))
        )
        if self.n_common:
            agree = np.array([float(n_agree or 0)])
            ratio = agreement(agree, n_common, self.near_agreement, self.self_disagreement)
            features = np.column_stack([features, ratio])
        statistic = float((self.weights_f[0] + features @ self.weights_f[1:])[0])
        same_above, different_below = self.thresholds(false_same, false_different)
        verdict: Literal["same", "different", "undecided"] = "undecided"
        if statistic > same_above:
            verdict = "same"
        elif statistic < different_below:
            verdict = "different"
        odds = statistic + np.log(prior_same / (1 - prior_same))
        p_same = float(sigmoid(np.array(odds)))
        return Verdict(p_same, statistic, same_above, different_below, verdict, n)


def _upper(sorted_P: Floats, rate: float, name: str) -> float:
    """The order statistic that a new one exceeds with probability ``rate`` at most."""
    if not 0 < rate < 1:
        raise FingerprintError(f"{name} is {rate}; give a rate within (0, 1)")
    rank = int(np.ceil((1 - rate) * (len(sorted_P) + 1) - 1e-9))
    if rank > len(sorted_P):
        raise FingerprintError(
            f"{name} of {rate} takes {int(np.ceil(1 / rate)) - 1} calibration pairs, and there are "
            f"{len(sorted_P)}: fit with more rounds or models, or state a higher rate"
        )
    return float(sorted_P[rank - 1])


def _check(
    values: Array, n: int, n_common: int, noise: float, rivals: int | None, rounds: int
) -> None:
    if values.ndim != 2 or len(values) < 2:
        raise FingerprintError(f"scores of shape {values.shape}; give those of two models or more")
    if n < 1 or not 0 <= n_common <= n:
        raise FingerprintError(f"n is {n} and n_common {n_common}; give 0 <= n_common <= n >= 1")
    if not 0 < noise < 0.5:
        raise FingerprintError(f"self_disagreement is {noise}; give a share within (0, 0.5)")
    if rivals is not None and rivals < 1:
        raise FingerprintError(f"rivals is {rivals}; give 1 or more, or None for the whole pool")
    if rounds < 1:
        raise FingerprintError(f"rounds is {rounds}; give 1 or more")
