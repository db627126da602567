"""The score matrix: models by queries, scores in [0, 1], NaN where nobody has asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray


@dataclass(frozen=True)
class ScoreMatrix:
    """Scores of M models on Q queries.

    Attributes:
        models: M model ids.
        queries: Q query ids.
        values_MQ: float32 [M, Q]; NaN is a score that is missing, never a wrong answer.
    """

    models: tuple[str, ...]
    queries: tuple[str, ...]
    values_MQ: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Refuse shapes that don't fit the ids."""
        if self.values_MQ.shape != (len(self.models), len(self.queries)):
            raise ValueError(
                f"{self.values_MQ.shape} scores for {len(self.models)} models "
                f"and {len(self.queries)} queries"
            )

    @classmethod
    def from_frame(
        cls,
        scores: pl.DataFrame,
        models: Sequence[str] | None = None,
        queries: Sequence[str] | None = None,
    ) -> Self:
        """Build it from rows (model_id, query_id, score).

        Args:
            scores: one row a score; rows of models or queries not listed are left out. Ids of the
                type Enum take a tenth of the time that text does.
            models: row order; None takes the distinct model ids, sorted.
            queries: column order; None takes the distinct query ids, sorted.

        Raises:
            ValueError: the same (model, query) appears twice.
        """
        rows = models if models is not None else sorted(scores["model_id"].unique())
        columns = queries if queries is not None else sorted(scores["query_id"].unique())
        cells = pl.DataFrame(
            {
                "row": _positions(scores["model_id"], rows),
                "column": _positions(scores["query_id"], columns),
                "score": scores["score"].cast(pl.Float32),
            }
        ).drop_nulls()
        row, column = cells["row"].to_numpy(), cells["column"].to_numpy()
        # A mark a cell: sorting the pairs to find repeats takes ten times as long.
        there_MQ = np.zeros((len(rows), len(columns)), dtype=bool)
        there_MQ[row, column] = True
        if np.count_nonzero(there_MQ) != len(row):
            raise ValueError("the same (model, query) pair has more than one score")
        values = np.full((len(rows), len(columns)), np.nan, dtype=np.float32)
        values[row, column] = cells["score"].to_numpy()
        return cls(tuple(rows), tuple(columns), values)

    def select(
        self, models: Sequence[str] | None = None, queries: Sequence[str] | None = None
    ) -> "ScoreMatrix":
        """The same scores for some models and queries, in the order given.

        Raises:
            KeyError: an id that the matrix doesn't have.
        """
        rows = self.models if models is None else tuple(models)
        columns = self.queries if queries is None else tuple(queries)
        row_of = {m: i for i, m in enumerate(self.models)}
        column_of = {q: i for i, q in enumerate(self.queries)}
        picked = self.values_MQ[[row_of[m] for m in rows]][:, [column_of[q] for q in columns]]
        return ScoreMatrix(rows, columns, picked)

    @property
    def known_MQ(self) -> NDArray[np.bool_]:
        """True where there is a score."""
        return ~np.isnan(self.values_MQ)

    @property
    def n_scores(self) -> int:
        """How many scores there are."""
        return int(self.known_MQ.sum())


def _positions(column: pl.Series, ids: Sequence[str]) -> pl.Series:
    """Where in a list each id of a column stands; null where it isn't there."""
    place_of = {one: place for place, one in enumerate(ids)}
    if len(place_of) != len(ids):
        raise ValueError(f"{column.name} has duplicates")
    if isinstance(column.dtype, pl.Enum):
        names = column.dtype.categories
        places = pl.Series([place_of.get(name) for name in names], dtype=pl.UInt32)
        return places.gather(column.to_physical())
    known = pl.DataFrame({"id": list(ids)}, schema={"id": pl.String}).with_row_index("place")
    found = column.alias("id").to_frame().join(known, on="id", how="left", maintain_order="left")
    return found["place"]
