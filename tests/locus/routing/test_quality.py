"""Routing quality against cases counted by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locus.routing.quality import expected_calibration_error, routing_quality

Y = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 1], [0, 0, 0]], dtype=np.float32)


def by_method(p: np.ndarray, y: np.ndarray, train: list[float]) -> dict[str, float]:
    rows = routing_quality(p.astype(np.float32), y, np.array(train, dtype=np.float32), rounds=50)
    return {row.method: row.hit1 for row in rows}


def test_counted_by_hand() -> None:
    found = by_method(Y, Y, [0.9, 0.1, 0.1])
    assert found["routed"] == 0.75  # p are the answers: right wherever anybody is
    assert found["best single"] == 0.25  # model 0, chosen on training queries
    assert found["best single in hindsight"] == 0.5  # model 1
    assert found["random"] == pytest.approx((1 / 3 + 1 / 3 + 2 / 3 + 0) / 4)
    assert found["oracle"] == 0.75


def test_a_missing_score_is_never_chosen_nor_guessed() -> None:
    y = np.array([[np.nan, 1, 0], [1, 0, 0]], dtype=np.float32)
    p = np.array([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1]])
    found = by_method(p, y, [1.0, 0.5, 0.0])
    assert found["routed"] == 1.0
    assert found["best single"] == 1.0  # model 0 is missing on query 0: its runner-up answers


def test_queries_with_one_answer_don_t_count() -> None:
    y = np.array([[np.nan, 1.0], [np.nan, np.nan]], dtype=np.float32)
    assert routing_quality(np.ones((2, 2), np.float32), y, np.ones(2, np.float32)) == []


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_nobody_beats_the_oracle(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = (rng.random((12, 4)) < 0.5).astype(np.float32)
    y[rng.random((12, 4)) < 0.2] = np.nan
    rows = routing_quality(rng.random((12, 4)).astype(np.float32), y,
                           rng.random(4).astype(np.float32), rounds=20)  # fmt: skip
    hits = {row.method: row.hit1 for row in rows}
    assert all(hits["oracle"] >= hit for hit in hits.values())
    assert all((row.low <= row.hit1 + 1e-9 and row.high >= row.hit1 - 1e-9) or row.n < 5
               for row in rows)  # fmt: skip


def test_calibration_error_by_hand() -> None:
    p = np.array([0.9, 0.9, 0.1, 0.1], dtype=np.float32)
    assert expected_calibration_error(p, np.array([1, 1, 0, 0], np.float32)) == pytest.approx(0.1)
    assert expected_calibration_error(p, np.array([0, 0, 1, 1], np.float32)) == pytest.approx(0.9)
