"""Closed-form placement: item factors, a Gaussian prior, and a posterior for every model.

What the published token never reads is what the other models answered to the same query. Here a
query of the bank has a mean score and a few factors from the training models' answers, a model is
a Gaussian over factor weights, and placing it is Bayesian linear regression: no training, any set
of scores, any order, a covariance for free. A query that nobody has answered gets its mean and
factors from its text, by kernel ridge regression.

Shape letters: M training models, B placed models, Q bank queries, T targets, p width of a query
encoding, k factors, d = 128.
"""

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from locus.bank import Array, Bank, Queries

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

D_MODEL = 128
_FOLDS = 4
_EDGE = 0.02


@dataclass(frozen=True)
class FactorConfig:
    """Settings; chosen by cross-fitting over training models and queries (docs/log.md).

    Attributes:
        factors: factors kept, at most 128.
        sweeps: rounds of filling missing scores by the factors themselves.
        ridge: penalty of the map from text to factors.
        rbf: weight of the Gaussian kernel between encodings, beside a linear one of weight 1.
        gamma: its inverse width, on unit vectors.
        soft_benchmark: weight of the kernel between soft benchmark memberships.
        sharpness: inverse temperature of those memberships.
        own_offset: prior standard deviation of a model's own offset on each benchmark, beside the
            factors: what it is better at than the training models' factors can say.
    """

    factors: int = 16
    sweeps: int = 12
    ridge: float = 12.0
    rbf: float = 4.0
    gamma: float = 2.0
    soft_benchmark: float = 10.0
    sharpness: float = 15.0
    own_offset: float = 0.1


@dataclass(frozen=True)
class PlacedByFactors:
    """Posterior of models over factor weights.

    Attributes:
        mean_Bk: posterior means.
        cov_Bkk: posterior covariances.
    """

    mean_Bk: Floats
    cov_Bkk: Floats

    def vectors(self) -> Array:
        """Public embeddings [B, 128]: posterior means, padded by zeros.

        Factors are scaled so that training models have unit variance in each: distances compare.
        """
        padded = np.zeros((len(self.mean_Bk), D_MODEL), dtype=np.float32)
        padded[:, : self.mean_Bk.shape[1]] = self.mean_Bk
        return padded


class TextMap:
    """Kernel ridge regression from a query's text to targets known for the bank's queries."""

    def __init__(self, queries: Queries, targets_Qj: Floats, config: FactorConfig) -> None:
        self.config = config
        self.phi_Qp = queries.phi_Qp.astype(np.float64)
        member_Qn = _memberships(queries)
        centres = (member_Qn.T @ self.phi_Qp) / member_Qn.sum(axis=0)[:, None]
        norms = np.linalg.norm(centres, axis=1, keepdims=True)
        self.centres_np = centres / np.maximum(norms, 1e-12)
        self.soft_Qn = self.soft(self.phi_Qp)
        self.mean_j = targets_Qj.mean(axis=0)
        kernel = self._kernel(self.phi_Qp, self.soft_Qn)
        penalised = kernel + config.ridge * np.eye(len(kernel))
        self.weights_Qj = np.linalg.solve(penalised, targets_Qj - self.mean_j)

    def soft(self, phi_Tp: Floats) -> Floats:
        """Soft benchmark memberships [T, n], rows adding up to 1."""
        logits = self.config.sharpness * phi_Tp @ self.centres_np.T
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))

    def _kernel(self, phi_Tp: Floats, soft_Tn: Floats) -> Floats:
        c = self.config
        inner = phi_Tp @ self.phi_Qp.T
        squares = (phi_Tp**2).sum(1)[:, None] + (self.phi_Qp**2).sum(1)[None] - 2 * inner
        near = np.exp(-c.gamma * np.maximum(squares, 0))
        return np.asarray(inner + c.rbf * near + c.soft_benchmark * soft_Tn @ self.soft_Qn.T)

    def __call__(self, phi_Tp: Array) -> Floats:
        """Predicted targets [T, j]."""
        phi = phi_Tp.astype(np.float64)
        return np.asarray(self._kernel(phi, self.soft(phi)) @ self.weights_Qj + self.mean_j)


class FactorPlacement:
    """Closed-form placement and prediction; see the module. Follows `locus.bank.Method`."""

    name = "factors"
    needs_benchmark = False

    def __init__(self, config: FactorConfig | None = None) -> None:
        self.config = config or FactorConfig()
        self.calibration = (0.0, 1.0)

    def fit(self, bank: Bank, seed: int) -> None:
        """Learn item factors and the text map, then calibrate by cross-fitting."""
        self._learn(bank.queries, bank.values_MQ)
        self.calibration = self._cross_fit(bank, seed)

    def _learn(self, queries: Queries, values_MQ: Array) -> None:
        values = values_MQ.astype(np.float64)
        n_models = len(values)
        member_Qn = _memberships(queries)
        # The largest benchmarks get offsets; half of the 128 numbers stay for factors.
        self.with_offset = np.sort(np.argsort(-member_Qn.sum(0), kind="stable")[: D_MODEL // 2])
        room = D_MODEL - len(self.with_offset)
        k = min(self.config.factors, room, max(n_models - 2, 1), values.shape[1])
        known = ~np.isnan(values)
        overall = values[known].mean() if known.any() else 0.5
        count = known.sum(axis=0)
        # One imaginary average answer: an item that few have answered is not trusted yet.
        self.mean_Q = (np.where(known, values, 0).sum(axis=0) + overall) / (count + 1)
        residual = np.where(known, values - self.mean_Q, 0.0)
        filled = residual
        for _ in range(self.config.sweeps):
            u_Mk, s_k, v_kQ = _truncated(filled, k)
            low_rank = (u_Mk * s_k) @ v_kQ
            filled = np.where(known, residual, low_rank)
        freedom = n_models / max(n_models - k, 1)
        left = np.where(known, residual - low_rank, 0.0) ** 2
        noise_Q = left.sum(axis=0) / np.maximum(count, 1) * freedom
        # Part of a factor's spread is noise: what is left is its prior variance.
        spread_k = np.maximum(s_k**2 / n_models - noise_Q.mean(), 1e-6)
        shared_Qk = (v_kQ * np.sqrt(spread_k)[:, None]).T
        self.factors_Qk = np.concatenate([shared_Qk, self._offsets(member_Qn)], axis=1)
        self.noise_Q = 0.7 * noise_Q + 0.3 * noise_Q.mean() + 0.01
        targets = np.concatenate([self.mean_Q[:, None], shared_Qk], axis=1)
        self.text = TextMap(queries, targets, self.config)

    def vectors(self, placed: PlacedByFactors) -> Array:
        """Public embeddings [B, 128]."""
        return placed.vectors()

    def place(self, values_BQ: Array) -> PlacedByFactors:
        """Posterior of each model given its scores; the prior for a model without any."""
        k = self.factors_Qk.shape[1]
        mean = np.zeros((len(values_BQ), k))
        cov = np.zeros((len(values_BQ), k, k))
        for row, values in enumerate(values_BQ.astype(np.float64)):
            asked = ~np.isnan(values)
            weighted = self.factors_Qk[asked] / self.noise_Q[asked, None]
            cov[row] = np.linalg.inv(np.eye(k) + weighted.T @ self.factors_Qk[asked])
            mean[row] = cov[row] @ (weighted.T @ (values[asked] - self.mean_Q[asked]))
        return PlacedByFactors(mean, cov)

    def predict(self, placed: PlacedByFactors, targets: Queries) -> Array:
        """P(correct) on queries that nobody has answered, float32 [B, T]."""
        return self._calibrated(*self._from_text(targets.phi_Qp), placed)

    def predict_bank(self, placed: PlacedByFactors, columns: NDArray[np.int64]) -> Array:
        """P(correct) on queries of the bank, whose answers by others are known, [B, len(columns)].

        The calibration is the one fitted on unanswered queries; it errs towards caution here.
        """
        return self._calibrated(self.mean_Q[columns], self.factors_Qk[columns], placed)

    def spread(self, placed: PlacedByFactors, targets: Queries) -> Array:
        """Posterior standard deviation of the predicted score that is due to the model, [B, T]."""
        _, factors_Tk = self._from_text(targets.phi_Qp)
        variance = np.einsum("tk,bkl,tl->bt", factors_Tk, placed.cov_Bkk, factors_Tk)
        deviation: Array = np.sqrt(np.maximum(variance, 0)).astype(np.float32)
        return deviation

    def _from_text(self, phi_Tp: Array) -> tuple[Floats, Floats]:
        """Mean score [T] and factors [T, k] of queries that nobody has answered."""
        predicted = self.text(phi_Tp)
        soft_Tn = self.text.soft(phi_Tp.astype(np.float64))
        return predicted[:, 0], np.concatenate([predicted[:, 1:], self._offsets(soft_Tn)], axis=1)

    def _offsets(self, member_Tn: Floats) -> Floats:
        """Features [T, n'] by which a model has an offset of its own on a benchmark."""
        return self.config.own_offset * member_Tn[:, self.with_offset]

    def _raw(self, mean_T: Floats, factors_Tk: Floats, placed: PlacedByFactors) -> Floats:
        return np.clip(mean_T + placed.mean_Bk @ factors_Tk.T, _EDGE, 1 - _EDGE)

    def _calibrated(self, mean_T: Floats, factors_Tk: Floats, placed: PlacedByFactors) -> Array:
        intercept, slope = self.calibration
        logit = _logit(self._raw(mean_T, factors_Tk, placed))
        return _sigmoid(intercept + slope * logit).astype(np.float32)

    def _cross_fit(self, bank: Bank, seed: int) -> tuple[float, float]:
        """Platt scaling on models and queries that the factors were not learned from.

        Each round leaves out a share of the models and a share of the bank's queries; the models
        left out are placed from some of their other scores and predicted on the queries left out.
        """
        n_models, n_queries = bank.values_MQ.shape
        if n_models < 2 * _FOLDS or n_queries < 2 * _FOLDS:
            log.warning("too few models or queries to calibrate on: predictions stay as they are")
            return 0.0, 1.0
        rng = np.random.default_rng(seed)
        predicted, seen = [], []
        for models, columns in zip(
            np.array_split(rng.permutation(n_models), _FOLDS),
            np.array_split(rng.permutation(n_queries), _FOLDS),
            strict=True,
        ):
            others = np.setdiff1d(np.arange(n_models), models)
            rest = np.setdiff1d(np.arange(n_queries), columns)
            part = FactorPlacement(self.config)
            part._learn(_take(bank.queries, rest), bank.values_MQ[np.ix_(others, rest)])
            placed = part.place(_some_scores(bank.values_MQ[np.ix_(models, rest)], rng))
            raw = part._raw(*part._from_text(bank.queries.phi_Qp[columns]), placed)
            answers = bank.values_MQ[np.ix_(models, columns)].astype(np.float64)
            known = ~np.isnan(answers)
            predicted.append(raw[known])
            seen.append(answers[known])
        if not sum(map(len, seen)):
            return 0.0, 1.0
        return _platt(np.concatenate(predicted), np.concatenate(seen))


def _take(queries: Queries, rows: NDArray[np.int64]) -> Queries:
    return Queries(queries.phi_Qp[rows], tuple(queries.benchmark[i] for i in rows))


def _memberships(queries: Queries) -> Floats:
    """1 where a query is of a benchmark, [Q, n], benchmarks in alphabetical order."""
    names = sorted(set(queries.benchmark))
    labels = np.array(queries.benchmark)
    return np.stack([labels == name for name in names], axis=1).astype(np.float64)


def _truncated(matrix: Floats, k: int) -> tuple[Floats, Floats, Floats]:
    """The k largest singular triplets, signs fixed, by the smaller Gram matrix."""
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    signs = np.sign(v[np.arange(len(v)), np.abs(v).argmax(axis=1)])
    signs[signs == 0] = 1
    return (u * signs)[:, :k], s[:k], (v * signs[:, None])[:k]


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


def _platt(p: Floats, y: Floats) -> tuple[float, float]:
    """Intercept and slope of a logistic regression of y on logit(p), by Newton's method."""
    x = np.stack([np.ones_like(p), _logit(p)], axis=1)
    beta = np.array([0.0, 1.0])
    for _ in range(25):
        q = _sigmoid(x @ beta)
        gradient = x.T @ (y - q)
        hessian = (x * (q * (1 - q))[:, None]).T @ x + 1e-6 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        beta = beta + step
        if np.abs(step).max() < 1e-8:
            break
    return float(beta[0]), float(beta[1])


def _logit(p: Floats) -> Floats:
    return np.asarray(np.log(p / (1 - p)))


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))
