"""Who steps in for a model, over all queries and in each task."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from locus.decisions.published import DecisionError, Floats, Ints, PublishedMap, known
from locus.similarity import wilson

ALL = "all"
# A score of 0.5 or more counts as right, as everywhere agreement is counted.
_RIGHT = 0.5


def replacements(published: PublishedMap, model_id: str, task: str | None = None) -> pl.DataFrame:
    """The nearest model, and in each bucket who agreed most and who answers best.

    Expected agreement is 1 minus `locus.similarity.predicted_disagreement`: it supposes that two
    models err independently given their P(correct), which understates how much near models agree
    and leans to the strong. So who agrees most is judged by the lower end of the Wilson interval of
    observed agreement, and by expected agreement only where nobody has a common query.

    Args:
        published: the map.
        model_id: the model that is away.
        task: only this bucket; None takes ``all`` and every task.

    Returns:
        bucket, why (``nearest``, ``agreed most`` or ``should agree most``, ``answers best``),
        stand_in, distance,
        expected_agreement, p_correct, own_p_correct (of the model that is away),
        observed_agreement, low (of its 95 % interval), n_common. Where one model is two of these,
        it has one row.

    Raises:
        DecisionError: the model or the task is not published, it is the only model, or there are
            no predictions.
    """
    row = published.index(model_id)
    if published.models.height < 2:
        raise DecisionError(f"{model_id!r} is the only model published: nobody can step in")
    if task is not None:
        published.check_task(task)
    distance = published.distances_to(row)
    others = np.arange(len(distance)) != row
    nearest = int(np.where(others, distance, np.inf).argmin())
    labels = published.task_T
    buckets = [ALL, *sorted(set(labels.tolist()))] if task is None else [task]
    rows = []
    for bucket in buckets:
        on_T = np.ones(len(labels), dtype=bool) if bucket == ALL else labels == bucket
        if not on_T.any():
            raise DecisionError(
                f"snapshot {published.snapshot_id} has no predictions for {bucket!r}: publish "
                "with more `reference_queries`"
            )
        p = published.p_TM[on_T]
        agree = _expected_agreement(p, row)
        mean = p.mean(axis=0)
        seen = _seen(published, row, None if bucket == ALL else bucket)
        counted = others & (seen.n_M > 0)
        alike = np.where(counted, seen.low_M, -np.inf) if counted.any() else agree
        wanted = {
            "nearest": nearest,
            ("agreed most" if counted.any() else "should agree most"): _first(
                alike, distance, others
            ),
            "answers best": _first(mean, distance, others),
        }
        rows += [
            {
                "bucket": bucket,
                "why": ", ".join(why for why, model in wanted.items() if model == who),
                "stand_in": published.name([who])[0],
                "distance": float(distance[who]),
                "expected_agreement": float(agree[who]),
                "p_correct": float(mean[who]),
                "own_p_correct": float(mean[row]),
                "observed_agreement": known(seen.rate_M[who]),
                "low": known(seen.low_M[who]),
                "n_common": int(seen.n_M[who]),
            }
            for who in dict.fromkeys(wanted.values())
        ]
    return pl.DataFrame(rows, infer_schema_length=None)


def _expected_agreement(p: Floats, row: int) -> Floats:
    """Expected share of queries on which each model and this one are both right or both wrong."""
    own = p[:, [row]]
    apart: Floats = (own * (1 - p) + p * (1 - own)).mean(axis=0)
    return 1 - apart


def _first(worth: Floats, distance: Floats, others: NDArray[np.bool_]) -> int:
    """The model that is worth most; ties go to the nearer one."""
    return int(np.lexsort((distance, np.where(others, -worth, np.inf)))[0])


@dataclass(frozen=True)
class _Seen:
    """Agreement of one model with all others: rate, lower end of its interval, common queries."""

    rate_M: Floats
    low_M: Floats
    n_M: Ints


def _seen(published: PublishedMap, row: int, task: str | None) -> _Seen:
    values = (
        published.values_MQ if task is None else published.values_MQ[:, published.task_Q == task]
    )
    asked = ~np.isnan(values)
    right = asked & (values >= _RIGHT)
    common = asked & asked[row]
    n_M = common.sum(axis=1).astype(np.int64)
    agreed_M = (common & (right == right[row])).sum(axis=1)
    low, _ = wilson(agreed_M, n_M)
    rate_M = np.where(n_M > 0, agreed_M / np.maximum(n_M, 1), np.nan)
    return _Seen(rate_M, low.fill_null(float("nan")).to_numpy(), n_M)
