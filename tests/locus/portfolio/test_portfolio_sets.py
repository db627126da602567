"""Portfolios against brute force on small cases, and what they refuse."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from locus.portfolio import (
    Objective,
    PortfolioError,
    coverage_per_cost,
    greedy_best_of_set,
    k_center,
    k_medoids,
    set_value,
)
from locus.portfolio._distance import build

Floats = NDArray[np.float64]
OBJECTIVES: tuple[Objective, ...] = ("route", "any")


def _distances(points: Floats) -> Floats:
    return np.asarray(np.linalg.norm(points[:, None] - points[None], axis=-1))


@st.composite
def maps(draw: st.DrawFn) -> tuple[Floats, int]:
    """Points on a small grid, so that copies and ties happen, and a k."""
    at = st.tuples(st.integers(0, 6), st.integers(0, 6))
    points = draw(st.lists(at, min_size=1, max_size=8))
    return np.array(points, dtype=np.float64), draw(st.integers(1, len(points)))


@st.composite
def chances(draw: st.DrawFn) -> tuple[Floats, int]:
    t, m = draw(st.integers(1, 6)), draw(st.integers(1, 7))
    p = draw(st.lists(st.integers(0, 8), min_size=t * m, max_size=t * m))
    return np.array(p).reshape(t, m) / 8, draw(st.integers(1, m))


@settings(max_examples=120, deadline=None)
@given(maps(), st.integers(0, 7))
def test_k_center_is_within_twice_the_optimum(case: tuple[Floats, int], first: int) -> None:
    points, k = case
    d = _distances(points)
    best = min(d[list(s)].min(axis=0).max() for s in combinations(range(len(d)), k))
    for start in (None, first % len(d)):
        found = k_center(d, k, first=start)
        assert len(set(found.chosen)) == k
        assert found.values[-1] == pytest.approx(d[list(found.chosen)].min(axis=0).max())
        assert found.values[-1] <= 2 * best + 1e-9
        assert (np.diff(found.values) <= 0).all()
    assert k_center(d, len(d)).values[-1] == 0


@settings(max_examples=120, deadline=None)
@given(maps())
def test_k_medoids_ends_no_worse_than_build_and_where_no_swap_helps(
    case: tuple[Floats, int],
) -> None:
    points, k = case
    d = _distances(points)
    found = k_medoids(d, k)
    chosen = list(found.chosen)
    assert len(set(chosen)) == k
    cost = d[chosen].min(axis=0).mean()
    assert found.values[-1] == pytest.approx(cost)
    assert cost <= build(d, k, np.arange(len(d)))[1][-1] + 1e-9
    for out in range(k):
        for new in set(range(len(d))) - set(chosen):
            swapped = [*chosen[:out], new, *chosen[out + 1 :]]
            assert cost <= d[swapped].min(axis=0).mean() + 1e-9
    assert (np.diff(found.values) <= 1e-12).all()


def test_medoids_swap_where_build_is_wrong() -> None:
    points = np.array([[-1.0], [-1.0], [-0.9], [0.0], [0.9], [1.0], [1.0]])
    d = _distances(points)
    assert build(d, 2, np.arange(7))[0][0] == 3  # the middle, which two medoids don't need
    found = k_medoids(d, 2, cost_M=[1, 1, 1, 1, 1, 1, None])
    assert 3 not in found.chosen
    assert found.values[-1] < build(d, 2, np.arange(7))[1][-1]


@settings(max_examples=120, deadline=None)
@given(chances(), st.sampled_from(OBJECTIVES))
def test_greedy_reaches_its_share_of_the_best_set(
    case: tuple[Floats, int], objective: Objective
) -> None:
    p, k = case
    found = greedy_best_of_set(p, k, objective=objective)
    best = max(set_value(p, s, objective) for s in combinations(range(p.shape[1]), k))
    assert found.values[-1] >= (1 - 1 / np.e) * best - 1e-9
    assert found.values[-1] == pytest.approx(set_value(p, found.chosen, objective))
    assert len(set(found.chosen)) == k
    gains = np.diff([0.0, *found.values])
    assert (gains >= -1e-12).all()
    assert (np.diff(gains) <= 1e-12).all()  # submodular: each choice adds less than the last


@settings(max_examples=150, deadline=None)
@given(chances(), st.sampled_from(OBJECTIVES), st.randoms(use_true_random=False))
def test_coverage_per_cost_keeps_the_budget_and_its_share(
    case: tuple[Floats, int], objective: Objective, random: Any
) -> None:
    p, _ = case
    cost = np.array([random.choice([0.0, 0.25, 1.0, 2.0, 5.0]) for _ in range(p.shape[1])])
    budget = float(cost.min() + random.choice([0.0, 0.5, 2.0, 4.0]))
    found = coverage_per_cost(p, cost, budget, objective=objective)
    assert cost[list(found.chosen)].sum() <= budget
    assert len(set(found.chosen)) == len(found.chosen)
    sets = [s for k in range(p.shape[1] + 1) for s in combinations(range(p.shape[1]), k)]
    best = max(set_value(p, s, objective) for s in sets if cost[list(s)].sum() <= budget)
    reached = found.values[-1] if found.values else 0.0
    assert reached >= (1 - 1 / np.e) / 2 * best - 1e-9
    assert reached == pytest.approx(set_value(p, found.chosen, objective))


def test_a_crumb_does_not_keep_the_good_model_out() -> None:
    p = np.array([[0.1, 0.95], [0.0, 0.95]])
    found = coverage_per_cost(p, [0.01, 10.0], 10.0)
    assert found.chosen == (1,)
    assert found.costs == (10.0,)


def test_the_two_objectives_by_hand() -> None:
    p = np.array([[0.5, 0.5], [0.2, 0.8]])
    assert set_value(p, [0, 1], "route") == pytest.approx(0.65)
    assert set_value(p, [0, 1], "any") == pytest.approx((0.75 + 0.84) / 2)
    assert set_value(p, []) == 0
    assert greedy_best_of_set(p, 2, cost_M=[1.0, None]).costs == (None, None)


def test_unknown_costs_are_named_and_never_bought() -> None:
    p = np.array([[0.9, 0.5, 0.4]])
    found = coverage_per_cost(p, [None, 1.0, 1.0], 5.0)
    assert found.unknown_cost == (0,)
    assert found.chosen == (1,)
    with pytest.raises(PortfolioError, match="cheapest costs 1"):
        coverage_per_cost(p, [None, 1.0, 1.0], 0.5)
    with pytest.raises(PortfolioError, match="known cost"):
        coverage_per_cost(p, [None, None, None], 0.5)


@pytest.mark.parametrize(
    ("distances", "k", "message"),
    [
        (np.zeros((2, 3)), 1, "square"),
        (np.array([[0.0, np.nan], [np.nan, 0.0]]), 1, "models 0 and 1"),
        (np.array([[0.0, 1.0], [2.0, 0.0]]), 1, "symmetric"),
        (np.zeros((2, 2)), 3, "k is 3"),
    ],
)
def test_distances_that_are_none_are_refused(distances: Floats, k: int, message: str) -> None:
    for method in (k_center, k_medoids):
        with pytest.raises(PortfolioError, match=message):
            method(distances, k)


def test_other_input_that_makes_no_sense_is_refused() -> None:
    p = np.array([[0.5, 0.5]])
    with pytest.raises(PortfolioError, match="first is 2"):
        k_center(np.zeros((2, 2)), 1, first=2)
    with pytest.raises(PortfolioError, match="probabilities"):
        greedy_best_of_set(p + 1, 1)
    with pytest.raises(PortfolioError, match="'route' or 'any'"):
        greedy_best_of_set(p, 1, objective="best")  # type: ignore[arg-type]
    with pytest.raises(PortfolioError, match="cost of model 1"):
        greedy_best_of_set(p, 1, cost_M=[1.0, -1.0])
    with pytest.raises(PortfolioError, match="for 2 models"):
        coverage_per_cost(p, [1.0], 1.0)
    with pytest.raises(PortfolioError, match="budget is nan"):
        coverage_per_cost(p, [1.0, 1.0], float("nan"))
    with pytest.raises(PortfolioError, match="not among"):
        set_value(p, [2])
