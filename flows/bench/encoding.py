"""Encoding: query texts to vectors, beside sentence-transformers as its manual calls it.

Texts of the lengths that benchmarks have, in calls of a thousand and one by one, each text new;
then a stream in which questions come again, as they do where queries are routed. No text of one
repetition is seen in another. Both sides use the same encoder; their vectors must agree.
"""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from flows.bench.rows import Row, Say, Side, Size, in_turns
from locus.encoding.text import DEFAULT_ENCODER, TextEncoder, resolve

_TEXT = (
    "which of these is the most likely answer to a question about energy rivers numbers cells law "
    "history when two trains leave at noon and one goes twice as fast as if what remains of it "
    "choose between carbon iron market supply demand capital theorem proof patient treatment city"
)
_AT_ONCE = 32


def rows(size: Size, folder: Path, say: Say) -> Iterator[Row]:
    """New texts at once, new texts one by one, and a stream with repetitions."""
    from sentence_transformers import SentenceTransformer

    quick = size is Size.QUICK
    n, repeats = (24, 1) if quick else (600, 3)
    say(f"loading {DEFAULT_ENCODER}")
    ours = TextEncoder(DEFAULT_ENCODER)
    peer = SentenceTransformer(resolve(DEFAULT_ENCODER))
    some = _texts(24, 0)
    apart = float(np.abs(ours.encode(some) - peer.encode(some)).max())
    rng = np.random.default_rng(1)
    stream = np.minimum(rng.zipf(1.3, n), n // 2) - 1
    for what, calls, goal in (
        (f"{n} new texts in one call", [np.arange(n)], "twice as fast"),
        (f"{n // 8} new texts, one a call", np.arange(n // 8)[:, None], "no slower"),
        (
            f"a stream of {n} texts, {len(set(stream))} different ones, {_AT_ONCE} a call",
            np.array_split(stream, max(n // _AT_ONCE, 1)),
            "twice as fast",
        ),
    ):
        say(what)
        yield _row(what, calls, n, ours, peer, goal, repeats, {"vectors differ by": apart})


def _row(
    what: str,
    calls: Iterable[Any],
    n: int,
    ours: TextEncoder,
    peer: Any,
    goal: str,
    repeats: int,
    notes: dict[str, float],
) -> Row:
    fresh = itertools.count(1 + 1000 * len(what))

    def all_calls(encode: Any) -> None:
        texts = _texts(n, next(fresh))
        for rows_ in calls:
            encode([texts[i] for i in rows_])

    seconds = in_turns(lambda: all_calls(ours.encode), lambda: all_calls(peer.encode), repeats)
    done = sum(len(rows_) for rows_ in calls)
    return Row(
        what,
        Side("locus", seconds[0], done, "texts"),
        Side("sentence-transformers", seconds[1], done, "texts"),
        goal,
        notes,
    )


def _texts(n: int, seed: int) -> list[str]:
    """Texts of 5 to 220 words, half of them longer than 65."""
    rng = np.random.default_rng(seed)
    words = _TEXT.split()
    lengths = np.clip(rng.lognormal(np.log(65), 0.7, n), 5, 220).astype(int)
    return [" ".join([f"({seed})", *rng.choice(words, length)]) for length in lengths]
