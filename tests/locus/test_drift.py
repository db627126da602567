"""Drift: its tests are exact, the false-alarm rate holds, and changes of a real size are found."""

from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, hypergeom

from locus.drift import ALPHA, Answer, Night, _hypergeometric, _same_pairs, drift

N = 16


def night(texts: str = "a" * N, right: str = "1" * N) -> Night:
    """One letter a query: its text, and whether it is right; ``!`` is a call that failed."""
    return {
        f"q{i:02d}": Answer("error", None, None) if t == "!" else Answer("ok", float(r), t)
        for i, (t, r) in enumerate(zip(texts, right, strict=True))
    }


def other(n: int, letter: str = "b") -> Night:
    """A night on which n answers have another text and are as right as before."""
    return night(letter * n + "a" * (N - n))


# --- a service that is simulated -------------------------------------------------------------


def service(
    rng: np.random.Generator,
    n_nights: int,
    *,
    own: float,
    change_at: int | None = None,
    share: float = 1.0,
    accuracy: float = 0.7,
) -> list[Night]:
    """Nights of a service that changes ``own`` of its answers by itself.

    Args:
        rng: random numbers.
        n_nights: nights, the baseline included.
        own: probability that an answer is one of five others than its usual one; such an answer
            is right by chance half the time, else as the usual one.
        change_at: night from which another model answers; None for never.
        share: share of the queries whose usual answer is then another.
        accuracy: share of those new answers that are right; before it is 0.7.
    """
    version = np.zeros(N, dtype=int)
    right = rng.random(N) < 0.7
    nights = []
    for t in range(n_nights):
        if t == change_at:
            moved = rng.random(N) < share
            version += moved
            right = np.where(moved, rng.random(N) < accuracy, right)
        strays, which = rng.random(N) < own, rng.integers(5, size=N)
        lucky = np.where(rng.random(N) < 0.5, which % 2 == 0, right)
        nights.append(
            {
                f"q{q:02d}": Answer(
                    "ok",
                    float(lucky[q] if strays[q] else right[q]),
                    f"{version[q]}/{which[q] if strays[q] else 'usual'}",
                )
                for q in range(N)
            }
        )
    return nights


def alarms(nights: list[Night], first: int) -> Iterator[bool]:
    """The verdict of each night from the given one on."""
    for last in range(first, len(nights)):
        yield drift("m", nights[: last + 1]).drifted


def false_alarms(
    own: float, alphas: tuple[float, ...], models: int, n_nights: int, seed: int
) -> list[float]:
    """Share of nights with an alarm though nothing ever changes, at each rate."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(models):
        nights = service(rng, n_nights + 1, own=own)
        for last in range(1, len(nights)):
            now = drift("m", nights[: last + 1])
            assert now.drifted == (min(now.p_scores, now.p_texts) <= ALPHA / 2)
            found.append(min(now.p_scores, now.p_texts))
    return [float(np.mean(np.array(found) <= alpha / 2)) for alpha in alphas]


def found_within(
    own: float, share: float, accuracy: float, models: int, seed: int, before: int = 10
) -> dict[int, float]:
    """Share of changes with an alarm within 1, 3 and 7 nights."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(models):
        nights = service(rng, before + 7, own=own, change_at=before, share=share, accuracy=accuracy)
        rows.append(np.logical_or.accumulate(list(alarms(nights, before))))
    rates = np.mean(rows, axis=0)
    return {k: float(rates[k - 1]) for k in (1, 3, 7)}


@pytest.mark.parametrize("own", [0.05, 0.3, 0.8])
def test_the_false_alarm_rate_holds(own: float) -> None:
    # 2,000 nights: at most the promised rate, with three standard deviations for the luck of them.
    allowed = ALPHA + 3 * (ALPHA * (1 - ALPHA) / 2000) ** 0.5
    rate, at_a_tenth = false_alarms(own, (ALPHA, 0.1), models=80, n_nights=25, seed=11)
    assert rate <= allowed
    # At a rate at which there are alarms it holds as well.
    assert 0 < at_a_tenth <= 0.1


def test_another_model_is_found_the_first_night_and_a_small_change_within_a_week() -> None:
    swapped = found_within(own=0.05, share=1.0, accuracy=0.4, models=40, seed=13)
    assert swapped[1] >= 0.95
    half = found_within(own=0.05, share=0.5, accuracy=0.7, models=40, seed=14)
    assert half[1] <= half[3] <= half[7]
    assert half[3] >= 0.8
    quarter = found_within(own=0.3, share=0.25, accuracy=0.7, models=40, seed=15)
    assert quarter[1] < 0.3
    assert quarter[7] > quarter[1] + 0.3


# --- exactness -------------------------------------------------------------------------------


@given(st.integers(0, N), st.integers(0, N))
def test_one_night_against_the_baseline_is_mcnemars_exact_test(gained: int, lost: int) -> None:
    lost = min(lost, N - gained)
    same = N - gained - lost
    before = night(right="0" * gained + "1" * lost + "1" * same)
    after = night(right="1" * gained + "0" * lost + "1" * same)
    found = drift("m", [before, after])
    assert (found.gained, found.lost) == (gained, lost)
    if max(gained, lost) < 3:
        assert found.p_scores == 1.0  # too few queries to speak for anything
    else:
        assert found.p_scores == pytest.approx(binomtest(gained, gained + lost).pvalue)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=7), st.data())
def test_the_law_of_texts_is_that_of_all_ways_to_choose_the_nights(
    texts: list[int], data: st.DataObject
) -> None:
    drawn = data.draw(st.integers(1, len(texts) - 1))
    seen: dict[int, int] = {}
    for latest in combinations(range(len(texts)), drawn):
        rest = set(range(len(texts))) - set(latest)
        same = sum(texts[i] == texts[j] for i in latest for j in rest)
        seen[same] = seen.get(same, 0) + 1
    law = _same_pairs(tuple(sorted(texts.count(t) for t in set(texts))), drawn)
    expected = np.zeros(len(law))
    for same, ways in seen.items():
        expected[same] = ways / sum(seen.values())
    assert law == pytest.approx(expected)


@given(st.integers(2, 15), st.data())
def test_the_law_of_scores_is_hypergeometric(n: int, data: st.DataObject) -> None:
    right, drawn = data.draw(st.integers(1, n - 1)), data.draw(st.integers(1, n - 1))
    law = _hypergeometric(n, right, drawn)
    assert law == pytest.approx(hypergeom(n, right, drawn).pmf(np.arange(len(law))))
    assert law.sum() == pytest.approx(1)


# --- what is and what is not a change --------------------------------------------------------

STEADY = [night()] * 10


def test_nothing_changes() -> None:
    for k in range(1, 11):
        found = drift("m", STEADY[:k])
        assert (found.p_scores, found.p_texts, found.drifted) == (1.0, 1.0, False)
    assert (found.n, found.n_text_changed) == (N, 0)


def test_one_night_after_the_baseline_accuses_nobody_of_other_texts_but_of_other_scores() -> None:
    assert not drift("m", [night(), other(N)]).drifted
    assert drift("m", [night(), night("b" * N, "0" * N)]).drifted


def test_two_equal_nights_and_then_others_are_a_change_and_stay_one() -> None:
    assert drift("m", [night(), night(), other(N)]).drifted
    assert drift("m", [*STEADY, *[other(N)] * 40]).drifted


@pytest.mark.parametrize(("n", "expected"), [(1, False), (2, False), (6, True)])
def test_queries_that_change_for_reasons_of_their_own_are_few(n: int, expected: bool) -> None:
    assert drift("m", [*STEADY, *[other(n)] * 30]).drifted is expected


def test_texts_that_were_given_before_are_no_change() -> None:
    nights = [*STEADY[:3], other(N), *STEADY[:4], other(N), *STEADY[:2], *[other(N)] * 2]
    assert not any(alarms(nights, 7))
    # For a whole week they are: then another one answers for good.
    assert drift("m", [*nights, *[other(N)] * 5]).drifted


def test_a_model_that_never_says_the_same_twice_is_judged_by_its_scores_only() -> None:
    restless = [night(chr(97 + k) * N) for k in range(12)]
    assert drift("m", restless).p_texts == 1.0
    found = drift("m", [*restless, *[night(chr(110 + k) * N, "0" * N) for k in range(3)]])
    assert (found.p_texts, found.drifted) == (1.0, True)
    assert (found.gained, found.lost) == (0, N)


def test_scores_that_rise_are_a_change_as_well() -> None:
    restless = [night(chr(97 + k) * N, "0" * N) for k in range(8)]
    better = [night(chr(110 + k) * N, "1" * 9 + "0" * 7) for k in range(3)]
    found = drift("m", [*restless, *better])
    assert (found.gained, found.lost, found.drifted) == (9, 0, True)


def test_failed_calls_say_nothing() -> None:
    down = night("!" * N)
    found = drift("m", [*STEADY, down, down, down])
    assert (found.drifted, found.n) == (False, N)
    half = night("!" * 8 + "a" * 8)
    found = drift("m", [*STEADY, half])
    assert (found.drifted, found.n, found.n_text_changed) == (False, 8, 0)
    assert drift("m", [*STEADY, down, other(N)]).drifted


def test_refusals_are_answers_that_changed() -> None:
    refused = {q: Answer("refused", None, None) for q in night()}
    found = drift("m", [*STEADY, refused])
    assert (found.drifted, found.n_text_changed, found.lost) == (True, N, 0)


def test_queries_are_matched_by_id_and_half_right_counts_as_right() -> None:
    baseline = {"a": Answer("ok", 0.5, "x"), "b": Answer("ok", 0.4, "x")}
    latest = {"b": Answer("ok", 0.5, "x"), "c": Answer("ok", 0.0, "y"), "a": Answer("ok", 0.6, "x")}
    found = drift("m", [baseline, latest])
    assert (found.n, found.n_text_changed, found.gained, found.lost) == (2, 0, 1, 0)


def test_the_line_says_what_was_seen_and_what_to_do() -> None:
    worse = night("b" * N, "0" * 12 + "1" * 4)
    found = drift("org/m", [*STEADY, worse])
    assert found.model == "org/m"
    assert "16 of 16 answers differ" in found.said
    assert "0 gained and 12 lost" in found.said
    assert "`revision` in models.yaml" in found.said
    assert "\n" not in found.said
    assert "no sign of a change after 9 nights" in drift("org/m", STEADY).said
    assert "nothing to hold them against yet" in drift("org/m", STEADY[:1]).said


@pytest.mark.parametrize("hostile", [str.upper, lambda t: t * 10_000, lambda t: f"\x1b[2J{t}\n"])
def test_the_line_holds_nothing_that_a_model_wrote(hostile: Callable[[str], str]) -> None:
    nights = [
        {q: Answer(a.status, a.score, hostile(a.text or "")) for q, a in n.items()}
        for n in [*STEADY, other(N)]
    ]
    assert drift("m", nights).said == drift("m", [*STEADY, other(N)]).said


def test_without_a_baseline_there_is_nothing_to_judge() -> None:
    with pytest.raises(ValueError, match="org/m: there is no baseline"):
        drift("org/m", [])
