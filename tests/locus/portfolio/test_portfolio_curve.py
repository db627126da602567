"""The curve of a growing set: by hand, and at its ends."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locus.portfolio import PortfolioError, greedy_best_of_set, portfolio_curve, random_curve


def test_by_hand() -> None:
    p = np.array([[0.9, 0.5], [0.2, 0.7], [0.6, 0.4]])
    y = np.array([[1.0, 0.0], [0.0, 1.0], [np.nan, 0.5]])
    curve = portfolio_curve([0, 1], p, y, [2.0, None])
    assert curve["n"].to_list() == [2, 3]
    assert curve["hit1"].to_list() == pytest.approx([0.5, 2.5 / 3])
    assert curve["pool_hit1"].to_list() == pytest.approx([1.0, 2.5 / 3])
    assert curve["cost"].to_list() == [2.0, None]


def test_a_set_without_answers_has_no_rate() -> None:
    curve = portfolio_curve([0], np.array([[0.5, 0.5]]), np.array([[np.nan, 1.0]]))
    assert curve.row(0, named=True) == {
        "size": 1, "model": 0, "cost": None, "hit1": None, "pool_hit1": None, "n": 0,
    }  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_it_ends_at_the_pool(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.random((20, 5))
    y = np.where(rng.random(p.shape) < 0.3, np.nan, rng.random(p.shape) < p)
    last = portfolio_curve(rng.permutation(5).tolist(), p, y).row(-1, named=True)
    assert last["hit1"] == last["pool_hit1"]
    assert last["n"] == (~np.isnan(y)).any(axis=1).sum()


def test_a_greedy_set_beats_random_ones_where_models_are_specialists() -> None:
    rng = np.random.default_rng(0)
    kind, skill = rng.integers(0, 3, 600), rng.integers(0, 3, 15)
    p = np.where(kind[:, None] == skill[None], 0.85, 0.15)
    y = (rng.random(p.shape) < p).astype(np.float64)
    greedy = portfolio_curve(greedy_best_of_set(p, 3).chosen, p, y)["hit1"].to_list()
    chance = random_curve(3, p, y, draws=200)
    assert greedy[-1] > chance["hit1"][-1] + 0.1
    assert (chance["low"] <= chance["hit1"]).all()
    assert (chance["hit1"] <= chance["high"]).all()
    assert chance.equals(random_curve(3, p, y, draws=200))


@pytest.mark.parametrize("chosen", [[], [0, 0], [2], [-1]])
def test_what_is_no_set_is_refused(chosen: list[int]) -> None:
    with pytest.raises(PortfolioError, match="distinct"):
        portfolio_curve(chosen, np.full((1, 2), 0.5), np.ones((1, 2)))


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(PortfolioError, match="shape"):
        portfolio_curve([0], np.full((1, 2), 0.5), np.ones((2, 2)))
    with pytest.raises(PortfolioError, match="draws"):
        random_curve(1, np.full((1, 2), 0.5), np.ones((1, 2)), draws=0)
