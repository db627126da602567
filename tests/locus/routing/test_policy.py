"""Policies: by hand, against every possible choice on small cases, and what they refuse."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from locus.routing.policy import (
    Policy,
    PolicyError,
    choose,
    cost_quality_curve,
    hull_score,
    pick,
)

Floats = NDArray[np.float64]

P = np.array([[0.9, 0.6, 0.2], [0.5, 0.5, 0.5], [0.1, 0.3, 0.8]])
COST = [4.0, 1.0, 2.0]


@st.composite
def pools(draw: st.DrawFn, most_t: int = 4, most_m: int = 3) -> tuple[Floats, Floats]:
    """Chances in steps of 1/8 and costs in steps of 1/2, so that ties happen."""
    t, m = draw(st.integers(1, most_t)), draw(st.integers(1, most_m))
    p = draw(st.lists(st.integers(0, 8), min_size=t * m, max_size=t * m))
    cost = draw(st.lists(st.integers(0, 6), min_size=m, max_size=m))
    return np.array(p).reshape(t, m) / 8, np.array(cost) / 2


def test_best_and_its_ties() -> None:
    assert choose(P, Policy()).chosen_T.tolist() == [0, 0, 2]
    decision = choose(P, Policy(), cost_M=COST)
    assert decision.chosen_T.tolist() == [0, 1, 2]  # of three equal ones the cheapest
    assert decision.ranking_TM[1].tolist() == [1, 2, 0]
    assert decision.cost == 7
    assert decision.expected == pytest.approx(2.2)
    assert choose(P, Policy()).cost is None


def test_price_weight_cap_and_threshold() -> None:
    aware = choose(P, Policy("cost-aware", price_weight=0.2), cost_M=COST)
    assert aware.chosen_T.tolist() == [1, 1, 2]
    np.testing.assert_allclose(aware.value_TM[0], [0.4, 0.1, -0.2])
    capped = choose(P, Policy(price_cap=2.0), cost_M=COST)
    assert capped.ranking_TM.tolist() == [[1, 2, -1], [1, 2, -1], [2, 1, -1]]
    assert np.isnan(capped.value_TM[0, 2])
    careful = choose(P, Policy("cost-aware", price_weight=0.2, abstain_below=0.55), cost_M=COST)
    assert careful.abstained_T.tolist() == [False, True, False]
    assert careful.ranking_TM[0].tolist() == [1, 0, -1]
    assert careful.expected == pytest.approx(0.6 + 0.8)


@settings(max_examples=60, deadline=None)
@given(pools(), st.integers(0, 6), st.booleans())
def test_picking_is_choosing_without_the_rest(
    pool: tuple[Floats, Floats], setting: int, priced: bool
) -> None:
    p, cost = pool
    given_: dict[str, Any] = {"lower_TM": p[:, ::-1]}
    kinds = [Policy(), Policy("lower-bound"), Policy("abstain", abstain_below=setting / 8)]
    if priced:
        given_["cost_M"] = [None, *cost[1:]] if setting % 2 and len(cost) > 1 else cost
        kinds += [
            Policy("cost-aware", price_weight=setting / 4),
            Policy("budget", budget=float(setting)),
            Policy(price_cap=setting / 2),
        ]
    for policy in kinds:
        expected = choose(p, policy, **given_).chosen_T
        np.testing.assert_array_equal(pick(p, policy, **given_), expected)


def test_lower_bounds_rank_and_abstain() -> None:
    lower = np.array([[0.1, 0.5, 0.1], [0.4, 0.3, 0.2], [0.0, 0.2, 0.1]])
    decision = choose(P, Policy("lower-bound", abstain_below=0.3), lower_TM=lower)
    assert decision.chosen_T.tolist() == [1, 0, -1]
    mixed = choose(P, Policy("abstain", abstain_below=0.3, abstain_on="lower"), lower_TM=lower)
    assert mixed.ranking_TM[1].tolist() == [0, 1, -1]
    with pytest.raises(PolicyError, match="lower_TM"):
        choose(P, Policy("lower-bound"))


def test_unknown_costs_stay_unknown() -> None:
    decision = choose(P, Policy("cost-aware", price_weight=0.0), cost_M=[None, 1.0, 2.0])
    assert decision.unknown_cost == (0,)
    assert 0 not in decision.ranking_TM
    assert choose(P, Policy(), cost_M=[None, 1.0, 2.0]).cost is None
    with pytest.raises(PolicyError, match="all 2 allowed models"):
        choose(
            P,
            Policy("budget", budget=9.0),
            cost_M=[None, np.nan, 1.0],
            allowed=np.array([True, True, False]),
        )
    with pytest.raises(PolicyError, match="give cost_M"):
        choose(P, Policy(price_cap=1.0))


@pytest.mark.parametrize(
    ("settings_of", "message"),
    [
        ({"kind": "cheapest"}, "unknown"),
        ({"kind": "budget"}, "needs budget"),
        ({"kind": "abstain"}, "needs abstain_below"),
        ({"price_weight": 1.0}, "would ignore price_weight"),
        ({"kind": "budget", "budget": -1.0}, "0 or more"),
        ({"price_cap": float("nan")}, "finite"),
        ({"abstain_below": 1.5}, r"\[0, 1\]"),
        ({"abstain_on": "p"}, "both or neither"),
        ({"abstain_below": 0.5, "abstain_on": "x"}, "use 'p' or 'lower'"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(settings_of: Any, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        Policy(**settings_of)


@pytest.mark.parametrize(
    ("p", "given", "message"),
    [
        (P + 0.5, {}, "for model 0 on query 0"),
        (P[0], {}, "one row a query"),
        (P, {"cost_M": [1.0]}, "3 models"),
        (P, {"cost_M": [1.0, -2.0, 1.0]}, "cost of model 1"),
        (P, {"allowed": np.array([1, 1, 1])}, "bool"),
        (P, {"allowed": np.zeros(3, dtype=bool)}, "nobody"),
        (np.empty((2, 0)), {}, "no models"),
    ],
)
def test_input_that_makes_no_sense_is_refused(p: Floats, given: Any, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        choose(p, Policy(), **given)


@settings(max_examples=150, deadline=None)
@given(pools(), st.integers(0, 16))
def test_budget_lacks_less_than_one_answer(pool: tuple[Floats, Floats], halves: int) -> None:
    p, cost = pool
    budget = halves / 2
    decision = choose(p, Policy("budget", budget=budget), cost_M=cost)
    assert decision.cost is not None and decision.cost <= budget
    assert decision.at_most is not None
    best = 0.0
    for picks in product(range(-1, p.shape[1]), repeat=len(p)):
        spent = sum(cost[m] for m in picks if m >= 0)
        if spent <= budget:
            best = max(best, sum(p[t, m] for t, m in enumerate(picks) if m >= 0))
    assert best - 1 < decision.expected <= best + 1e-9
    assert best <= decision.at_most + 1e-9
    if budget >= cost.max() * len(p):
        assert decision.expected == pytest.approx(p.max(axis=1).sum())


def test_a_budget_on_a_large_pool_is_all_but_spent() -> None:
    rng = np.random.default_rng(0)
    p, cost = rng.random((500, 20)), rng.random(20)
    decision = choose(p, Policy("budget", budget=60.0), cost_M=cost)
    assert decision.cost is not None and decision.at_most is not None
    assert decision.at_most - 1 < decision.expected <= decision.at_most
    assert 59 < decision.cost <= 60
    same = choose(np.full((300, 2), 0.5), Policy("budget", budget=10.0), cost_M=[1.0, 3.0])
    assert same.abstained_T.sum() == 290
    assert same.expected == 5


@settings(max_examples=80, deadline=None)
@given(pools(8, 5), st.floats(0, 2), st.randoms(use_true_random=False))
def test_rankings_are_sound(pool: tuple[Floats, Floats], weight: float, random: Any) -> None:
    p, cost = pool
    open_TM = np.array([[random.random() < 0.7 for _ in row] for row in p])
    open_TM[0, 0] = True
    policy = Policy("cost-aware", price_weight=weight)
    decision = choose(p, policy, cost_M=cost, allowed=open_TM)
    for row, ranking in enumerate(decision.ranking_TM):
        listed = ranking[ranking >= 0]
        assert sorted(listed) == np.flatnonzero(open_TM[row]).tolist()
        values = decision.value_TM[row, : len(listed)]
        assert (np.diff(values) <= 0).all()
        np.testing.assert_allclose(values, (p[row] - weight * cost)[listed])
    assert (decision.abstained_T == ~open_TM.any(axis=1)).all()


def test_the_curve_by_hand() -> None:
    p = np.array([[0.9, 0.5], [0.6, 0.5]])
    y = np.array([[1.0, 0.0], [1.0, 1.0]])
    curve = cost_quality_curve(p, y, [3.0, 1.0], [0.0, 0.1, 1.0])
    assert curve["cost"].to_list() == [3.0, 2.0, 1.0]
    assert curve["score"].to_list() == [1.0, 1.0, 0.5]
    assert curve["on_hull"].to_list() == [False, True, True]
    assert hull_score(curve) == pytest.approx(0.75)
    assert hull_score(curve, 1.0, 3.0) == pytest.approx(0.875)
    assert hull_score(curve, 1.5, 1.5) == pytest.approx(0.75)
    with pytest.raises(PolicyError, match="starts at"):
        hull_score(curve, 0.0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_the_hull_is_above_every_point_and_costs_fall(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, cost = rng.random((30, 4)), np.append(rng.random(3), np.nan)
    y = np.where(rng.random(p.shape) < 0.2, np.nan, rng.random(p.shape) < p)
    lambdas = [0.0, 0.1, 0.3, 1.0, 3.0, 10.0]
    curve = cost_quality_curve(p, y, cost, lambdas)
    assert (np.diff(curve["cost"].to_numpy()) <= 1e-12).all()
    hull = curve.filter("on_hull").sort("cost")
    x, score = hull["cost"].to_numpy(), hull["score"].to_numpy()
    on_hull = np.interp(curve["cost"].to_numpy(), x, score)
    assert (curve["score"].to_numpy() <= on_hull + 1e-9).all()
    if len(x) > 1:
        slopes = np.diff(score) / np.diff(x)
        assert (slopes > 0).all()
        assert (np.diff(slopes) < 1e-9).all()


def test_a_curve_of_nothing_is_refused() -> None:
    y = np.full((1, 2), np.nan)
    with pytest.raises(PolicyError, match="no query"):
        cost_quality_curve(P[:1, :2], y, [1.0, 1.0], [0.0])
    with pytest.raises(PolicyError, match="no price weight"):
        cost_quality_curve(P[:1, :2], y, [1.0, 1.0], [])
    with pytest.raises(PolicyError, match="shape"):
        cost_quality_curve(P, y, [1.0, 1.0, 1.0], [0.0])
