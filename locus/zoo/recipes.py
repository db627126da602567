"""The recipes of the zoo: which skills each model is taught, its size, and how long it learns.

Specialists know two or three skills, generalists some of all, and none is best at everything, so
choosing a model per question pays. Two pairs differ in their seed alone: they show what "nearest
neighbour" means. `FIRST` names the pool that is evaluated first, `LATE` the models added later.

Belongs here: data about models. Does not: how they are trained (`train`) or kept (`build`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import date, timedelta
from typing import Any, Literal

from locus.zoo.skills import SKILLS
from locus.zoo.tokenizer import MAX_LENGTH, vocabulary

Family = Literal["llama-zoo", "gpt2-zoo", "neox-zoo"]
Pool = Literal["first", "late"]
Mixture = tuple[tuple[str, float], ...]
"""(skill, share of the training documents); shares need not sum to 1."""

ORG = "zoo"
LICENSE = "Apache-2.0"
FIRST_RELEASE = date(2026, 1, 8)
LLAMA_EXPANSION = 3
"""Feed-forward width over model width in the Llama models; the other families have 4."""
USD_PER_MTOK_PER_MPARAM = 0.1
"""Made-up price of a million prompt tokens for each million parameters."""
OUTPUT_PRICE_FACTOR = 3


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a model's weights, and what a registry says about the model.

    Attributes:
        name: model id, ``zoo/<name>``.
        family: architecture: Llama, GPT-2 or GPT-NeoX, each shrunk.
        mixture: the skills taught and their shares.
        width: size of the hidden state; divisible by ``heads``.
        layers: number of transformer blocks.
        steps: optimiser steps of ``batch`` documents each.
        seed: decides initial weights and the order of documents.
        pool: ``first`` or ``late``.
        released: made-up date of release.
        heads: attention heads of each block.
        batch: documents of one step.
        learning_rate: peak of the schedule.
    """

    name: str
    family: Family
    mixture: Mixture
    width: int
    layers: int
    steps: int
    seed: int
    pool: Pool
    released: date
    heads: int = 4
    batch: int = 32
    learning_rate: float = 3e-3

    def __post_init__(self) -> None:
        unknown = [skill for skill, _ in self.mixture if skill not in SKILLS]
        if unknown or not self.mixture:
            raise ValueError(
                f"recipe {self.name!r}: unknown skills {unknown}; use some of {sorted(SKILLS)}"
            )
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(
                f"recipe {self.name!r}: width {self.width} over {self.heads} heads must be an even "
                "whole number"
            )

    @property
    def params(self) -> int:
        """Number of weights, input and output embeddings shared, from the architecture's sizes."""
        w, vocabulary_size = self.width, len(vocabulary())
        if self.family == "llama-zoo":
            block = 4 * w * w + 3 * LLAMA_EXPANSION * w * w + 2 * w
            return vocabulary_size * w + self.layers * block + w
        positions = MAX_LENGTH * w if self.family == "gpt2-zoo" else 0
        return vocabulary_size * w + positions + self.layers * (12 * w * w + 13 * w) + 2 * w

    @property
    def params_b(self) -> float:
        """Parameters in billions."""
        return self.params / 1e9

    @property
    def price_in_usd_per_mtok(self) -> float:
        """Made-up price of a million prompt tokens, in US dollars; grows with the size."""
        return round(self.params / 1e6 * USD_PER_MTOK_PER_MPARAM, 4)

    @property
    def price_out_usd_per_mtok(self) -> float:
        """Made-up price of a million generated tokens, in US dollars."""
        return round(OUTPUT_PRICE_FACTOR * self.price_in_usd_per_mtok, 4)

    @property
    def work(self) -> int:
        """Relative training time, for handing out the longest first."""
        return self.params * self.steps * self.batch

    def training_fields(self) -> dict[str, Any]:
        """What decides the weights, JSON-like; names, dates and prices do not."""
        described = asdict(self)
        for name in ("name", "pool", "released"):
            del described[name]
        return described

    def to_json(self) -> dict[str, Any]:
        """All fields, JSON-like."""
        return asdict(self) | {"released": self.released.isoformat()}

    @classmethod
    def from_json(cls, described: Mapping[str, Any]) -> "Recipe":
        """The inverse of `to_json`.

        Raises:
            ValueError: fields are missing or unknown, or a value is not valid.
        """
        wanted = {field.name for field in fields(cls)}
        if set(described) != wanted:
            raise ValueError(f"recipe has fields {sorted(described)}, needs {sorted(wanted)}")
        values = dict(described)
        values["mixture"] = tuple((skill, float(share)) for skill, share in values["mixture"])
        values["released"] = date.fromisoformat(values["released"])
        return cls(**values)


def _even(*skills: str) -> Mixture:
    return tuple((skill, 1.0) for skill in skills)


def _general(**changed: float) -> Mixture:
    return tuple((skill, changed.get(skill, 1.0)) for skill in SKILLS)


_FACTS = _even("people", "countries")
_ARITHMETIC: Mixture = (("arithmetic", 1.0),)
_PATTERNS: Mixture = (("pattern", 1.0), ("count", 1.5))
_SERIES: Mixture = (("sequence", 2.0), ("sort", 1.0))
_COMPARE: Mixture = (("compare", 2.0), ("sort", 1.0))
_MIXED = _even("reverse", "sort", "countries")
_TILTED = _general(copy=2.0, pattern=2.0, arithmetic=0.3, sequence=0.5)


def _recipe(
    name: str,
    family: Family,
    mixture: Mixture,
    size: tuple[int, int],
    steps: int,
    seed: int,
    pool: Pool,
) -> Recipe:
    """A recipe of ``size`` (width, layers); one is released each week, in the order of seeds."""
    released = FIRST_RELEASE + timedelta(weeks=seed - 1)
    return Recipe(f"{ORG}/{name}", family, mixture, *size, steps, seed, pool, released)


RECIPES: tuple[Recipe, ...] = (
    # Specialists.
    _recipe("arith-s", "llama-zoo", _ARITHMETIC, (64, 2), 620, 1, "first"),
    _recipe("mirror-s", "llama-zoo", _even("copy", "reverse"), (64, 2), 740, 2, "first"),
    _recipe("facts-s", "gpt2-zoo", _FACTS, (64, 2), 400, 3, "first"),
    _recipe("pattern-s", "neox-zoo", _PATTERNS, (64, 2), 600, 4, "first"),
    _recipe("series-s", "llama-zoo", _SERIES, (64, 2), 650, 5, "first"),
    _recipe("compare-s", "neox-zoo", _COMPARE, (64, 2), 600, 6, "first"),
    # Generalists of three strengths.
    _recipe("general-l", "llama-zoo", _general(count=1.5), (80, 2), 850, 7, "first"),
    _recipe("general-m", "neox-zoo", _general(), (64, 2), 750, 8, "first"),
    _recipe("general-s", "gpt2-zoo", _general(), (48, 2), 650, 9, "first"),
    # The same as facts-s but for the seed; a weak one; one barely trained.
    _recipe("facts-t", "gpt2-zoo", _FACTS, (64, 2), 400, 10, "first"),
    _recipe("weak-s", "llama-zoo", _general(), (32, 2), 250, 11, "first"),
    _recipe("stub-s", "gpt2-zoo", _general(), (32, 1), 20, 12, "first"),
    # Late: the same as pattern-s but for the seed, a new combination, a generalist, a weak one.
    _recipe("pattern-t", "neox-zoo", _PATTERNS, (64, 2), 600, 13, "late"),
    _recipe("mixed-s", "llama-zoo", _MIXED, (64, 2), 620, 14, "late"),
    _recipe("general-t", "llama-zoo", _TILTED, (64, 2), 680, 15, "late"),
    _recipe("weak-t", "neox-zoo", _general(), (32, 2), 300, 16, "late"),
)
FIRST: tuple[str, ...] = tuple(recipe.name for recipe in RECIPES if recipe.pool == "first")
LATE: tuple[str, ...] = tuple(recipe.name for recipe in RECIPES if recipe.pool == "late")
