"""Routing: from a query's features to the model that should answer it, in every core.

The other side is the same choice as its formulas say it (`locus.routing.speed`): in float64, the
text read once for chances and once for doubts, and the whole pool ranked. Every thread is a Python
thread with a single-threaded BLAS.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows.bench.rows import Row, Say, Side, Size
from locus.routing.speed import POOLS, Options, compare

_KINDS = {"factors": "the map by factors", "attention": "LOCUS as published"}
_GOAL = {112: "50,000 selections a second on two cores, one query within 1 ms"}


def rows(size: Size, folder: Path, say: Say) -> Iterator[Row]:
    """Selections a second and one query's time, for both kinds of map and pool."""
    quick = size is Size.QUICK
    options = Options(quick=quick, repetitions=2 if quick else Options.repetitions)
    for n_models in POOLS:
        for kind in _KINDS:
            yield _row(compare(kind, n_models, options, say), options)


def _row(found: dict[str, Any], options: Options) -> Row:
    def side(name: str) -> Side:
        seconds = tuple(found["queries"] / rate for rate in found["per_s"][name])
        return Side(name, seconds, found["queries"], "selections")

    def single(name: str) -> str:
        times = found["single"][name]
        return f"{times['p50_ms']:.3f} / {times['p99_ms']:.3f} ms"

    return Row(
        f"choose among {found['models']:,} models, {_KINDS[found['kind']]}",
        side("folded"),
        side("plain"),
        _GOAL.get(found["models"], "one query within 1 ms"),
        {
            "one query, p50 / p99": single("folded"),
            "plain": single("plain"),
            "top 3 with reasons": single("decide, top 3 with reasons"),
            "threads": options.threads,
            "choices differing": found["choices_differing"],
        },
    )
