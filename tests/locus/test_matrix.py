"""The score matrix: missing stays missing, duplicates are refused."""

import numpy as np
import polars as pl
import pytest

from locus.matrix import ScoreMatrix

ROWS = pl.DataFrame(
    {"model_id": ["b", "a", "a"], "query_id": ["q1", "q2", "q1"], "score": [1.0, 0.5, None]}
)
# Names in no order, and some that no row has.
ENUMS = ROWS.cast(
    {"model_id": pl.Enum(["x", "b", "a"]), "query_id": pl.Enum(["q2", "q0", "q1", "q9"])}
)
either = pytest.mark.parametrize("rows", [ROWS, ENUMS], ids=["text", "enums"])


@either
def test_from_frame(rows: pl.DataFrame) -> None:
    matrix = ScoreMatrix.from_frame(rows)
    assert matrix.models == ("a", "b")
    assert matrix.queries == ("q1", "q2")
    np.testing.assert_array_equal(matrix.values_MQ, [[np.nan, 0.5], [1.0, np.nan]])
    assert matrix.n_scores == 2


@either
def test_order_and_selection_are_the_callers(rows: pl.DataFrame) -> None:
    matrix = ScoreMatrix.from_frame(rows, ["b", "a", "c"], ["q2"])
    np.testing.assert_array_equal(matrix.values_MQ, [[np.nan], [0.5], [np.nan]])
    picked = matrix.select(["a"])
    assert picked.values_MQ.tolist() == [[0.5]]
    with pytest.raises(KeyError):
        matrix.select(["nobody"])


@either
def test_two_scores_for_one_cell_are_refused(rows: pl.DataFrame) -> None:
    with pytest.raises(ValueError, match="more than one score"):
        ScoreMatrix.from_frame(pl.concat([rows, rows]))
    with pytest.raises(ValueError, match="model_id has duplicates"):
        ScoreMatrix.from_frame(rows, ["a", "a"])
