"""Stand-ins: by hand, where they fall back, and routing with them."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locus.proxies import ProxyInputError, nearest_neighbours, routing_with_proxies, stand_ins

LINE = np.abs(np.subtract.outer([0.0, 1.0, 3.0, 7.0], [0.0, 1.0, 3.0, 7.0]))


def test_nearest_neighbours() -> None:
    assert nearest_neighbours(LINE, 2).tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    assert nearest_neighbours(np.zeros((3, 3)), 1).tolist() == [[1], [0], [0]]
    with pytest.raises(ProxyInputError, match="3 others"):
        nearest_neighbours(LINE, 4)
    with pytest.raises(ProxyInputError, match="finite"):
        nearest_neighbours(np.full((2, 2), np.nan))


def test_a_stand_in_differs_by_bucket() -> None:
    p = np.array([[0.9, 0.9, 0.1, 0.1]] * 2 + [[0.9, 0.1, 0.1, 0.9]] * 2)
    found = stand_ins(p, ["maths", "maths", "law", "law"], LINE, 2)
    assert found.buckets == ("law", "maths")
    assert found.models_GMk[1, 0].tolist() == [1, 2]  # 2 and 3 agree equally: the nearer one
    assert found.models_GMk[0, 0].tolist() == [3, 1]
    assert found.worth_GMk[0, 0, 0] == pytest.approx(0.82)
    assert found.for_queries(["law", "maths", "law"])[:, 0, 0].tolist() == [3, 1, 3]
    with pytest.raises(ProxyInputError, match="'art' is unknown"):
        found.for_queries(["art"])


def test_quality_takes_who_answers_best() -> None:
    p = np.array([[0.9, 0.2, 0.1, 0.8]])
    found = stand_ins(p, ["x"], LINE, 1, by="quality")
    assert found.models_GMk[0, :, 0].tolist() == [3, 0, 0, 0]


def test_without_predictions_the_nearest_stands_in() -> None:
    p = np.array([[0.9, np.nan, 0.8, 0.7]])
    found = stand_ins(p, ["x"], LINE, 3, buckets=["x", "empty"])
    assert found.models_GMk[1].tolist() == nearest_neighbours(LINE, 3).tolist()
    assert np.isnan(found.worth_GMk[1]).all()
    assert found.models_GMk[0, 1].tolist() == [0, 2, 3]  # nothing is known of model 1 itself
    assert found.models_GMk[0, 0].tolist() == [2, 3, 1]
    assert np.isnan(found.worth_GMk[0, 0, 2])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["agreement", "quality"]))
def test_nobody_stands_in_for_himself_and_the_order_is_sound(seed: int, by: Any) -> None:
    rng = np.random.default_rng(seed)
    p = rng.integers(0, 5, (6, 5)) / 4
    where = rng.random((5, 2))
    d = np.linalg.norm(where[:, None] - where[None], axis=-1)
    found = stand_ins(p, list("aabbbc"), d, 4, by=by)
    for g in range(3):
        for m in range(5):
            assert sorted(found.models_GMk[g, m]) == sorted(set(range(5)) - {m})
            assert (np.diff(found.worth_GMk[g, m]) <= 1e-12).all()


def test_routing_with_proxies_by_hand() -> None:
    p = np.array([[0.9, 0.5, 0.1], [0.2, 0.3, 0.9], [0.8, 0.1, 0.2], [0.7, 0.1, 0.2]])
    y = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1], [1, np.nan, 1]])
    near = np.array([[1, 2], [0, 2], [1, 0]])
    everyone = routing_with_proxies(p, y, near)
    assert (everyone.n, everyone.hit1, everyone.replaced) == (3, 1.0, 1.0)
    assert everyone.hit1_proxied == pytest.approx(2 / 3)
    assert everyone.kept == pytest.approx(2 / 3)
    assert everyone.hit1_rerouted is None
    one = routing_with_proxies(p, y, near, np.array([True, False, False]))
    assert one.n == 3  # the stand-in of model 0 has not answered the last query
    assert one.hit1_proxied == pytest.approx(2 / 3)
    assert one.hit1_rerouted == pytest.approx(1.0)
    assert one.replaced == pytest.approx(2 / 3)
    two = routing_with_proxies(p, y, near, np.array([True, True, False]))
    assert two.hit1_proxied == pytest.approx(3 / 4)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_nobody_down_and_perfect_copies_lose_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.random((12, 4))
    y = (rng.random((12, 4)) < p).astype(float)
    swap = np.array([[1], [0], [3], [2]])
    up = routing_with_proxies(p, y, swap, np.zeros(4, dtype=bool))
    assert up.hit1 == up.hit1_proxied == up.hit1_rerouted
    assert up.replaced == 0
    twins = y[:, [0, 0, 2, 2]]
    copied = routing_with_proxies(p, twins, swap)
    assert copied.hit1 == copied.hit1_proxied
    by_query = np.broadcast_to(swap, (12, 4, 1))
    assert routing_with_proxies(p, y, by_query) == routing_with_proxies(p, y, swap)


@pytest.mark.parametrize(
    ("proxies", "down", "message"),
    [
        ([[1], [0]], [True, True], "so are all its 1 stand-ins"),
        ([[0], [0]], None, "its own stand-in"),
        ([[2], [0]], None, "none of the models"),
        ([[1.0], [0.0]], None, "none of the models"),
        ([[1]], None, "proxies of shape"),
        ([[1], [0]], [1, 0], "bool mask"),
    ],
)
def test_proxies_that_are_none_are_refused(proxies: Any, down: Any, message: str) -> None:
    with pytest.raises(ProxyInputError, match=message):
        routing_with_proxies(np.full((3, 2), 0.5), np.ones((3, 2)), proxies, down)


def test_other_input_that_makes_no_sense_is_refused() -> None:
    p = np.full((1, 4), 0.5)
    with pytest.raises(ProxyInputError, match="1 queries and 4 models"):
        stand_ins(p[:, :3], ["x"], LINE)
    with pytest.raises(ProxyInputError, match="'agreement' or 'quality'"):
        stand_ins(p, ["x"], LINE, by="price")  # type: ignore[arg-type]
    with pytest.raises(ProxyInputError, match="must be known"):
        routing_with_proxies(p, p[:, :2], [[1], [0], [0], [0]])
    with pytest.raises(ProxyInputError, match="no query was answered"):
        routing_with_proxies(p, [[1.0, np.nan, np.nan, np.nan]], [[1], [0], [0], [0]])
