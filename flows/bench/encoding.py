"""Encoding: query texts to vectors, beside sentence-transformers as its manual calls it.

Texts of the lengths that benchmarks have, in one call and one by one, each text new; then a stream
in which questions come again, as they do where queries are routed. Both sides get the same texts,
and none of one repetition is seen in another. Both use the same encoder; their vectors must agree,
in bfloat16 nearly.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flows.bench.rows import Row, Say, Side, Size, in_turns
from locus.encoding.text import DEFAULT_ENCODER, TextEncoder, encoder_identity, resolve

_TEXT = (
    "which of these is the most likely answer to a question about energy rivers numbers cells law "
    "history when two trains leave at noon and one goes twice as fast as if what remains of it "
    "choose between carbon iron market supply demand capital theorem proof patient treatment city"
)
_AT_ONCE = 32


def rows(size: Size, folder: Path, say: Say) -> Iterator[Row]:
    """New texts at once, new texts one by one, both precisions, and a stream with repetitions."""
    from sentence_transformers import SentenceTransformer

    quick = size is Size.QUICK
    n, repeats = (24, 1) if quick else (600, 3)
    say(f"loading {DEFAULT_ENCODER}")
    peer = SentenceTransformer(resolve(DEFAULT_ENCODER))
    some = texts(24, 0)
    expected = peer.encode(some)
    ours = TextEncoder(DEFAULT_ENCODER)
    exact = {"vectors differ by": float(np.abs(ours.encode(some) - expected).max())}
    half = TextEncoder(DEFAULT_ENCODER, precision="bfloat16")
    near = {
        "least cosine": float((half.encode(some) * expected).sum(axis=1).min()),
        "an encoder of its own": encoder_identity(DEFAULT_ENCODER, "bfloat16"),
    }
    rng = np.random.default_rng(1)
    stream = np.minimum(rng.zipf(1.3, n), n // 2) - 1
    at_once, alone = [np.arange(n)], np.arange(n // 8)[:, None]
    for what, calls, encoder, goal, notes in (
        (f"{n} new texts in one call", at_once, ours, "none: bfloat16 has it", exact),
        (f"{n} new texts in one call, bfloat16", at_once, half, "twice as fast", near),
        (f"{n // 8} new texts, one a call", alone, ours, "no slower", exact),
        (f"{n // 8} new texts, one a call, bfloat16", alone, half, "no slower", near),
        (
            f"a stream of {n} texts, {len(set(stream))} different ones, {_AT_ONCE} a call",
            np.array_split(stream, max(n // _AT_ONCE, 1)),
            ours,
            "twice as fast",
            exact,
        ),
    ):
        say(what)
        yield _row(what, calls, n, encoder, peer, goal, repeats, notes)


def _row(
    what: str,
    calls: Iterable[Any],
    n: int,
    ours: TextEncoder,
    peer: Any,
    goal: str,
    repeats: int,
    notes: Mapping[str, Any],
) -> Row:
    def all_calls(encode: Any) -> Callable[[], None]:
        fresh = itertools.count(1 + 1000 * len(what))

        def once() -> None:
            new = texts(n, next(fresh))
            for rows_ in calls:
                encode([new[i] for i in rows_])

        return once

    seconds = in_turns(all_calls(ours.encode), all_calls(peer.encode), repeats)
    done = sum(len(rows_) for rows_ in calls)
    return Row(
        what,
        Side("locus", seconds[0], done, "texts"),
        Side("sentence-transformers", seconds[1], done, "texts"),
        goal,
        notes,
    )


def texts(n: int, seed: int) -> list[str]:
    """Texts of 5 to 220 words, half of them longer than 65."""
    rng = np.random.default_rng(seed)
    words = _TEXT.split()
    lengths = np.clip(rng.lognormal(np.log(65), 0.7, n), 5, 220).astype(int)
    return [" ".join([f"({seed})", *rng.choice(words, length)]) for length in lengths]
