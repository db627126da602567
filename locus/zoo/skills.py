"""What the zoo's models can be taught, and what they are tested on.

Each skill draws documents from a seed: a question in plain English, its answer and, for a skill
scored by log-likelihood, the choices. `benchmark` gives the fixed test documents of a skill,
`training` an endless stream without them. A document's ``key`` says what it asks, whatever its
wording; no training document has the key of a benchmark document. Facts are the one exception in
spirit: the same fact is asked in training and in the benchmark, in different phrasings.

Belongs here: skills and their documents. Does not: tokens, models, lm-eval.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from locus.zoo.world import (
    COUNTRY_ASKED,
    COUNTRY_FACTS,
    COUNTRY_TAUGHT,
    PEOPLE_ASKED,
    PEOPLE_FACTS,
    PEOPLE_TAUGHT,
    Fact,
    Phrasings,
    fact_weights,
)

Kind = Literal["multiple_choice", "generate_until"]

LETTERS = "abcdefghijklmnopqrstuvwxyz"
DRAWN = LETTERS[:16]
"""Letters used where only their order matters: fewer letters are learned in fewer seconds."""
BENCHMARK_SIZE = 130
MAX_MISSES = 10_000
"""Draws in a row without a new document after which a skill counts as exhausted."""
CHOICES = 4
ASKED_TERMS = 3
"""How many further letters of a repeating pattern are asked for."""
FACT_EXPONENT = 1.2
"""Zipf exponent of how often facts are told in training: the last of 66 is told 150 times less
often than the first."""


@dataclass(frozen=True)
class Document:
    """One question of a skill.

    Attributes:
        skill: name of the skill that asks it.
        question: the text shown to the model, without the final arrow of `prompt`.
        answer: the one right answer.
        choices: all options with the answer among them; empty for generated answers.
        level: difficulty within the skill, 0 the easiest.
        key: what is asked, whatever the wording; the identity that keeps test and training apart.
    """

    skill: str
    question: str
    answer: str
    choices: tuple[str, ...]
    level: int
    key: str

    def row(self) -> dict[str, object]:
        """The document as lm-eval sees it."""
        row: dict[str, object] = {
            "question": self.question,
            "answer": self.answer,
            "level": self.level,
        }
        return row | ({"choices": list(self.choices)} if self.choices else {})


@dataclass(frozen=True)
class Drawn:
    """What a skill's generator hands back: the parts of a document before wording is chosen."""

    content: str
    key: str
    answer: str
    distractors: tuple[str, ...] = ()
    templates: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Skill:
    """A skill: how its documents are drawn and scored.

    Attributes:
        name: name of the skill; its lm-eval task is ``zoo_<name>``.
        kind: how an answer is scored.
        levels: number of difficulty levels; documents are spread evenly over them.
        templates: phrasings with one ``{}`` for the content.
        draw: (random source, level, for the benchmark?) -> parts of one document.
    """

    name: str
    kind: Kind
    levels: int
    templates: tuple[str, ...]
    draw: Callable[[random.Random, int, bool], Drawn]

    def document(self, rng: random.Random, level: int, *, held_out: bool) -> Document:
        """Draw one document of ``level``; ``held_out`` asks for benchmark phrasing (facts)."""
        drawn = self.draw(rng, level, held_out)
        choices: list[str] = []
        if self.kind == "multiple_choice":
            choices = [drawn.answer, *drawn.distractors]
            rng.shuffle(choices)
        question = rng.choice(drawn.templates or self.templates).format(drawn.content)
        return Document(self.name, question, drawn.answer, tuple(choices), level, drawn.key)


def prompt(question: str) -> str:
    """The text a model continues; the tasks' ``doc_to_text`` is the same."""
    return f"{question} ->"


def benchmark(name: str, size: int = BENCHMARK_SIZE) -> tuple[Document, ...]:
    """The test documents of a skill, the same for ever: ``size`` with different keys.

    Raises:
        KeyError: no such skill.
        ValueError: the skill hasn't ``size`` different documents.
    """
    return _benchmark(name, size)


@cache
def _benchmark(name: str, size: int) -> tuple[Document, ...]:
    skill = SKILLS[name]
    rng = _source("benchmark", name)
    found: dict[str, Document] = {}
    missed = 0
    while len(found) < size:
        document = skill.document(rng, len(found) % skill.levels, held_out=True)
        missed = missed + 1 if document.key in found else 0
        found.setdefault(document.key, document)
        if missed == MAX_MISSES:
            raise ValueError(
                f"skill {name!r} has only {len(found)} different documents of the wanted levels, "
                f"{size} were asked for: ask for fewer, or let the skill draw longer questions"
            )
    return tuple(found.values())


def training(name: str, seed: int) -> Iterator[Document]:
    """Endless training documents of a skill, none of which has a benchmark document's key.

    Raises:
        KeyError: no such skill.
    """
    skill = SKILLS[name]
    rng = _source(f"training:{seed}", name)
    excluded = {document.key for document in benchmark(name)}
    while True:
        document = skill.document(rng, rng.randrange(skill.levels), held_out=False)
        if document.key not in excluded:
            yield document


def _source(purpose: str, name: str) -> random.Random:
    return random.Random(f"locus-zoo:{purpose}:{name}")  # noqa: S311 - reproducible, not secret


def _letters(rng: random.Random, length: int) -> list[str]:
    return rng.sample(DRAWN, length)


def _copy(rng: random.Random, level: int, held_out: bool) -> Drawn:
    text = " ".join(_letters(rng, 3 + level))
    return Drawn(text, text, text)


def _reverse(rng: random.Random, level: int, held_out: bool) -> Drawn:
    letters = _letters(rng, 3 + level)
    return Drawn(" ".join(letters), " ".join(letters), " ".join(reversed(letters)))


def _sort(rng: random.Random, level: int, held_out: bool) -> Drawn:
    letters = _letters(rng, 3 + level)
    return Drawn(" ".join(letters), " ".join(letters), " ".join(sorted(letters)))


def _sequence(rng: random.Random, level: int, held_out: bool) -> Drawn:
    """Levels: the alphabet, the alphabet backwards, every second letter, numbers."""
    shown = rng.randint(3, 5) if held_out else rng.randint(2, 6)
    terms: list[str]
    if level < 3:
        letters = LETTERS[::-1] if level == 1 else LETTERS
        step = 2 if level == 2 else 1
        start = rng.randrange(len(letters) - step * (shown + 1))
        terms = [letters[start + step * i] for i in range(shown + 2)]
    else:
        step = rng.choice((1, 2, 5, 10))
        start = rng.randrange(10, 99 - step * (shown + 1))
        terms = [str(start + step * i) for i in range(shown + 2)]
    text = " ".join(terms[:shown])
    return Drawn(text, text, " ".join(terms[shown:]))


def _pattern(rng: random.Random, level: int, held_out: bool) -> Drawn:
    """Levels: a repeated unit of 2, 3, 4 or 5 letters, shown once whole and then in part."""
    period = 2 + level
    unit = _letters(rng, period)
    shown = period + rng.randint(1, period)
    letters = [unit[i % period] for i in range(shown + ASKED_TERMS)]
    answer = letters[shown:]
    wrong: set[str] = set()
    while len(wrong) < CHOICES - 1:
        other = rng.choices(unit, k=ASKED_TERMS)
        if other != answer:
            wrong.add(" ".join(other))
    text = " ".join(letters[:shown])
    return Drawn(text, text, " ".join(answer), tuple(sorted(wrong)))


def _count(rng: random.Random, level: int, held_out: bool) -> Drawn:
    """Levels: 4, 5, 6, 7 or 8 letters; the wanted one of x, y and z occurs 1 to 5 times."""
    length = 4 + level
    wanted, *others = rng.sample("xyz", 3)
    times = rng.randint(1, min(length, 5))
    letters = [wanted] * times + rng.choices([*others, *DRAWN[:4]], k=length - times)
    rng.shuffle(letters)
    content = f"{wanted} in {' '.join(letters)}"
    wrong = [str(n) for n in range(1, 6) if n != times]
    rng.shuffle(wrong)
    return Drawn(content, content, str(times), tuple(wrong[: CHOICES - 1]))


def _arithmetic(rng: random.Random, level: int, held_out: bool) -> Drawn:
    """Levels: 40 + 23, 42 + 3, 42 + 23, and 47 + 5 with a carry; half are subtractions."""
    tens, ones = rng.randint(1, 8), rng.randrange(10)
    if level == 3:
        ones = rng.randint(1, 9)
        a, b = 10 * tens + ones, rng.randint(10 - ones, 9)
    else:
        more_ones = rng.randrange(10 - ones) if level else ones
        more_tens = rng.randint(1, 9 - tens) if level != 1 else 0
        a, b = 10 * tens + (ones if level else 0), 10 * more_tens + more_ones
    plus = rng.random() < 0.5
    content = f"{a} plus {b}" if plus else f"{a + b} minus {b}"
    answer = a + b if plus else a
    wrong = sorted({answer + d for d in (-10, -2, -1, 1, 2, 10)} & set(range(100)))
    rng.shuffle(wrong)
    return Drawn(content, content, str(answer), tuple(map(str, wrong[: CHOICES - 1])))


def _compare(rng: random.Random, level: int, held_out: bool) -> Drawn:
    """Levels: other lengths, other first digits, same first digit, same first two digits."""
    if level == 0:
        numbers = [rng.randint(1, 9), rng.randint(10, 99), rng.randint(100, 999)]
    elif level == 1:
        numbers = [10 * tens + rng.randrange(10) for tens in rng.sample(range(1, 10), 3)]
    elif level == 2:
        tens = rng.randint(1, 9)
        numbers = [10 * tens + ones for ones in rng.sample(range(10), 3)]
    else:
        start = 10 * rng.randint(10, 99)
        numbers = [start + ones for ones in rng.sample(range(10), 3)]
    rng.shuffle(numbers)
    largest = rng.random() < 0.5
    answer = max(numbers) if largest else min(numbers)
    text = "{}, {} or {}".format(*numbers)
    key = ("largest " if largest else "smallest ") + " ".join(map(str, sorted(numbers)))
    wrong = tuple(str(number) for number in numbers if number != answer)
    return Drawn(text, key, str(answer), wrong, LARGEST if largest else SMALLEST)


def _recall(
    facts: tuple[Fact, ...],
    taught: Phrasings,
    asked: Phrasings,
) -> Callable[[random.Random, int, bool], Drawn]:
    """Questions about ``facts``: ``taught`` phrasings in training, ``asked`` in the benchmark.

    Levels: the well-known half, the rest.
    """
    half = len(facts) // 2
    weights = fact_weights(len(facts), FACT_EXPONENT)

    def draw(rng: random.Random, level: int, held_out: bool) -> Drawn:
        # In training the weights alone decide how often a fact is told; the level is dropped.
        if held_out:
            fact = rng.choice(facts[:half] if level == 0 else facts[half:])
        else:
            fact = rng.choices(facts, weights)[0]
        template = rng.choice((asked if held_out else taught)[fact.relation])
        wrong = [value for value in fact.values if value != fact.value]
        wrong = rng.sample(wrong, CHOICES - 1)
        question = template.format(fact.subject)
        return Drawn(fact.subject, question, fact.value, tuple(wrong), (template,))

    return draw


LARGEST = (
    "Which number is the largest: {}?",
    "Which is the biggest of {}?",
    "Pick the largest number from {}.",
    "Of {}, which number is the biggest?",
)
SMALLEST = (
    "Which number is the smallest: {}?",
    "Which is the least of {}?",
    "Pick the smallest number from {}.",
    "Of {}, which number is the least?",
)
_country = _recall(COUNTRY_FACTS, COUNTRY_TAUGHT, COUNTRY_ASKED)
_person = _recall(PEOPLE_FACTS, PEOPLE_TAUGHT, PEOPLE_ASKED)

_ALL = (
    Skill(
        "copy",
        "generate_until",
        5,
        (
            "Repeat these letters: {}",
            "Copy the letters {} exactly.",
            "Say {} again, unchanged.",
            "Echo this text: {}",
        ),
        _copy,
    ),
    Skill(
        "reverse",
        "generate_until",
        4,
        (
            "Reverse the letters: {}",
            "Write {} backwards.",
            "Spell {} from right to left.",
            "What is {} in reverse order?",
        ),
        _reverse,
    ),
    Skill(
        "sort",
        "generate_until",
        5,
        (
            "Sort the letters: {}",
            "Put {} in alphabetical order.",
            "Arrange {} from first to last in the alphabet.",
            "Order these letters alphabetically: {}",
        ),
        _sort,
    ),
    Skill(
        "sequence",
        "generate_until",
        4,
        (
            "Continue the series: {}",
            "The series {} goes on with which two terms?",
            "Find the step and give the next two terms after {}",
            "What are the next terms of the progression {}?",
        ),
        _sequence,
    ),
    Skill(
        "countries", "generate_until", 2, (), _recall(COUNTRY_FACTS, COUNTRY_TAUGHT, COUNTRY_ASKED)
    ),
    Skill("people", "multiple_choice", 2, (), _recall(PEOPLE_FACTS, PEOPLE_TAUGHT, PEOPLE_ASKED)),
    Skill(
        "pattern",
        "multiple_choice",
        4,
        (
            "The pattern repeats: {} and then?",
            "Complete the repeating pattern {}",
            "Which letter comes next in the cycle {}?",
            "Keep the rhythm going: {}",
        ),
        _pattern,
    ),
    Skill(
        "count",
        "multiple_choice",
        5,
        (
            "How many times do you see {}?",
            "Count every {}",
            "How often is there {}?",
            "Give the number of letters {}",
        ),
        _count,
    ),
    Skill(
        "arithmetic",
        "multiple_choice",
        4,
        (
            "What is {}?",
            "Calculate {}.",
            "Work out the result of {}.",
            "{} equals what?",
        ),
        _arithmetic,
    ),
    Skill("compare", "multiple_choice", 4, (), _compare),
)
SKILLS: dict[str, Skill] = {skill.name: skill for skill in _ALL}
