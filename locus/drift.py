"""Has the model behind an address changed? Tests on its answers to the same questions, every night.

Belongs here: the decision, on plain data. Does not: who is asked what, where answers are kept.

The null hypothesis: nothing changed. Then a question's answers of all nights are draws from one
distribution, whatever that is (services are not deterministic, even at temperature 0), so the
order of the nights tells nothing, and nights can be exchanged question by question. Both tests are
exact under it, with no rate to be estimated: they ask how rare it is that the nights fall apart
into reference and latest ones as they did.

- Scores: right answers in the latest nights, summed over questions; under the null hypothesis a
  sum of independent hypergeometric counts (the exact test of Mantel and Haenszel, a stratum a
  question). With one night against one it is McNemar's exact test of gained against lost.
- Texts: pairs of a reference and a latest night with the same answer, summed over questions; few
  of them mean that answers changed more than they change by themselves. Of one night against the
  baseline this says nothing: a model may never say the same twice.

Evidence of several nights is combined by looking at the last 1, 3 and 7 of them, and at all that
came since the first 1, 3 and 8.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.001
"""False alarms per model and night, at most: ten in a hundred nights of a hundred models."""

LATEST = (1, 3, 7)
"""Latest nights that are held against the first ones: a change may be new, or a few nights old."""

REFERENCE = (1, 3, 8)
"""First nights that the latest are held against, the baseline included. Never more of them: the
reference must not follow a slow change, and a change is seen for as long as it is there. Never
more than 1 or 3: where the change came soon after the baseline."""

LEAST = 3
"""Questions that must speak for a change: one alone may change for reasons of its own."""

_RIGHT = 0.5


@dataclass(frozen=True)
class Answer:
    """What came back to one question on one night.

    Attributes:
        status: ok, error, refused, empty or truncated.
        score: from 0 to 1; None unless ok.
        text: digest of the response; None where there is none.
    """

    status: str
    score: float | None
    text: str | None

    @property
    def said(self) -> str | None:
        """What two nights have in common if the answer did not change; None if the call failed."""
        return None if self.status == "error" else f"{self.status}:{self.text}"

    @property
    def right(self) -> bool | None:
        """Whether the answer is right; None without a score."""
        return None if self.score is None else self.score >= _RIGHT


Night = Mapping[str, Answer]
"""Answers by query id."""


@dataclass(frozen=True)
class Drift:
    """Whether a model changed, and what speaks for it.

    Attributes:
        model: the model.
        n: questions answered both in the baseline and in the latest night.
        n_text_changed: those of them whose answer is another.
        gained: those that were wrong and are right.
        lost: those that were right and are wrong.
        p_scores: probability of scores that far apart, if nothing changed; over all splits of the
            nights, so that the best of them is paid for.
        p_texts: the same of texts.
        drifted: whether one of the two is at most half of `ALPHA`.
        said: all of it in one line, with what to do; without the model's id.
    """

    model: str
    n: int
    n_text_changed: int
    gained: int
    lost: int
    p_scores: float
    p_texts: float
    drifted: bool
    said: str


def drift(model: str, nights: Sequence[Night], alpha: float = ALPHA) -> Drift:
    """Decide whether a model changed since its baseline.

    Args:
        model: the model's id.
        nights: the baseline, then the nights since, in order; those on which nothing was answered
            are passed over.
        alpha: false alarms per night that are put up with.

    Raises:
        ValueError: no baseline.
    """
    if not nights:
        raise ValueError(f"{model}: there is no baseline to hold a night against")
    known = [nights[0], *(n for n in nights[1:] if any(a.said is not None for a in n.values()))]
    p_scores = p_texts = 1.0
    splits = _splits(len(known))
    for first, last in splits:
        reference, latest = known[:first], known[-last:]
        # Bonferroni: each split is another chance to be wrong.
        p_scores = min(p_scores, len(splits) * _p_scores(reference, latest))
        p_texts = min(p_texts, len(splits) * _p_texts(reference, latest))
    baseline, now = known[0], known[-1]
    both = [(baseline[q], now[q]) for q in baseline if q in now] if splits else []
    pairs = [(a, b) for a, b in both if a.said is not None and b.said is not None]
    found = {
        "n": len(pairs),
        "n_text_changed": sum(a.said != b.said for a, b in pairs),
        "gained": sum(a.right is False and b.right is True for a, b in pairs),
        "lost": sum(a.right is True and b.right is False for a, b in pairs),
    }
    drifted = min(p_scores, p_texts) <= alpha / 2
    said = _line(len(known) - 1, found, p_scores, p_texts, drifted)
    return Drift(model, **found, p_scores=p_scores, p_texts=p_texts, drifted=drifted, said=said)


def _splits(n: int) -> list[tuple[int, int]]:
    """How many of the first nights are held against how many of the latest, of n nights."""
    new = {(min(max(REFERENCE), n - latest), latest) for latest in LATEST if latest < n}
    old = {(first, min(max(LATEST), n - first)) for first in REFERENCE if first < n}
    return sorted(new | old)


def _p_scores(reference: Sequence[Night], latest: Sequence[Night]) -> float:
    """Two-sided p of the number of right answers in the latest nights."""
    laws, excess, total = [], [], 0
    for query in reference[0]:
        before = [r for r in (_right(n, query) for n in reference) if r is not None]
        after = [r for r in (_right(n, query) for n in latest) if r is not None]
        n, right = len(before) + len(after), sum(before) + sum(after)
        if not before or not after or right in (0, n):
            continue
        laws.append(_hypergeometric(n, right, len(after)))
        excess.append(sum(after) - len(after) * right / n)
        total += sum(after)
    if not laws:
        return 1.0
    law = _sum_of(laws)
    below, above = float(law[: total + 1].sum()), float(law[total:].sum())
    toward = -1 if below < above else 1
    if sum(toward * e > 0 for e in excess) < LEAST:
        return 1.0
    return min(1.0, 2 * min(below, above))


def _p_texts(reference: Sequence[Night], latest: Sequence[Night]) -> float:
    """One-sided p of the number of pairs of nights, one of each side, with the same answer."""
    laws, total, fresh = [], 0, 0
    for query in reference[0]:
        before = Counter(s for s in (_said(n, query) for n in reference) if s is not None)
        after = Counter(s for s in (_said(n, query) for n in latest) if s is not None)
        if not before or not after:
            continue
        law = _same_pairs(tuple(sorted((before + after).values())), after.total())
        if np.count_nonzero(law) == 1:
            continue
        same = sum(count * before[text] for text, count in after.items())
        laws.append(law)
        total += same
        fresh += same == 0
    # Answers that were given before, such as another replica's, are no change.
    if fresh < LEAST:
        return 1.0
    return min(1.0, float(_sum_of(laws)[: total + 1].sum()))


def _right(night: Night, query: str) -> bool | None:
    return night[query].right if query in night else None


def _said(night: Night, query: str) -> str | None:
    return night[query].said if query in night else None


@lru_cache(maxsize=4096)
def _hypergeometric(n: int, right: int, drawn: int) -> NDArray[np.float64]:
    """Distribution of the right answers among some of n nights of which ``right`` are right."""
    ways = [comb(right, k) * comb(n - right, drawn - k) for k in range(min(right, drawn) + 1)]
    return np.array(ways, dtype=np.float64) / comb(n, drawn)


@lru_cache(maxsize=4096)
def _same_pairs(counts: tuple[int, ...], drawn: int) -> NDArray[np.float64]:
    """Distribution of the pairs with the same text between ``drawn`` nights and the others.

    Args:
        counts: nights on which each text was given.
        drawn: nights that are set against the others, any of them as likely.
    """
    # Ways to draw so many nights with so many pairs, text by text.
    ways: dict[tuple[int, int], int] = {(0, 0): 1}
    for count in counts:
        wider: dict[tuple[int, int], int] = {}
        for (taken, pairs), n in ways.items():
            for k in range(min(count, drawn - taken) + 1):
                key = (taken + k, pairs + k * (count - k))
                wider[key] = wider.get(key, 0) + n * comb(count, k)
        ways = wider
    law = np.zeros(max(p for t, p in ways if t == drawn) + 1)
    for (taken, pairs), n in ways.items():
        if taken == drawn:
            law[pairs] = n / comb(sum(counts), drawn)
    return law


def _sum_of(laws: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Distribution of the sum of independent counts."""
    law = np.ones(1)
    for one in laws:
        law = np.convolve(law, one)
    return law


def _line(
    n_nights: int,
    found: Mapping[str, int],
    p_scores: float,
    p_texts: float,
    drifted: bool,
) -> str:
    if n_nights == 0:
        return "its canaries were answered once; there is nothing to hold them against yet"
    seen = (
        f"{found['n_text_changed']} of {found['n']} answers differ from the first night's "
        f"(p = {p_texts:.2g}), {found['gained']} gained and {found['lost']} lost "
        f"(p = {p_scores:.2g})"
    )
    if not drifted:
        return f"no sign of a change after {n_nights} night{'s' * (n_nights > 1)}: {seen}"
    return (
        f"another model seems to answer: {seen}. If it was changed, give it a new "
        "`revision` in models.yaml; that makes it a new version, which is evaluated anew"
    )
