"""Two models side by side: how far apart, how often they differ, and on what."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from locus.decisions.published import PublishedMap, known
from locus.similarity import (
    calibrated_disagreement,
    observed_disagreement,
    predicted_disagreement,
)

_CALIBRATED_ON = 300


@dataclass(frozen=True)
class Comparison:
    """What is known of a pair; None where it isn't.

    Attributes:
        model_a: one model.
        model_b: the other.
        euclidean_distance: between their places.
        cosine: of the angle between their places; 1 is the same direction.
        uncertainty_a: how unsure the place of the first is, in units of P(correct).
        uncertainty_b: the same of the second.
        predicted_disagreement: share of reference queries on which exactly one of them is expected
            to be right (`locus.similarity.predicted_disagreement`).
        n_reference: reference queries.
        disagreement_at_distance: how often pairs of other models at this distance were seen to
            differ (`locus.similarity.calibrated_disagreement`), whatever they are.
        observed_disagreement: share of common queries on which exactly one was right.
        low: lower end of its 95 % Wilson interval.
        high: upper end.
        n_common: common queries.
    """

    model_a: str
    model_b: str
    euclidean_distance: float
    cosine: float | None
    uncertainty_a: float | None
    uncertainty_b: float | None
    predicted_disagreement: float | None
    n_reference: int
    disagreement_at_distance: float | None
    observed_disagreement: float | None
    low: float | None
    high: float | None
    n_common: int

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def compare(published: PublishedMap, model_a: str, model_b: str) -> tuple[Comparison, pl.DataFrame]:
    """Compare two models.

    Returns:
        The comparison, and one row a task: task, accuracy_a, n_a, accuracy_b, n_b,
        predicted_disagreement, observed_disagreement, low, high, n_common; null where unknown.

    Raises:
        DecisionError: a model is not published, or both are the same.
    """
    pair = list(published.pair(model_a, model_b))
    z = published.z_Md[pair].astype(np.float64)
    norms = float(np.linalg.norm(z[0]) * np.linalg.norm(z[1]))
    distance = float(np.linalg.norm(z[0] - z[1]))
    unsure: list[float | None] = [None, None]
    if published.uncertainty_M is not None:
        unsure = [known(published.uncertainty_M[row]) for row in pair]
    whole = _disagreement(published, pair, None)
    comparison = Comparison(
        model_a,
        model_b,
        distance,
        float(np.clip(z[0] @ z[1] / norms, -1, 1)) if norms > 0 else None,
        unsure[0],
        unsure[1],
        n_reference=len(published.reference_T),
        disagreement_at_distance=_at_distance(published, pair, distance),
        **whole,
    )
    rows = []
    for task in published.tasks:
        asked = ~np.isnan(published.values_MQ[:, published.task_Q == task][pair])
        accuracy = published.accuracy(task)[pair]
        rows.append(
            {
                "task": task,
                "accuracy_a": known(accuracy[0]),
                "n_a": int(asked[0].sum()),
                "accuracy_b": known(accuracy[1]),
                "n_b": int(asked[1].sum()),
                **_disagreement(published, pair, task),
            }
        )
    return comparison, pl.DataFrame(rows, infer_schema_length=None)


def _at_distance(published: PublishedMap, pair: list[int], distance: float) -> float | None:
    """How often other models differ that lie so far apart; None if none were asked alike."""
    others = np.setdiff1d(np.arange(published.models.height), pair)
    # A few hundred models make tens of thousands of pairs, enough for one curve.
    others = np.sort(np.random.default_rng(0).permutation(others)[:_CALIBRATED_ON])
    z = published.z_Md[others].astype(np.float64)
    one, other = np.triu_indices(len(others), k=1)
    seen = observed_disagreement(published.values_MQ[others])
    n = seen.n_MM[one, other]
    if not n.any():
        return None
    apart = np.linalg.norm(z[one] - z[other], axis=1)
    return float(calibrated_disagreement(apart, seen.rate_MM[one, other], n)(distance))


def _disagreement(published: PublishedMap, pair: list[int], task: str | None) -> dict[str, Any]:
    """Predicted and observed disagreement of two models, on all queries or those of a task."""
    p = published.p_TM[:, pair]
    values = published.values_MQ[pair]
    if task is not None:
        p, values = p[published.task_T == task], values[:, published.task_Q == task]
    seen = observed_disagreement(values)
    return {
        "predicted_disagreement": float(predicted_disagreement(p)[0, 1]) if len(p) else None,
        "observed_disagreement": known(seen.rate_MM[0, 1]),
        "low": known(seen.low_MM[0, 1]),
        "high": known(seen.high_MM[0, 1]),
        "n_common": int(seen.n_MM[0, 1]),
    }
