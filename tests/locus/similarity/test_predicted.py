"""Disagreement: predicted against a simulation, observed against counting, and calibrated."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locus.similarity import (
    DisagreementMap,
    SimilarityInputError,
    calibrated_disagreement,
    observed_disagreement,
    predicted_disagreement,
    wilson,
)


def test_predicted_is_what_independent_models_do() -> None:
    rng = np.random.default_rng(0)
    p = rng.random((4000, 5))
    seen = observed_disagreement((rng.random(p.shape) < p).T)
    off = ~np.eye(5, dtype=bool)
    apart = predicted_disagreement(p)
    # Four standard errors of a rate over 4,000 queries.
    assert (np.abs(apart - seen.rate_MM)[off] < 4 * np.sqrt(0.25 / 4000)).all()
    assert not np.diagonal(apart).any()


def test_predicted_overstates_models_that_err_alike() -> None:
    rng = np.random.default_rng(1)
    p = np.full((2000, 2), 0.5)
    same = rng.random(2000) < 0.5
    seen = observed_disagreement(np.stack([same, same]))
    assert seen.rate_MM[0, 1] == 0
    assert predicted_disagreement(p)[0, 1] == pytest.approx(0.5)


def test_reference_queries() -> None:
    p = np.array([[1.0, 0.0], [1.0, 1.0], [0.5, 0.5]])
    assert predicted_disagreement(p)[0, 1] == pytest.approx(0.5)
    assert predicted_disagreement(p, [0])[0, 1] == 1
    assert predicted_disagreement(p, np.array([False, True, True]))[0, 1] == pytest.approx(0.25)
    with pytest.raises(SimilarityInputError, match="no reference"):
        predicted_disagreement(p, [])
    with pytest.raises(SimilarityInputError, match="for 3 queries"):
        predicted_disagreement(p, np.array([True]))
    with pytest.raises(SimilarityInputError, match="probabilities"):
        predicted_disagreement(p * 2)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 5).flatmap(
        lambda q: st.lists(
            st.lists(st.sampled_from([0.0, 0.3, 0.5, 1.0, float("nan")]), min_size=q, max_size=q),
            min_size=1,
            max_size=5,
        )
    )
)
def test_observed_counts(rows: list[list[float]]) -> None:
    values = np.array(rows)
    seen = observed_disagreement(values)
    for a in range(len(values)):
        for b in range(len(values)):
            both = ~np.isnan(values[a]) & ~np.isnan(values[b])
            n = int(both.sum())
            differ = int(((values[a] >= 0.5) != (values[b] >= 0.5))[both].sum())
            assert seen.n_MM[a, b] == n
            if n == 0:
                assert np.isnan([seen.rate_MM[a, b], seen.low_MM[a, b], seen.high_MM[a, b]]).all()
                continue
            low, high = wilson([differ], [n])
            assert seen.rate_MM[a, b] == pytest.approx(differ / n)
            assert seen.low_MM[a, b] == low[0]
            assert seen.high_MM[a, b] == high[0]


def test_scores_that_are_none_are_refused() -> None:
    with pytest.raises(SimilarityInputError, match="model 1 on query 0"):
        observed_disagreement([[0.0], [1.5]])
    with pytest.raises(SimilarityInputError, match="one row a model"):
        observed_disagreement([0.0])


pairs_of = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 10), st.integers(0, 5)), min_size=1, max_size=12
)


@settings(max_examples=120, deadline=None)
@given(pairs_of)
def test_calibration_rises_and_keeps_the_mean(rows: list[tuple[int, int, int]]) -> None:
    d, rate, n = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    rate = rate / 10
    if not n.any():
        with pytest.raises(SimilarityInputError, match="nothing to calibrate"):
            calibrated_disagreement(d, rate, n)
        return
    fitted = calibrated_disagreement(d, rate, n)
    at = np.linspace(-1, 14, 61)
    assert (np.diff(fitted(at)) >= -1e-12).all()
    assert (fitted(at) >= 0).all() and (fitted(at) <= 1).all()
    # Isotonic regression keeps the weighted mean, and no constant fits better.
    mean = np.average(rate, weights=n)
    assert np.average(fitted(d), weights=n) == pytest.approx(mean)
    assert np.average((fitted(d) - rate) ** 2, weights=n) <= (
        np.average((mean - rate) ** 2, weights=n) + 1e-12
    )
    assert fitted.n == n.sum()


def test_a_known_curve_is_found_and_applies_to_new_pairs() -> None:
    rng = np.random.default_rng(0)
    d = rng.random(3000) * 4
    truth = 0.5 * (1 - np.exp(-d))
    seen = rng.binomial(200, truth) / 200
    seen[:50] = np.nan
    fitted = calibrated_disagreement(d, seen, np.full(3000, 200))
    new = np.linspace(0.2, 3.8, 50)
    assert np.abs(fitted(new) - 0.5 * (1 - np.exp(-new))).max() < 0.03
    assert len(fitted.distance_K) < 500
    assert np.isnan(fitted(np.nan))
    matrix: Any = fitted(np.zeros((2, 2)))
    assert matrix.shape == (2, 2)


def test_calibration_by_hand() -> None:
    fitted = calibrated_disagreement([0, 1, 1, 2, 3], [0.1, 0.4, 0.2, 0.2, 0.6], [1, 1, 1, 2, 1])
    assert isinstance(fitted, DisagreementMap)
    assert fitted.distance_K.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(fitted.rate_K, [0.1, 0.25, 0.25, 0.6])
    with pytest.raises(SimilarityInputError, match="2 distances"):
        calibrated_disagreement([0, 1], [0.1], [1])
    with pytest.raises(SimilarityInputError, match="0 or more"):
        calibrated_disagreement([-1], [0.1], [1])
