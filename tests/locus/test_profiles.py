"""Profiles: the wanted means, the easy ones first, and models that have the profile are found."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locus.bank import Bank, Queries
from locus.embedding.factors import FactorConfig, FactorPlacement
from locus.profiles import ProfileError, find, synthesise

BENCHMARK = ["maths"] * 4 + ["law"] * 3 + ["art"]
EASE = np.array([0.9, 0.1, np.nan, 0.5, 0.2, 0.8, 0.8, np.nan])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.one_of(st.floats(0, 1), st.just(float("nan"))), min_size=1, max_size=20),
    st.floats(0, 1),
    st.floats(0, 50),
)
def test_the_mean_is_what_was_wanted_and_easier_is_never_worse(
    ease: list[float], accuracy: float, sharpness: float
) -> None:
    values = synthesise({"x": accuracy}, ["x"] * len(ease), ease, sharpness=sharpness)[0]
    assert values.mean() == pytest.approx(accuracy, abs=1e-5)
    assert (values >= 0).all() and (values <= 1).all()
    known = np.flatnonzero(~np.isnan(ease))
    order = known[np.argsort(np.array(ease)[known])]
    assert (np.diff(values[order]) >= -1e-6).all()


def test_only_named_benchmarks_have_scores() -> None:
    values = synthesise({"law": 0.5, "art": 1.0}, BENCHMARK, EASE)
    assert values.shape == (1, 8)
    assert values.dtype == np.float32
    assert np.isnan(values[0, :4]).all()
    assert values[0, 5] == values[0, 6] > values[0, 4]
    assert values[0, 7] == 1
    # Sharp: the easiest are right, the rest wrong.
    hard = synthesise({"maths": 0.25}, BENCHMARK, EASE, sharpness=200.0)[0, :4]
    np.testing.assert_allclose(hard, [1, 0, 0, 0], atol=1e-3)


@pytest.mark.parametrize(
    ("wanted", "given_", "message"),
    [
        ({"math": 0.5}, {}, "did you mean 'maths'"),
        ({"zzz": 0.5}, {}, "there are art, law, maths"),
        ({"law": 1.2}, {}, "'law' is 1.2"),
        ({"law": float("nan")}, {}, "'law' is nan"),
        ({}, {}, "nothing is wanted"),
        ({"law": 0.5}, {"sharpness": -1.0}, "sharpness"),
    ],
)
def test_a_profile_that_makes_no_sense_is_refused(wanted: Any, given_: Any, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        synthesise(wanted, BENCHMARK, EASE, **given_)


def test_ease_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ProfileError, match="outside"):
        synthesise({"law": 0.5}, BENCHMARK, EASE * 2)
    with pytest.raises(ProfileError, match="for 8 queries"):
        synthesise({"law": 0.5}, BENCHMARK, EASE[:3])


def test_specialists_are_found_by_their_profile() -> None:
    """Half of a pool is good at maths, half at law: a profile finds its own half."""
    rng = np.random.default_rng(0)
    benchmark = ["maths"] * 60 + ["law"] * 60
    kind = np.arange(120) // 60
    strong = np.arange(40) % 2
    ability = np.where(strong[:, None] == kind[None], 1.5, -1.0) + rng.normal(0, 0.2, (40, 1))
    chance = 1 / (1 + np.exp(-(ability - rng.normal(0, 1, 120))))
    values = (rng.random(chance.shape) < chance).astype(np.float32)
    queries = Queries(np.eye(2, dtype=np.float32)[kind], tuple(benchmark))
    method = FactorPlacement(FactorConfig(factors=4))
    method.fit(Bank(queries, values, queries, values), seed=0)
    vectors = method.vectors(method.place(values))
    for name, other, group in (("maths", "law", 0), ("law", "maths", 1)):
        wanted = synthesise({name: 0.8, other: 0.3}, benchmark, values.mean(axis=0))
        found = find(lambda scores: method.vectors(method.place(scores)), vectors, wanted, k=10)
        assert (strong[found.models] == group).all()
        assert (np.diff(found.distances) >= 0).all()
        first = int(found.models[0])
        again = find(
            lambda scores: method.vectors(method.place(scores)), vectors, wanted, 10, [first]
        )
        assert first not in again.models


def test_find_refuses_what_it_can_not_place() -> None:
    map_Md, scores = np.zeros((3, 2)), np.ones((1, 4), dtype=np.float32)
    assert find(lambda v: np.ones((1, 2)), map_Md, scores, k=9).models.tolist() == [0, 1, 2]
    with pytest.raises(ProfileError, match="method that made the map"):
        find(lambda v: np.ones((1, 3)), map_Md, scores)
    with pytest.raises(ProfileError, match="not finite"):
        find(lambda v: np.full((1, 2), np.nan), map_Md, scores)
    with pytest.raises(ProfileError, match="one model"):
        find(lambda v: np.ones((2, 2)), map_Md, np.ones((2, 4), dtype=np.float32))
    with pytest.raises(ProfileError, match="k is 0"):
        find(lambda v: np.ones((1, 2)), map_Md, scores, k=0)
