"""The score matrix: missing stays missing, duplicates are refused."""

import numpy as np
import polars as pl
import pytest

from locus.matrix import ScoreMatrix

ROWS = pl.DataFrame(
    {"model_id": ["b", "a", "a"], "query_id": ["q1", "q2", "q1"], "score": [1.0, 0.5, None]}
)


def test_from_frame() -> None:
    matrix = ScoreMatrix.from_frame(ROWS)
    assert matrix.models == ("a", "b")
    assert matrix.queries == ("q1", "q2")
    np.testing.assert_array_equal(matrix.values_MQ, [[np.nan, 0.5], [1.0, np.nan]])
    assert matrix.n_scores == 2


def test_order_and_selection_are_the_callers() -> None:
    matrix = ScoreMatrix.from_frame(ROWS, ["b", "a", "c"], ["q2"])
    np.testing.assert_array_equal(matrix.values_MQ, [[np.nan], [0.5], [np.nan]])
    picked = matrix.select(["a"])
    assert picked.values_MQ.tolist() == [[0.5]]
    with pytest.raises(KeyError):
        matrix.select(["nobody"])


def test_two_scores_for_one_cell_are_refused() -> None:
    with pytest.raises(ValueError, match="more than one score"):
        ScoreMatrix.from_frame(pl.concat([ROWS, ROWS]))
    with pytest.raises(ValueError, match="duplicates"):
        ScoreMatrix.from_frame(ROWS, ["a", "a"])
