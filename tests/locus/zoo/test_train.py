"""Training: the right tokens are learned, the same way every time."""

from dataclasses import replace
from datetime import date

import torch

from locus.zoo.recipes import Recipe
from locus.zoo.skills import SKILLS
from locus.zoo.tokenizer import EOS, make_tokenizer
from locus.zoo.train import _padded, batches, examples, train

TINY = Recipe(
    "zoo/tiny",
    "llama-zoo",
    (("people", 1.0), ("sort", 3.0)),
    width=16,
    layers=1,
    steps=11,
    seed=1,
    pool="first",
    released=date(2026, 1, 1),
)


def test_only_answers_and_the_end_mark_are_scored() -> None:
    rows = next(batches(TINY))
    ids_BT, scored_BT = _padded(rows)
    for i, row in enumerate(rows):
        learned = ids_BT[i, 1:][scored_BT[i]].tolist()
        text = make_tokenizer().decode(learned, skip_special_tokens=False)
        asked = make_tokenizer().decode(list(row.ids[: row.answer_start]))
        assert asked.endswith(" ->")
        assert text.startswith(" ")
        assert text.endswith(EOS)
        assert "->" not in text


def test_batches_follow_recipe_and_seed() -> None:
    made = list(batches(TINY))
    assert len(made) == TINY.steps
    assert {len(batch) for batch in made} == {TINY.batch}
    assert made == list(batches(TINY))
    assert made != list(batches(replace(TINY, seed=2)))
    sort = set(examples("sort"))
    share = sum(row in sort for batch in made for row in batch) / (TINY.steps * TINY.batch)
    assert 0.6 < share < 0.9  # 3 of 4, drawn at random


def test_the_same_recipe_gives_the_same_weights() -> None:
    (first, loss), (second, _), (other, _) = (
        train(recipe) for recipe in (TINY, TINY, replace(TINY, seed=2))
    )
    weights = first.state_dict()
    assert all(torch.equal(weights[name], w) for name, w in second.state_dict().items())
    assert not all(torch.equal(weights[name], w) for name, w in other.state_dict().items())
    assert 0 < loss < 10


def test_all_families_learn() -> None:
    for family in ("llama-zoo", "gpt2-zoo", "neox-zoo"):
        recipe = replace(TINY, family=family, mixture=(("people", 1.0),), width=32)
        _, early = train(replace(recipe, steps=5))
        _, late = train(replace(recipe, steps=60))
        assert late < 0.8 * early, family


def test_every_skill_is_tokenised() -> None:
    for name in SKILLS:
        longest = max(len(example.ids) for example in examples(name))
        assert longest < 64
