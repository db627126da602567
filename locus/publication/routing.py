"""The routing part of a snapshot: buckets, calibrated bounds and the table."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from locus.publication.content import Array, SnapshotContent
from locus.routing.bounds import Calibrated, Check, calibrate, check
from locus.routing.buckets import Buckets, learn_buckets
from locus.routing.table import TOPIC, Bucket, routing_table, task_buckets


@dataclass(frozen=True)
class Routing:
    """What goes into a snapshot's routing folder.

    Attributes:
        table: see `locus.routing.table.routing_table`.
        topics: learned buckets; None if there are too few queries.
        words: words of each topic, by its name in the table.
        bound: how lower bounds were made; None if there are none.
        bound_check: how they do on test queries; None if that can't be said.
    """

    table: pl.DataFrame
    topics: Buckets | None
    words: dict[str, list[str]]
    bound: Calibrated | None
    bound_check: Check | None


def route(content: SnapshotContent, p_TM: Array, y_TM: Array) -> Routing:
    """Learn topics, calibrate bounds and rank the pool.

    Topics are learned from train and val queries; bounds from val answers, which neither the map
    nor the models' places were learned from; both are only checked on test answers.

    Args:
        content: what to publish.
        p_TM: predicted P(correct) of the reference queries.
        y_TM: their scores; NaN where missing.
    """
    split_T = content.reference["split"].to_numpy()
    width = _width(content)
    phi_Tp = content.x_Tf[:, :width]
    known_T = np.flatnonzero(split_T != "test")
    topics = learn_buckets(
        phi_Tp[known_T],
        content.reference["text"].gather(known_T).to_list(),
        p_TM[known_T],
        y_TM[known_T],
    )
    buckets = task_buckets(content.reference["task"].to_list())
    words: dict[str, list[str]] = {}
    if topics is not None:
        label_T = topics.assign(phi_Tp)
        names = topics.names([bucket.name for bucket in buckets])
        for g, (name, said) in enumerate(zip(names, topics.words, strict=True)):
            rows = np.flatnonzero(label_T == g)
            if len(rows):
                words[name] = list(said)
                buckets.append(Bucket(name, TOPIC, rows, said))
    deviation_TM = content.predictor.deviations(content.covariance_Mu, content.x_Tf)
    bound, tested = _bounds(p_TM, y_TM, deviation_TM, split_T, buckets)
    table = routing_table(
        content.models,
        content.reference,
        p_TM,
        content.scores.filter(pl.col("split") != "test"),
        content.cost,
        buckets=buckets,
        deviation_TM=deviation_TM,
        calibrated=bound,
    )
    return Routing(table, topics, words, bound, tested)


def _width(content: SnapshotContent) -> int:
    """Width of an encoding: what is left of the features without the surface features."""
    from locus.encoding.surface import SURFACE

    return int(content.x_Tf.shape[1]) - len(SURFACE)


def _bounds(
    p_TM: Array,
    y_TM: Array,
    deviation_TM: Array | None,
    split_T: NDArray[np.str_],
    buckets: list[Bucket],
) -> tuple[Calibrated | None, Check | None]:
    p, y = p_TM.astype(np.float64), y_TM.astype(np.float64)
    deviation = None if deviation_TM is None else deviation_TM.astype(np.float64)

    def of(split: str) -> list[NDArray[np.int64]]:
        return [bucket.rows[split_T[bucket.rows] == split] for bucket in buckets]

    bound = calibrate(p, y, deviation, of("val"))
    if bound is None:
        return None, None
    return bound, check(bound, p, y, deviation, of("test"))
