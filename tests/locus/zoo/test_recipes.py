"""Recipes: sizes, pools and prices are what they claim to be."""

from dataclasses import replace

import pytest

from locus.ids import model_id
from locus.zoo.recipes import FIRST, LATE, RECIPES, Recipe
from locus.zoo.skills import SKILLS
from locus.zoo.train import make_model

BY_NAME = {recipe.name: recipe for recipe in RECIPES}


def test_twelve_come_first_and_four_later() -> None:
    assert (len(FIRST), len(LATE)) == (12, 4)
    assert len(BY_NAME) == len(RECIPES) == 16
    assert [model_id(name) for name in BY_NAME] == list(BY_NAME)
    latest_of_first = max(BY_NAME[name].released for name in FIRST)
    assert all(BY_NAME[name].released > latest_of_first for name in LATE)


@pytest.mark.parametrize("family", ["llama-zoo", "gpt2-zoo", "neox-zoo"])
def test_the_declared_size_is_the_real_one(family: str) -> None:
    recipe = next(recipe for recipe in RECIPES if recipe.family == family)
    assert sum(weight.numel() for weight in make_model(recipe).parameters()) == recipe.params


@pytest.mark.parametrize(
    ("one", "other"), [("zoo/facts-s", "zoo/facts-t"), ("zoo/pattern-s", "zoo/pattern-t")]
)
def test_near_duplicates_differ_in_their_seed_alone(one: str, other: str) -> None:
    first, second = (BY_NAME[name].training_fields() for name in (one, other))
    assert first.pop("seed") != second.pop("seed")
    assert first == second


def test_prices_grow_with_the_size() -> None:
    by_size = sorted(RECIPES, key=lambda recipe: recipe.params)
    prices = [recipe.price_in_usd_per_mtok for recipe in by_size]
    assert prices == sorted(prices)
    assert 0 < prices[0] < prices[-1]
    assert all(r.price_out_usd_per_mtok > r.price_in_usd_per_mtok for r in RECIPES)


def test_every_skill_has_a_specialist_in_the_first_pool() -> None:
    taught = {
        skill
        for name in FIRST
        if len(BY_NAME[name].mixture) < 4
        for skill, _ in BY_NAME[name].mixture
    }
    assert taught == set(SKILLS)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_json_round_trip(recipe: Recipe) -> None:
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_an_impossible_recipe_is_refused() -> None:
    good = RECIPES[0]
    with pytest.raises(ValueError, match="unknown skills \\['juggling'\\]"):
        replace(good, mixture=(("juggling", 1.0),))
    with pytest.raises(ValueError, match="width 66"):
        replace(good, width=66)
    with pytest.raises(ValueError, match="needs"):
        Recipe.from_json(good.to_json() | {"colour": "red"})
