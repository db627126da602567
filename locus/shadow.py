"""Two maps side by side on answers that neither learned from, and whether to change over.

Belongs here: the comparison and the rule, on plain arrays. Does not: training, places, records.

The maps are compared on validation queries. Test queries measure what is published, so choosing by
them would make that measurement too good; training queries were read by one map or both.

Shape letters: M models, T held-out queries, R rounds of the bootstrap.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from locus.bank import Array
from locus.benchmark.bootstrap import draw, interval, resampled, sums
from locus.benchmark.metrics import losses, measures
from locus.ids import short_hash

Floats = NDArray[np.float64]

MEASURES = ("bce", "auc", "accuracy", "hit1")

MARGIN = 0.005
"""Nats per answer: a map whose loss is surely not larger by more than this is called no worse."""

GROWTH = 0.2
"""By how much more a map must know (queries or models) to be worth a change when it is no worse."""

TASK_QUERIES = 20
"""Training queries with which a task that the other map has never seen is known."""

LEAST_MODELS, LEAST_QUERIES, LEAST_ANSWERS = 8, 50, 1000
"""Nothing is promoted on fewer models, validation queries or answers to them."""

FOLDS = 4
"""Parts in which models that the active map has not seen are left out of a candidate's twins."""

ROUNDS = 2000


@dataclass(frozen=True)
class Difference:
    """One measure of two maps on the same answers.

    Attributes:
        active: of the active map.
        candidate: of the candidate.
        low: lower end of the 95 % interval of candidate - active.
        high: upper end; both NaN where the measure is not defined.
    """

    active: float
    candidate: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        """Candidate less active."""
        return self.candidate - self.active

    def to_dict(self) -> dict[str, float | None]:
        """As plain JSON values; None where a number is not defined."""
        values = {
            "active": self.active,
            "candidate": self.candidate,
            "difference": self.difference,
            "low": self.low,
            "high": self.high,
        }
        return {name: value if math.isfinite(value) else None for name, value in values.items()}

    def __str__(self) -> str:
        """Difference and interval in words."""
        return f"{self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


@dataclass(frozen=True)
class Comparison:
    """Two maps on the same answers.

    Attributes:
        n_models: models with an answer.
        n_queries: queries with an answer.
        n_answers: answers.
        measures: bce (nats per answer), auc, accuracy, hit1.
    """

    n_models: int
    n_queries: int
    n_answers: int
    measures: dict[str, Difference]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "n_models": self.n_models,
            "n_queries": self.n_queries,
            "n_answers": self.n_answers,
            **{name: found.to_dict() for name, found in self.measures.items()},
        }


@dataclass(frozen=True)
class LearnedFrom:
    """What a map was learned from; kept among the facts of its checkpoint.

    Attributes:
        digest: of all scores on training and validation queries.
        models: ids of the models.
        queries: training queries by task that at least `LEAST_MODELS` of them answered.
    """

    digest: str
    models: tuple[str, ...]
    queries: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"digest": self.digest, "models": list(self.models), "queries": self.queries}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self | None:
        """From a checkpoint's facts; None where they don't say."""
        found = facts.get("learned_from")
        if found is None:
            return None
        return cls(found["digest"], tuple(found["models"]), dict(found["queries"]))


@dataclass(frozen=True)
class Decision:
    """Whether the candidate becomes the active map, and why in words."""

    promote: bool
    reason: str


def compare(active_MT: Array, candidate_MT: Array, y_MT: Array, seed: int = 0) -> Comparison:
    """Both maps' predictions against the answers, with paired intervals of the differences.

    The interval of BCE resamples queries and models, each with replacement and independently
    (Owen, The pigeonhole bootstrap, 2007), since it is to hold for other queries and other
    models. Those of the other measures resample queries only, as in `locus.benchmark.bootstrap`:
    a choice among models is not defined on a pool in which some stand twice.

    Args:
        active_MT: P(correct) by the active map.
        candidate_MT: P(correct) by the candidate.
        y_MT: answers, from 0 to 1, NaN where there is none.
        seed: of the resampling.

    Raises:
        ValueError: shapes differ, or a prediction is not a probability.
    """
    if active_MT.shape != candidate_MT.shape:
        raise ValueError(f"{active_MT.shape} predictions beside {candidate_MT.shape}")
    known = ~np.isnan(y_MT)
    rows, columns = known.any(axis=1), known.any(axis=0)
    counts = int(rows.sum()), int(columns.sum()), int(known.sum())
    if not counts[2]:
        nothing = Difference(*[float("nan")] * 4)
        return Comparison(*counts, dict.fromkeys(MEASURES, nothing))
    pick = np.ix_(rows, columns)
    old, new, y = active_MT[pick], candidate_MT[pick], y_MT[pick]
    of_old, of_new = measures(old, y), measures(new, y)
    weight_RT = draw(y.shape[1], ROUNDS, seed)
    old_R, new_R = resampled(sums(old, y), weight_RT), resampled(sums(new, y), weight_RT)
    ends = {name: interval(new_R[name] - old_R[name]) for name in MEASURES}
    ends["bce"] = _loss_interval(losses(new, y) - losses(old, y), weight_RT, seed + 1)
    found = {name: Difference(of_old[name], of_new[name], *ends[name]) for name in MEASURES}
    return Comparison(*counts, found)


def _loss_interval(difference_MT: Floats, weight_RT: Array, seed: int) -> tuple[float, float]:
    known_MT = ~np.isnan(difference_MT)
    weight_RM = draw(len(difference_MT), len(weight_RT), seed)

    def total(values_MT: Floats) -> Floats:
        return np.asarray(np.einsum("rm,rm->r", weight_RT @ values_MT.T, weight_RM))

    with np.errstate(invalid="ignore", divide="ignore"):
        mean_R = total(np.where(known_MT, difference_MT, 0)) / total(known_MT.astype(np.float64))
    return interval(mean_R)


def own_means(values_MQ: Array) -> Floats:
    """Each model's mean training score, drawn towards the mean of all by one score's weight, [M].

    What anybody would predict without a map, whatever the query.
    """
    known = ~np.isnan(values_MQ)
    total_M = np.where(known, values_MQ, 0).sum(axis=1, dtype=np.float64)
    mean = float(total_M.sum() / max(known.sum(), 1))
    return np.asarray((total_M + mean) / (known.sum(axis=1) + 1))


def fold_of(model_id: str) -> int:
    """Part in which a model is left out: a whole organisation at a time, by its name alone."""
    return int(short_hash("shadow:" + model_id.split("/")[0], 8), 16) % FOLDS


def too_little(y_MT: Array) -> str | None:
    """Why these validation answers are too few to promote anything by; None if they suffice."""
    known = ~np.isnan(y_MT)
    n = int(known.any(axis=1).sum()), int(known.any(axis=0).sum()), int(known.sum())
    least = LEAST_MODELS, LEAST_QUERIES, LEAST_ANSWERS
    if all(have >= want for have, want in zip(n, least, strict=True)):
        return None
    return (
        f"too little to judge by: {n[2]} validation answers of {n[0]} models to {n[1]} queries; "
        f"at least {LEAST_ANSWERS} of {LEAST_MODELS} models to {LEAST_QUERIES} queries are needed"
    )


def knows_more(active: LearnedFrom | None, candidate: LearnedFrom) -> str | None:
    """What the candidate knows that the active map doesn't, if that is worth a change.

    Returns:
        In words; None where it is not much, or where nobody knows what the active one knows.
    """
    if active is None:
        return None
    said = [
        f"{(after - before) / before:.0%} more {name} ({before} -> {after})"
        for name, before, after in (
            ("queries", sum(active.queries.values()), sum(candidate.queries.values())),
            ("models", len(active.models), len(candidate.models)),
        )
        if before and after >= (1 + GROWTH) * before
    ]
    tasks = [
        task
        for task, n in candidate.queries.items()
        if n >= TASK_QUERIES and not active.queries.get(task)
    ]
    if tasks:
        said.append(f"new tasks: {', '.join(sorted(tasks))}")
    return "; ".join(said) or None


def decide(
    known: Comparison | None, over_means: Difference, unseen: Comparison | None, more: str | None
) -> Decision:
    """Whether the candidate becomes the active map.

    Not if it has not been shown to predict better than each model's mean score; if its routing is
    surely worse; or if it is surely worse on models that neither map has seen. Otherwise, if its
    loss is surely lower, or if that is surely not higher by `MARGIN` and it knows much more.
    "Surely": the whole 95 % interval says so.

    Args:
        known: both maps on all models; None where the active map can't be read, so that any map
            that is worth something is better.
        over_means: BCE of the candidate against that of each model's mean score (`own_means`).
        unseen: both on models that neither learned from; None where there are too few.
        more: what the candidate knows that the active map doesn't (`knows_more`).
    """
    if not over_means.high < 0:
        return Decision(
            False,
            "the candidate is not shown to predict better than each model's mean score "
            f"(BCE {over_means}): are the scores what they should be?",
        )
    if known is None:
        return Decision(
            True,
            "the active map can't be read, and the candidate predicts better than each model's "
            f"mean score: BCE {over_means}",
        )
    bce, hit1 = known.measures["bce"], known.measures["hit1"]
    if hit1.high < 0:
        return Decision(False, f"the candidate routes worse: hit@1 {hit1}")
    if unseen is not None and unseen.measures["bce"].low > 0:
        return Decision(
            False,
            f"the candidate is worse on {unseen.n_models} models that neither map learned from: "
            f"BCE {unseen.measures['bce']}",
        )
    if bce.high < 0:
        return Decision(True, f"the candidate predicts better: BCE {bce}")
    if bce.high < MARGIN and more:
        return Decision(
            True, f"the candidate is no worse (BCE {bce}, margin {MARGIN}) and knows more: {more}"
        )
    if bce.high < MARGIN:
        return Decision(
            False, f"the candidate is no worse (BCE {bce}), nor better, nor does it know much more"
        )
    return Decision(False, f"the candidate is not shown to be better or no worse: BCE {bce}")
