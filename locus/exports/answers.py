"""What every format starts from: a model's answers, put together by what was run alike.

Here belong the columns that a format may use and their grouping; how a group becomes a file is the
format's own business.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

import polars as pl

from locus import frames

UNKNOWN_VERSION = "?"
UNNAMED_METRIC = "score"
UNNAMED_FILTER = "none"

# One row an answer: the score, its query, its task, and what ran it.
ANSWERS: dict[str, pl.DataType] = {
    **frames.SCORES,
    **{name: kind for name, kind in frames.QUERIES.items() if name != "query_id"},
    "source": pl.String(),
    "output_type": pl.String(),
    "primary_metric": pl.String(),
    "backend": pl.String(),
    "backend_args": pl.String(),
    "harness_version": pl.String(),
}


@dataclass(frozen=True)
class ExportFile:
    """A file to be written.

    Attributes:
        path: where, relative to the folder of the export.
        content: all of it, UTF-8.
        n_rows: how many answers are in it; 0 for a file about them.
        task: the task it is about; None if it is about several.
    """

    path: PurePosixPath
    content: bytes
    n_rows: int
    task: str | None = None


@dataclass(frozen=True)
class Group:
    """Answers of one version of a model to one task, scored by one metric.

    Attributes:
        model_id, revision, task, task_version, metric, filter: what all rows have in common.
        start: the time of the first score, UTC.
        rows: the answers, ordered by their number or name in the source; keys are `ANSWERS`.
    """

    model_id: str
    revision: str
    task: str
    task_version: str
    metric: str
    filter: str
    start: datetime
    rows: list[dict[str, Any]]

    def first(self, column: str) -> Any:
        """A value that belongs to the task, the version of the model or the run; may be None."""
        return next((row[column] for row in self.rows if row[column] is not None), None)

    @property
    def scores(self) -> list[float]:
        """The scores of the answers that have one."""
        return [row["score"] for row in self.rows if row["score"] is not None]


def groups(answers: pl.DataFrame) -> Iterator[Group]:
    """Groups of answers, ordered by model, time, task and the rest.

    Args:
        answers: columns of `ANSWERS`; each (model, query) at most once.

    Raises:
        ValueError: a column is missing (a fault of the caller).
    """
    missing = sorted(set(ANSWERS) - set(answers.columns))
    if missing:
        raise ValueError(f"answers lack the columns {', '.join(missing)}")
    keys = ["model_id", "revision", "task", "task_version", "metric", "filter"]
    named = answers.with_columns(
        pl.coalesce("metric", "primary_metric", pl.lit(UNNAMED_METRIC)).alias("metric"),
        pl.col("filter").fill_null(UNNAMED_FILTER),
    )
    parts = [
        (key, frame["scored_at"].min(), frame)
        for key, frame in named.partition_by(keys, as_dict=True, include_key=True).items()
    ]
    for key, start, frame in sorted(parts, key=lambda part: (part[0][0], part[1], *part[0][1:])):
        if not isinstance(start, datetime):
            raise ValueError("answers.scored_at holds no times")
        number = pl.col("source_id").str.extract(r"^([0-9]{1,15})$").cast(pl.Int64)
        ordered = frame.sort(number, "source_id", "query_id", nulls_last=True)
        names = dict(zip(keys, map(str, key), strict=True))
        yield Group(**names, start=start, rows=ordered.to_dicts())
