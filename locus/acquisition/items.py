"""The bank's queries as a chooser sees them: what an answer to each would tell, and about what.

Shape letters: Q bank queries, T target queries, k factors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from locus.embedding.posterior import LinearItems

Floats = NDArray[np.float64]

EDGE = 0.02
"""Scores are never expected to be surer than this: noise stays positive."""


@dataclass(frozen=True)
class Items:
    """Queries that can be asked, under score = mean + factors . weights + noise, weights ~ N(0, I).

    Attributes:
        mean_Q: mean score of each query over models.
        factors_Qk: its factors.
        noise_Q: variance of a score that the factors leave, above 0.
        benchmark: the benchmark of each query.
        moment_kk: mean of f f' over the factors f of target queries: a model whose weights have
            covariance C is predicted on them with mean variance trace(C moment).
    """

    mean_Q: Floats
    factors_Qk: Floats
    noise_Q: Floats
    benchmark: tuple[str, ...]
    moment_kk: Floats

    def __post_init__(self) -> None:
        """Refuse shapes that don't fit, and noise that is not positive."""
        n, k = self.factors_Qk.shape
        found = (len(self.mean_Q), len(self.noise_Q), len(self.benchmark), *self.moment_kk.shape)
        if found != (n, n, n, k, k):
            raise ValueError(
                f"{n} queries of {k} factors, but mean, noise, benchmark and moment have {found}; "
                "take all of them from one fit"
            )
        if not (self.noise_Q > 0).all():
            worst = int(np.argmin(self.noise_Q))
            raise ValueError(f"query {worst} has noise {self.noise_Q[worst]}; it must be positive")

    def __len__(self) -> int:
        """How many queries."""
        return len(self.benchmark)


def items_of(
    placement: LinearItems,
    benchmark: Sequence[str],
    n_models: int | None,
    targets_Tk: Floats | None = None,
    *,
    bank_share: float = 0.3,
    trust_noise: float = 0.5,
) -> Items:
    """Items of a fitted placement.

    What a few models have taught about an item is part luck, and whoever picks the largest
    loading or the smallest noise picks the luckiest. Loadings are therefore shrunk by empirical
    Bayes, and an item's noise lies between its estimate and that of a binary score at its mean.

    Args:
        placement: fitted on these queries.
        benchmark: the benchmark of each.
        n_models: models it was fitted on; None leaves the loadings as they are.
        targets_Tk: factors of the queries whose prediction matters, such as those predicted from
            their texts. By default each benchmark's mean factors, as often as it has queries: of
            a query that nobody has answered, hardly more than that is known.
        bank_share: weight of predicting the bank's own items beside those targets, within 0..1.
        trust_noise: weight of each item's estimated noise, within 0..1.

    Raises:
        ValueError: shapes that don't fit, no models, or a weight outside 0..1.
    """
    if n_models is not None and n_models < 1:
        raise ValueError(f"fitted on {n_models} models: loadings of none can't be shrunk")
    for name, share in (("bank_share", bank_share), ("trust_noise", trust_noise)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is {share}; it must lie within 0..1")
    if len(benchmark) != len(placement.mean_Q):
        raise ValueError(
            f"{len(benchmark)} benchmarks for {len(placement.mean_Q)} queries; "
            "give those of the queries that the placement was fitted on"
        )
    mean_Q = np.clip(placement.mean_Q, EDGE, 1 - EDGE)
    factors_Qk = placement.factors_Qk
    if n_models is not None:
        factors_Qk = _shrunk(factors_Qk, placement.noise_Q, n_models)
    noise_Q = trust_noise * placement.noise_Q + (1 - trust_noise) * mean_Q * (1 - mean_Q)
    if targets_Tk is None:
        targets_Tk = _benchmark_means(factors_Qk, benchmark)
    moment_kk = (1 - bank_share) * _moment(targets_Tk) + bank_share * _moment(factors_Qk)
    return Items(mean_Q, factors_Qk, noise_Q, tuple(benchmark), moment_kk)


def _benchmark_means(factors_Qk: Floats, benchmark: Sequence[str]) -> Floats:
    """For each query the mean factors of its benchmark, [Q, k]."""
    labels = np.array(benchmark)
    means_Qk = np.empty_like(factors_Qk)
    for name in set(benchmark):
        means_Qk[labels == name] = factors_Qk[labels == name].mean(axis=0)
    return means_Qk


def _shrunk(factors_Qk: Floats, noise_Q: Floats, n_models: int) -> Floats:
    """Loadings drawn towards 0 by prior / (prior + error), the error that of a regression.

    Each factor has unit variance over models, so a loading's squared error is noise / models.
    """
    error_Q = noise_Q / n_models
    prior_k = np.maximum((factors_Qk**2).mean(axis=0) - error_Q.mean(), 1e-6)
    return np.asarray(factors_Qk * prior_k / (prior_k + error_Q[:, None]))


def _moment(factors_Tk: Floats) -> Floats:
    """Mean of f f', its trace scaled to 1, so that two of them can be weighed."""
    moment = factors_Tk.T @ factors_Tk / max(len(factors_Tk), 1)
    total = np.trace(moment)
    return np.asarray(moment / total if total > 0 else np.eye(len(moment)) / len(moment))
