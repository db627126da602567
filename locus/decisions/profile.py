"""Models that have a wanted profile of accuracies."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from locus import profiles
from locus.bank import Array
from locus.decisions.published import DecisionError, PublishedMap

Place = Callable[[Array], ArrayLike]


def parse_wanted(words: Sequence[str]) -> dict[str, float]:
    """Accuracies by task from ``TASK=ACCURACY`` words.

    Raises:
        DecisionError: a word of another form, a number outside [0, 1], or a task named twice.
    """
    wanted: dict[str, float] = {}
    for word in words:
        task, _, number = word.rpartition("=")
        try:
            accuracy = float(number)
        except ValueError:
            accuracy = float("nan")
        if not task or not 0 <= accuracy <= 1:
            raise DecisionError(f"{word!r}: write TASK=ACCURACY, a share such as gsm8k=0.6")
        if task in wanted:
            raise DecisionError(f"task {task!r} is wanted twice: give one accuracy")
        wanted[task] = accuracy
    return wanted


def find_models(
    published: PublishedMap, wanted: Mapping[str, float], bank: Sequence[str], place: Place, k: int
) -> pl.DataFrame:
    """Models nearest to where a model with the wanted accuracies would lie.

    Args:
        published: the map.
        wanted: accuracy by task.
        bank: ids of the queries that ``place`` reads, in its order.
        place: from scores [1, len(bank)] to embeddings [1, d], as the map's models were placed.
        k: models wanted.

    Returns:
        rank, model_id, distance, n_scores, and per wanted task the observed accuracy (null where
        the model was asked none of it), in a column named after the task.

    Raises:
        DecisionError: a task is not published, or no bank query is of it.
        ProfileError: see `locus.profiles`.
    """
    for task in wanted:
        published.check_task(task)
    column = {query: i for i, query in enumerate(published.queries["query_id"].to_list())}
    # A query may have left the bank since the map was learned; it can't be asked for any more.
    at = np.array([column.get(query, -1) for query in bank], dtype=np.int64)
    labels = ["" if i < 0 else str(published.task_Q[i]) for i in at]
    for task in wanted:
        if task not in labels:
            raise DecisionError(
                f"the map was learned without training queries of {task!r}: nothing can be placed "
                f"by it; it knows {', '.join(sorted(set(labels) - {''}))}"
            )
    values = np.where(at >= 0, published.values_MQ[:, at], np.nan)
    asked = ~np.isnan(values)
    n = asked.sum(axis=0)
    ease = np.where(n > 0, np.where(asked, values, 0).sum(axis=0) / np.maximum(n, 1), np.nan)
    scores_1Q = profiles.synthesise(wanted, labels, ease)
    found = profiles.find(place, published.z_Md, scores_1Q, k)
    rows = found.models.tolist()
    return pl.DataFrame(
        {
            "rank": pl.Series(range(1, len(rows) + 1), dtype=pl.Int64),
            "model_id": published.name(rows),
            "distance": found.distances,
            "n_scores": published.models["n_scores"].gather(rows),
            **{
                f"accuracy {task}": pl.Series(published.accuracy(task)[rows]).fill_nan(None)
                for task in wanted
            },
        }
    )
