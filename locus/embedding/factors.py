"""Closed-form placement: item factors, a Gaussian prior, a posterior and relatives for every model.

What the published token never reads is what the other models answered to the same query. Here a
query of the bank has a mean score and factors from the training models' answers
(`locus.embedding.items`), a model is a Gaussian over factor weights, and placing it is Bayesian
linear regression: no training, any set of scores, any order, a covariance for free. A training
model that answers alike pulls the new one towards its own place (`locus.embedding.relatives`). A
query that nobody has answered gets mean and factors from its text (`locus.embedding.textmap`).

Shape letters: M training models, B placed models, Q bank queries, T targets, p width of a query
encoding, k weights of a model (factors, then benchmark offsets), d = 128.
"""

import logging
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locus.bank import Array, Bank, Queries
from locus.embedding.calibration import UNCALIBRATED, Calibration, bounded
from locus.embedding.items import Items, learn_items
from locus.embedding.posterior import posterior
from locus.embedding.relatives import Kinship, kinship, learn_prior
from locus.embedding.textmap import (
    FEWER_LANDMARKS,
    MOST_LANDMARKS,
    KernelConfig,
    TextMap,
    one_hot,
)

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

D_MODEL = 128
_FOLDS = 4


@dataclass(frozen=True)
class FactorConfig:
    """Settings; chosen by cross-fitting over training models and queries (docs/log.md).

    Attributes:
        factors: most factors; those that the answers do not support drop out.
        sweeps: rounds of learning them, before and again after texts are read.
        own_offset: prior standard deviation of a model's own offset on each benchmark, beside the
            factors: what it is better at than the training models' factors can say.
        relatives: whether training models that answer alike pull a model towards their place.
        kernel: the map from text to mean and factors.
    """

    factors: int = 16
    sweeps: int = 12
    own_offset: float = 0.1
    relatives: bool = True
    kernel: KernelConfig = field(default_factory=KernelConfig)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "FactorConfig":
        """From what `to_dict` gave.

        Raises:
            TypeError: unknown or missing keys.
        """
        return cls(**{**values, "kernel": KernelConfig(**values["kernel"])})


@dataclass(frozen=True)
class PlacedByFactors:
    """Where models are, and how sure that is.

    Attributes:
        mean_Bk: posterior means by a model's own scores.
        cov_Bkk: posterior covariances; they depend on which queries were asked, not on answers.
        weights_Bk: posterior means with the relatives' pull: what predictions are made with.
        kinship: whose behaviour a model shares.
    """

    mean_Bk: Floats
    cov_Bkk: Floats
    weights_Bk: Floats
    kinship: Kinship


class FactorPlacement:
    """Closed-form placement and prediction; see the module. Follows `locus.bank.Method`."""

    name = "factors"
    needs_benchmark = False

    def __init__(self, config: FactorConfig | None = None) -> None:
        self.config = config or FactorConfig()
        self.calibration = UNCALIBRATED
        self.bank_calibration = UNCALIBRATED

    def fit(self, bank: Bank, seed: int) -> None:
        """Learn items, relatives and the text map, then calibrate by cross-fitting.

        Raises:
            ValueError: the bank holds no score.
        """
        self._learn(bank.queries, bank.values_MQ, seed)
        self.calibration, self.bank_calibration = self._cross_fit(bank, seed)

    def _learn(
        self, queries: Queries, values_MQ: Array, seed: int, landmarks: int = MOST_LANDMARKS
    ) -> None:
        kernel = self.config.kernel
        member_Qn = one_hot(queries)
        # The largest benchmarks get offsets; half of the 128 numbers stay for factors.
        self.with_offset = np.sort(np.argsort(-member_Qn.sum(0), kind="stable")[: D_MODEL // 2])
        room = D_MODEL - len(self.with_offset)

        def read_texts(said_Qw: Floats, trust_Q: Floats) -> Floats:
            return TextMap.fit(queries, said_Qw, trust_Q, kernel, FEWER_LANDMARKS)[1]

        items, said_Qw, trust_Q = learn_items(
            values_MQ, min(self.config.factors, room), self.config.sweeps, read_texts
        )
        features_Qk = np.concatenate([items.factors_Qk, self._offsets(member_Qn)], axis=1)
        self.items = Items(items.mean_Q, features_Qk, items.noise_Q)
        self.text, _ = TextMap.fit(queries, said_Qw, trust_Q, kernel, landmarks)
        self.basis_kd = _basis(features_Qk)
        self._learn_relatives(values_MQ, seed)

    @property
    def mean_Q(self) -> Floats:
        """Expected score of an average model on each query of the bank."""
        return self.items.mean_Q

    @property
    def factors_Qk(self) -> Floats:
        """Features of each query of the bank: factors, then benchmark offsets."""
        return self.items.factors_Qk

    @property
    def noise_Q(self) -> Floats:
        """Variance of a score on each query of the bank, given the model."""
        return self.items.noise_Q

    def _learn_relatives(self, values_MQ: Array, seed: int) -> None:
        n_items, k = self.factors_Qk.shape
        self.relatives_MQ: Array = np.zeros((0, n_items), dtype=np.float32)
        self.relatives_Mk = np.zeros((0, k))
        self.kinship_prior_c = np.zeros(0)
        if not self.config.relatives:
            return
        mean_Mk, _, own_MQ = posterior(values_MQ, self.items)
        by_factors = bounded(self.mean_Q + mean_Mk @ self.factors_Qk.T)
        self.relatives_MQ = np.where(np.isnan(values_MQ), by_factors, values_MQ).astype(np.float32)
        self.relatives_Mk = mean_Mk
        self.kinship_prior_c = learn_prior(values_MQ, own_MQ, self.relatives_MQ, seed)

    def vectors(self, placed: PlacedByFactors) -> Array:
        """Public embeddings [B, 128].

        The squared Euclidean distance of two vectors is the mean squared difference of their
        predicted scores over the bank's queries (before they are bounded); unused numbers are 0.
        """
        padded = np.zeros((len(placed.mean_Bk), D_MODEL), dtype=np.float32)
        padded[:, : self.basis_kd.shape[1]] = placed.weights_Bk @ self.basis_kd
        return padded

    def place(self, values_BQ: Array, beyond: Queries | None = None) -> PlacedByFactors:
        """Place models by their scores; a model without any is at the prior.

        Args:
            values_BQ: scores on the bank's queries, then on those of ``beyond``; NaN where not
                asked.
            beyond: queries that are not in the bank: their features come from their texts, and
                count for less in proportion to how unsure that is.
        """
        items = self.items if beyond is None else self._with_texts(beyond)
        mean_Bk, cov_Bkk, own_BQ = posterior(values_BQ, items)
        on_bank = slice(0, len(self.mean_Q))
        kin = Kinship(np.zeros((len(values_BQ), 0)), np.zeros((len(values_BQ), 0)))
        if len(self.kinship_prior_c):
            kin = kinship(
                values_BQ[:, on_bank], own_BQ[:, on_bank], self.relatives_MQ, self.kinship_prior_c
            )
        # Without scores nobody is a relative: the prior's shares would still pull to the mean.
        asked_B1 = (~np.isnan(values_BQ[:, on_bank])).any(axis=1, keepdims=True)
        kin = Kinship(kin.weights_BM * asked_B1, kin.shares_Bc)
        pulled_Bk = kin.weights_BM @ self.relatives_Mk + kin.own_B[:, None] * mean_Bk
        return PlacedByFactors(mean_Bk, cov_Bkk, pulled_Bk, kin)

    def _with_texts(self, beyond: Queries) -> Items:
        """The bank's items, and those that only their text tells of."""
        mean_T, features_Tk = self.item_features(beyond)
        noise_T = np.full(len(beyond), self.noise_Q.mean() + self.text.error_j.sum())
        return Items(
            np.concatenate([self.mean_Q, mean_T]),
            np.concatenate([self.factors_Qk, features_Tk]),
            np.concatenate([self.noise_Q, noise_T]),
        )

    def predict(self, placed: PlacedByFactors, targets: Queries) -> Array:
        """P(correct) on queries that nobody has answered, float32 [B, T].

        Raises:
            ValueError: surface features for the bank and none for the targets, or the reverse.
        """
        return self.calibration(self._raw(placed, targets))

    def predict_bank(self, placed: PlacedByFactors, columns: NDArray[np.int64]) -> Array:
        """P(correct) on queries of the bank, whose answers by others are known, [B, len]."""
        return self.bank_calibration(self._raw_bank(placed, columns))

    def spread(self, placed: PlacedByFactors, targets: Queries) -> Array:
        """Posterior standard deviation of the predicted score that is due to the model, [B, T]."""
        _, factors_Tk = self.item_features(targets)
        variance = np.einsum("tk,bkl,tl->bt", factors_Tk, placed.cov_Bkk, factors_Tk, optimize=True)
        deviation: Array = np.sqrt(np.maximum(variance, 0)).astype(np.float32)
        return deviation

    def item_features(self, targets: Queries) -> tuple[Floats, Floats]:
        """Mean score [T] and features [T, k] of queries that nobody has answered."""
        scale = self.config.own_offset
        return read_items(self.text, self.with_offset, scale, targets.phi_Qp, targets.surface_Qs)

    def _offsets(self, member_Tn: Floats) -> Floats:
        """Features [T, n'] by which a model has an offset of its own on a benchmark."""
        return self.config.own_offset * member_Tn[:, self.with_offset]

    def _raw(self, placed: PlacedByFactors, targets: Queries) -> Floats:
        mean_T, factors_Tk = self.item_features(targets)
        return bounded(mean_T + placed.weights_Bk @ factors_Tk.T)

    def _raw_bank(self, placed: PlacedByFactors, columns: NDArray[np.int64]) -> Floats:
        own = bounded(self.mean_Q[columns] + placed.mean_Bk @ self.factors_Qk[columns].T)
        theirs = placed.kinship.weights_BM @ self.relatives_MQ[:, columns]
        return bounded(theirs + placed.kinship.own_B[:, None] * own)

    def _cross_fit(self, bank: Bank, seed: int) -> tuple[Calibration, Calibration]:
        """Calibrate on models and queries that nothing was learned from.

        Each round leaves out a share of the models and a share of the bank's queries; the models
        left out are placed from some of their other scores, then predicted on the queries left
        out, on validation queries, and on the other queries that they were not placed from.
        Validation queries count per query as the bank's do: how hard a few hundred queries happen
        to be is the largest error of a calibration, and more queries make it smaller.
        """
        n_models, n_queries = bank.values_MQ.shape
        if n_models < 2 * _FOLDS or n_queries < 2 * _FOLDS:
            log.warning("too few models or queries to calibrate on: predictions stay as they are")
            return UNCALIBRATED, UNCALIBRATED
        rng = np.random.default_rng(seed)
        unseen, known = _Pairs(), _Pairs()
        for models, columns in zip(
            np.array_split(rng.permutation(n_models), _FOLDS),
            np.array_split(rng.permutation(n_queries), _FOLDS),
            strict=True,
        ):
            others = np.setdiff1d(np.arange(n_models), models)
            rest = np.setdiff1d(np.arange(n_queries), columns)
            part = FactorPlacement(self.config)
            learned = bank.values_MQ[np.ix_(others, rest)]
            if np.isnan(learned).all():
                continue
            part._learn(bank.queries.take(rest), learned, seed, FEWER_LANDMARKS)
            theirs = bank.values_MQ[np.ix_(models, rest)]
            asked = _some_scores(theirs, rng)
            placed = part.place(asked)
            answers = bank.values_MQ[np.ix_(models, columns)]
            unseen.add(part._raw(placed, bank.queries.take(columns)), answers)
            if len(bank.val_queries):
                validation = part._raw(placed, bank.val_queries)
                unseen.add(validation, bank.val_values_MV[models], 1 / _FOLDS)
            hidden = np.where(np.isnan(asked), theirs, np.nan)
            known.add(part._raw_bank(placed, np.arange(len(rest))), hidden)
        return unseen.calibration(), known.calibration()


class _Pairs:
    """Predictions and the scores that came true, where there are scores."""

    def __init__(self) -> None:
        self.predicted: list[Floats] = []
        self.seen: list[Floats] = []
        self.weight: list[Floats] = []

    def add(self, predicted: Floats, scores: Array, weight: float = 1.0) -> None:
        known = ~np.isnan(scores)
        self.predicted.append(predicted[known])
        self.seen.append(scores[known].astype(np.float64))
        self.weight.append(np.full(int(known.sum()), weight))

    def calibration(self) -> Calibration:
        if not sum(map(len, self.seen)):
            return UNCALIBRATED
        return Calibration.fit(
            np.concatenate(self.predicted),
            np.concatenate(self.seen),
            np.concatenate(self.weight),
        )


def read_items(
    text: TextMap,
    with_offset: NDArray[np.int64],
    own_offset: float,
    phi_Tp: Array,
    surface_Ts: Array | None,
) -> tuple[Floats, Floats]:
    """Mean score [T] and features [T, k] of queries, read from their texts.

    Args:
        text: the map from texts.
        with_offset: benchmarks on which models have offsets of their own.
        own_offset: scale of those offsets.
        phi_Tp: encodings.
        surface_Ts: surface features; None where the bank had none.
    """
    outputs = text(phi_Tp, surface_Ts)
    offsets = own_offset * text.memberships(phi_Tp)[:, with_offset]
    return outputs[:, 0], np.concatenate([outputs[:, 1:], offsets], axis=1)


def _basis(factors_Qk: Floats) -> Floats:
    """Turns weights into public coordinates [k, k'], the most telling first.

    With it, the mean over the bank of squared differences of predictions is a squared distance.
    """
    power_k, axes_kk = np.linalg.eigh(factors_Qk.T @ factors_Qk / len(factors_Qk))
    order = np.argsort(-power_k, kind="stable")
    kept = order[power_k[order] > 1e-12 * power_k.max()]
    axes = axes_kk[:, kept]
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return np.asarray(axes * signs * np.sqrt(power_k[kept]))


def _some_scores(values_BQ: Array, rng: np.random.Generator) -> Array:
    """Keep log-uniformly many of each model's scores, from 4 up, as new models arrive."""
    kept = np.full_like(values_BQ, np.nan)
    for row, values in enumerate(values_BQ):
        asked = np.flatnonzero(~np.isnan(values))
        if len(asked) == 0:
            continue
        low = min(4, len(asked))
        size = round(np.exp(rng.uniform(np.log(low), np.log(len(asked)))))
        chosen = rng.permutation(asked)[:size]
        kept[row, chosen] = values[chosen]
    return kept
