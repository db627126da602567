"""Is it one model behind two ids? Judged by what both answered, calibrated on the other models.

Shape letters: M models, Q bank queries, k width of a place.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locus.bank import Array
from locus.decisions.published import DecisionError, Ints, PublishedMap
from locus.fingerprint import Fingerprint, Side

Place = Callable[[Array], tuple[ArrayLike, ArrayLike]]

# Fewer scores a side say nothing that an error rate could be stated for.
LEAST_SCORES = 8
# Models with enough scores for two samples, below which the samples are made smaller.
_LEAST_MODELS = 20
_LEAST_PAIRS = 200
_RIGHT = 0.5


@dataclass(frozen=True)
class Identity:
    """What the test says of two ids.

    Attributes:
        verdict: ``same``, ``different`` or ``undecided``: the test's, and undecided too where
            ``p_same`` says the opposite.
        p_same: probability that it is one model, if that was as probable as not before.
        n: answers of each side that were used.
        n_common: of those, queries that both answered.
        n_agree: of those, both right or both wrong.
        statistic: log odds of "same", as calibrated.
        same_above: above it the verdict is "same".
        different_below: below it the verdict is "different".
        false_same: share of pairs of different models that may be called "same".
        false_different: share of pairs of one model that may be called "different".
        different_found: share of the calibration pairs of different models called "different".
        same_found: share of the calibration pairs of one model called "same".
        calibration_models: models that it was calibrated on.
        advice: what to do next.
    """

    verdict: str
    p_same: float
    n: int
    n_common: int
    n_agree: int | None
    statistic: float
    same_above: float
    different_below: float
    false_same: float
    false_different: float
    different_found: float
    same_found: float
    calibration_models: int
    advice: str

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def identify(
    published: PublishedMap,
    model_a: str,
    model_b: str,
    bank: list[str],
    place: Place,
    *,
    error_rate: float = 0.05,
    rivals: int | None = None,
    self_disagreement: float = 0.02,
    most_models: int = 400,
    most_scores: int = 1000,
    seed: int = 0,
) -> Identity:
    """Judge whether two ids are one model.

    Each side is thinned to the same number of answers, so that the test is made at just the sizes
    that it was calibrated for. Rates hold for pairs like those of the pool.

    Args:
        published: the map.
        model_a: one id.
        model_b: the other.
        bank: ids of the queries that ``place`` reads, in its order.
        place: from scores [B, Q] to posterior means and covariances under a standard normal prior.
        error_rate: both kinds of error, in (0, 1).
        rivals: calibrate "different" on this many models most like each; None on any.
        self_disagreement: share of queries on which one model is taken to differ from itself when
            it is asked again, in (0, 0.5).
        most_models: models that calibrate, at most, drawn at random.
        most_scores: answers a side, at most.
        seed: of the draws.

    Raises:
        DecisionError: a model is not published, both are the same, one has too few answers, or the
            pool is too small to calibrate on.
        FingerprintError: see `locus.fingerprint`.
    """
    pair = published.pair(model_a, model_b)
    column = {query: i for i, query in enumerate(published.queries["query_id"].to_list())}
    at = np.array([column.get(query, -1) for query in bank], dtype=np.int64)
    values = np.where(at >= 0, published.values_MQ[:, at], np.nan).astype(np.float32)
    rng = np.random.default_rng(seed)
    asked = ~np.isnan(values)
    for row, name in zip(pair, (model_a, model_b), strict=True):
        if asked[row].sum() < LEAST_SCORES:
            raise DecisionError(
                f"{name!r} has {int(asked[row].sum())} answers to queries that the map was learned "
                f"from; {LEAST_SCORES} are needed: ask more (`locus add-model {name} --queries N`)"
            )
    others = np.setdiff1d(np.arange(len(values)), pair)
    n, n_common = _sizes(asked, pair, others, most_scores)
    fit_for = others[asked[others].sum(axis=1) >= 2 * n - n_common]
    fit_for = rng.permutation(fit_for)[:most_models]
    test = Fingerprint.fit(
        place,
        values[fit_for],
        n,
        n_common=n_common,
        self_disagreement=self_disagreement,
        rivals=rivals,
        rounds=int(np.clip(-(-_LEAST_PAIRS // len(fit_for)), 2, 20)),
        seed=seed,
    )
    sides = _thinned(values[list(pair)], n, n_common, rng)
    means, covariances = place(sides)
    both = ~np.isnan(sides).any(axis=0)
    right = sides[:, both] >= _RIGHT
    n_agree = int((right[0] == right[1]).sum()) if n_common else None
    left, other = (Side(np.asarray(means)[i], np.asarray(covariances)[i], n) for i in (0, 1))
    verdict = test.compare(
        left,
        other,
        n_agree=n_agree,
        n_common=n_common,
        false_same=error_rate,
        false_different=error_rate,
    )
    # Where the two kinds lie far apart, the threshold may lie beyond even odds; a verdict that
    # contradicts its own probability is no verdict, and abstaining makes neither error.
    same_above = max(verdict.threshold, 0.0)
    different_below = min(verdict.different_below, 0.0)
    called = "undecided"
    if verdict.statistic > same_above:
        called = "same"
    elif verdict.statistic < different_below:
        called = "different"
    return Identity(
        called,
        verdict.p_same,
        n,
        n_common,
        n_agree,
        verdict.statistic,
        same_above,
        different_below,
        error_rate,
        error_rate,
        float((test.different_P < different_below).mean()),
        float((test.same_P > same_above).mean()),
        len(fit_for),
        _advice(called, model_a, model_b, n, n_common),
    )


def _sizes(
    asked: NDArray[np.bool_], pair: tuple[int, int], others: Ints, most: int
) -> tuple[int, int]:
    """Answers a side and common queries that enough of the pool has, as many as possible."""
    a, b = pair
    n = int(min(asked[a].sum(), asked[b].sum(), most))
    common = int((asked[a] & asked[b]).sum())
    counts = np.sort(asked[others].sum(axis=1))[::-1]
    while n >= LEAST_SCORES:
        n_common = min(n, common)
        enough = int((counts >= 2 * n - n_common).sum())
        if enough >= _LEAST_MODELS:
            return n, n_common
        n = n * 4 // 5
    raise DecisionError(
        f"fewer than {_LEAST_MODELS} other models have the answers that a test takes "
        f"({LEAST_SCORES} a side or more): it can't be calibrated on so small a pool; "
        "`locus compare` shows how often the two differ"
    )


def _thinned(values_2Q: Array, n: int, n_common: int, rng: np.random.Generator) -> Array:
    """Both sides with n answers each, n_common of them to the same queries.

    There is a rest only where all common queries are taken, so the rest is never common.
    """
    asked = ~np.isnan(values_2Q)
    common = rng.permutation(np.flatnonzero(asked.all(axis=0)))[:n_common]
    kept = np.full_like(values_2Q, np.nan)
    free = asked.copy()
    free[:, common] = False
    for side in (0, 1):
        own = rng.permutation(np.flatnonzero(free[side]))[: n - n_common]
        chosen = np.concatenate([common, own])
        kept[side, chosen] = values_2Q[side, chosen]
    return kept


def _advice(verdict: str, a: str, b: str, n: int, n_common: int) -> str:
    if verdict != "undecided":
        return "decided at the stated error rates; `locus compare` shows where they differ"
    if n_common < n:
        return (
            f"can't tell from {n} answers a side, {n_common} to the same queries: ask both the same"
            f" queries (`locus add-model {a} --queries N`, the same N for {b})"
        )
    return (
        f"can't tell from {n} common queries: ask both more of the same queries "
        f"(`locus add-model {a} --queries N`, the same N for {b})"
    )
