"""Measures and their intervals against numbers worked out by hand or by plain loops."""

import numpy as np
import pytest

from locus.benchmark.bootstrap import draw, interval, intervals, resampled, sums
from locus.benchmark.metrics import accuracy_error, auc, bars, hit_at, measures, random_hits

NAN = np.nan


def test_measures_by_hand() -> None:
    y = np.array([[1, 0, NAN], [0, 1, 1]], dtype=np.float32)
    p = np.array([[0.9, 0.4, 0.99], [0.2, 0.3, 0.6]], dtype=np.float32)
    found = measures(p, y)
    assert found["accuracy"] == pytest.approx(4 / 5)
    assert found["hit1"] == pytest.approx(2 / 3)  # query 0 right, 1 wrong, 2 only model 1 answered
    assert found["hit3"] == 1.0
    assert found["auc"] == pytest.approx(5 / 6)
    assert found["brier"] == pytest.approx(np.mean([0.01, 0.16, 0.04, 0.49, 0.16]))
    assert found["bce"] == pytest.approx(-np.log([0.9, 0.6, 0.8, 0.3, 0.6]).mean(), abs=1e-6)
    with pytest.raises(ValueError, match="probabilities"):
        measures(p + 1, y)
    with pytest.raises(ValueError, match="answers"):
        measures(p[:1], y)


def test_graded_scores_are_right_from_a_half_up() -> None:
    y = np.array([[0.5, 0.4, 1.0]], dtype=np.float32)
    p = np.array([[0.7, 0.3, 0.2]], dtype=np.float32)
    found = measures(p, y)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["auc"] == pytest.approx(1 / 2)
    assert found["hit1"] == pytest.approx((0.5 + 0.4 + 1.0) / 3)
    assert found["brier"] == pytest.approx((0.04 + 0.01 + 0.64) / 3)


def test_what_is_not_defined_is_nan_and_not_zero() -> None:
    nothing = np.full((3, 4), NAN, dtype=np.float32)
    found = measures(np.full((3, 4), 0.5, dtype=np.float32), nothing)
    assert all(np.isnan(value) for value in found.values())
    assert np.isnan(auc(np.ones(3), np.array([0.1, 0.2, 0.3])))


def test_overall_accuracy_counts_what_was_asked_as_it_is() -> None:
    y_bank = np.array([[1, 0, NAN], [NAN, NAN, NAN]], dtype=np.float32)
    asked = np.array([[True, False, False], [False, False, False]])
    p_bank = np.array([[0.1, 0.4, 0.9], [0.5, 0.5, 0.5]], dtype=np.float32)
    y_test = np.array([[1, 1], [NAN, NAN]], dtype=np.float32)
    p_test = np.array([[0.9, 0.8], [0.5, 0.5]], dtype=np.float32)
    # Model 0: observed 3 of 4; predicted 1 (asked) + 0.4 + 0.9 + 0.8. Nobody scored model 1.
    error = accuracy_error(p_test, y_test, p_bank, y_bank, asked)
    assert error == pytest.approx(abs(3.1 - 3) / 4)


def test_bars_frame_every_method() -> None:
    rng = np.random.default_rng(0)
    y = (rng.random((6, 200)) < np.linspace(0.2, 0.8, 6)[:, None]).astype(np.float32)
    y[2, :50] = NAN
    rows = bars(y, 0.5)
    oracle, single = rows["oracle"], rows["best single in hindsight"]
    assert oracle["hit1"] == pytest.approx(np.nanmax(y, axis=0).mean())
    assert oracle["auc"] == 1
    assert oracle["accuracy"] == 1
    assert single["hit1"] == pytest.approx(np.nanmean(y, axis=1).max(), abs=1e-6)
    assert rows["base rate, random choice"]["auc"] == 0.5
    chance = random_hits(y, draws=200)
    expected = np.nanmean(y, axis=0).mean()
    assert chance["hit1"] == pytest.approx(expected, abs=0.01)
    assert chance["hit1"] < chance["hit3"] < chance["hit5"] <= oracle["hit5"]


def test_a_round_is_what_the_measures_say_of_the_drawn_queries() -> None:
    rng = np.random.default_rng(1)
    y = (rng.random((20, 30)) < 0.6).astype(np.float32)
    y[rng.random(y.shape) < 0.2] = NAN
    p = np.round(rng.random((20, 30)) * 0.6 + 0.3 * np.nan_to_num(y), 2).astype(np.float32)
    weight = draw(30, rounds=5, seed=3)
    assert (weight.sum(axis=1) == 30).all()
    found = resampled(sums(p, y), weight)
    for row, counts in enumerate(weight.astype(int)):
        drawn = np.repeat(np.arange(30), counts)
        expected = measures(p[:, drawn], y[:, drawn])
        for name, values in found.items():
            # 100 distinct predictions fit into the bins: even AUC is exact.
            assert values[row] == pytest.approx(expected[name], abs=1e-5), name


def test_binned_auc_is_near_the_exact_one() -> None:
    rng = np.random.default_rng(2)
    y = (rng.random((60, 300)) < 0.6).astype(np.float32)
    p = np.clip(0.5 + 0.1 * y + 0.15 * rng.normal(size=y.shape), 0, 1).astype(np.float32)
    once = resampled(sums(p, y), np.ones((1, 300), dtype=np.float32))
    assert once["auc"][0] == pytest.approx(auc(y.ravel(), p.ravel()), abs=2e-4)


def test_a_paired_difference_is_narrower_than_two_intervals_apart() -> None:
    rng = np.random.default_rng(3)
    hard = rng.random(200)
    y = (rng.random((30, 200)) > hard).astype(np.float32)
    good = np.tile(1 - hard, (30, 1)).astype(np.float32)
    worse = np.clip(good + 0.05, 0, 1).astype(np.float32)
    weight = draw(200)
    rounds = {name: resampled(sums(p, y), weight) for name, p in (("a", good), ("b", worse))}
    frame = intervals("P1", 8, rounds, "a").filter(measure="bce")
    a, b = (frame.filter(method=name).row(0, named=True) for name in "ab")
    assert a["low"] < a["high"]
    assert a["diff_low"] is None
    assert 0 < b["diff_low"] < b["diff_high"]  # worse, outside the noise
    assert b["diff_high"] - b["diff_low"] < b["high"] - b["low"]
    assert a["high"] > b["low"]  # which the two intervals alone would not show


def test_an_interval_of_nothing_is_nan() -> None:
    assert all(np.isnan(interval(np.full(5, NAN))))
    low, high = interval(np.arange(1001, dtype=np.float64))
    assert (low, high) == (25, 975)


def test_hits_of_a_query_that_nobody_answered_do_not_count() -> None:
    y = np.array([[1, NAN], [0, NAN]], dtype=np.float32)
    assert hit_at(np.array([[0.2, 0.9], [0.1, 0.9]], dtype=np.float32), y, 1) == 1
