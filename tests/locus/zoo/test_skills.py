"""Skills: the documents are right, reproducible, graded, and kept apart from training."""

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locus.zoo.skills import (
    BENCHMARK_SIZE,
    CHOICES,
    LETTERS,
    SKILLS,
    Document,
    benchmark,
    training,
)
from locus.zoo.world import COUNTRY_FACTS, PEOPLE_FACTS

ALL = sorted(SKILLS)


def _right_answer(document: Document) -> str:
    """The answer, worked out again from what the document asks."""
    key = document.key
    match document.skill:
        case "copy":
            return key
        case "reverse":
            return key[::-1]
        case "sort":
            return " ".join(sorted(key.split()))
        case "count":
            wanted, letters = key.split(" in ")
            return str(letters.split().count(wanted))
        case "compare":
            which, *numbers = key.split()
            return str((max if which == "largest" else min)(map(int, numbers)))
        case "arithmetic":
            first, sign, second = key.split()
            return str(int(first) + int(second) * (1 if sign == "plus" else -1))
        case "pattern":
            letters = key.split()
            period = letters.index(letters[0], 1)
            return " ".join((letters[:period] * 5)[len(letters) :][:3])
        case "sequence":
            terms = key.split()
            places = [int(t) if t.isdigit() else LETTERS.index(t) for t in terms]
            step = places[1] - places[0]
            further = (places[-1] + step, places[-1] + 2 * step)
            return " ".join(str(n) if terms[0].isdigit() else LETTERS[n] for n in further)
        case "people" | "countries":
            facts = PEOPLE_FACTS if document.skill == "people" else COUNTRY_FACTS
            asked = [f for f in facts if f.subject in key.rstrip("?.").split()]
            (value,) = {f.value for f in asked if document.answer in f.values}
            return value
    raise AssertionError(f"no check for the skill {document.skill}")


@pytest.mark.parametrize("name", ALL)
def test_every_answer_is_right(name: str) -> None:
    for document in [*benchmark(name), *islice(training(name, seed=3), 300)]:
        assert document.answer == _right_answer(document), document


@given(st.integers(min_value=0), st.sampled_from(ALL))
def test_training_is_decided_by_its_seed_and_disjoint_from_the_benchmark(
    seed: int, name: str
) -> None:
    documents = list(islice(training(name, seed), 100))
    assert documents == list(islice(training(name, seed), 100))
    assert documents != list(islice(training(name, seed + 1), 100))
    tests = benchmark(name)
    assert not {d.key for d in documents} & {d.key for d in tests}
    assert not {d.question for d in documents} & {d.question for d in tests}


@pytest.mark.parametrize("name", ALL)
def test_benchmark_has_its_size_no_duplicates_and_every_level(name: str) -> None:
    documents = benchmark(name)
    assert len({d.key for d in documents}) == len({d.question for d in documents}) == BENCHMARK_SIZE
    sizes = [sum(d.level == level for d in documents) for level in range(SKILLS[name].levels)]
    assert min(sizes) >= BENCHMARK_SIZE // SKILLS[name].levels


@pytest.mark.parametrize("name", ALL)
def test_choices_hold_the_answer_once(name: str) -> None:
    for document in benchmark(name):
        if SKILLS[name].kind == "multiple_choice":
            assert len(set(document.choices)) == len(document.choices)
            assert document.answer in document.choices
            assert 3 <= len(document.choices) <= CHOICES
        else:
            assert document.choices == ()


@pytest.mark.parametrize("name", ALL)
def test_questions_are_worded_in_several_ways(name: str) -> None:
    # The first two words tell phrasings apart well enough; facts hold back a part of theirs.
    openings = {tuple(d.question.split()[:2]) for d in islice(training(name, seed=0), 300)}
    assert len(openings) >= 3


def test_facts_are_asked_as_they_were_not_taught() -> None:
    for name, facts in (("people", PEOPLE_FACTS), ("countries", COUNTRY_FACTS)):
        subjects = {f.subject for f in facts}

        def phrasing(document: Document, subjects: set[str] = subjects) -> str:
            words = document.question.rstrip("?.").split()
            return " ".join("{}" if word in subjects else word for word in words)

        taught = {phrasing(d) for d in islice(training(name, seed=0), 2000)}
        asked = {phrasing(d) for d in benchmark(name)}
        assert len(taught) >= 3
        assert len(asked) >= 3
        assert not taught & asked


def test_well_known_facts_are_told_more_often_than_trivia() -> None:
    counts = dict.fromkeys((fact.subject for fact in PEOPLE_FACTS), 0)
    for document in islice(training("people", seed=0), 2000):
        (subject,) = set(document.question.rstrip("?.").split()) & set(counts)
        counts[subject] += 1
    half = len(counts) // 2
    told = list(counts.values())
    assert sum(told[:half]) > 3 * sum(told[half:]) > 0


def test_a_benchmark_larger_than_the_skill_is_refused() -> None:
    with pytest.raises(ValueError, match="'people' has only"):
        benchmark("people", 1000)


def test_half_the_skills_are_generated() -> None:
    kinds = [skill.kind for skill in SKILLS.values()]
    assert len(kinds) >= 8
    assert abs(kinds.count("multiple_choice") - kinds.count("generate_until")) <= 1
