"""Growth: how time and memory grow at 1, 4 and 16 times the size, each in a process of its own.

A refresh twice: models and queries grow together, and the map with them (every model is a training
model of it, as after a retraining); then models alone, placed by the map of the fewest of them, as
new ones come between retrainings. Then everything else that works on models, scores or texts.
Scores are made up; of each size the fastest of the repetitions counts.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from flows.bench.apart import apart
from flows.bench.rows import Row, Say, Side, Size, growth
from flows.bench.world import made, map_of

_SIDES = {Size.QUICK: (64, 128, 256), Size.FULL: (2500, 5000, 10000)}
_MODELS = {Size.QUICK: (32, 128, 512), Size.FULL: (625, 2500, 10000)}
_QUERIES = {Size.QUICK: 128, Size.FULL: 1310}
_TABLE = {Size.QUICK: (4_000, 16_000, 64_000), Size.FULL: (625_000, 2_500_000, 10_000_000)}
# What else grows, by its function in `flows.bench.grown`: what is done, its unit, the sizes.
_OTHERS = {
    "learn": (
        "learn a map, as many queries as models",
        "scores",
        {Size.QUICK: (24, 48, 96), Size.FULL: (500, 1000, 2000)},
    ),
    "choose": (
        "choose for 4,096 queries",
        "models",
        {Size.QUICK: (28, 112, 448), Size.FULL: (569, 2277, 9108)},
    ),
    "encode": (
        "encode new texts",
        "texts",
        {Size.QUICK: (4, 16, 64), Size.FULL: (75, 300, 1200)},
    ),
    "logs": (
        "import lm-eval logs",
        "documents",
        {Size.QUICK: (60, 240, 960), Size.FULL: (2_500, 10_000, 40_000)},
    ),
    "matrix": ("import a matrix", "scores", _TABLE),
    "read_back": ("read scores back as a matrix", "scores", _TABLE),
}
_LIMIT = "10,000 x 10,000 in less than 8,000 MB"
_LINEAR = "exponent of 1 at most"


def rows(size: Size, folder: Path, say: Say) -> Iterator[Row]:
    """Both series, each with the exponent of time over scores."""
    yield from _series("models and queries", [(n, n, n) for n in _SIDES[size]], say)
    models, n_queries = _MODELS[size], _QUERIES[size]
    yield from _series("models", [(n, n_queries, models[0]) for n in models], say)
    for name in _OTHERS:
        yield from _other(name, size, say)


def _series(what: str, sizes: Sequence[tuple[int, int, int]], say: Say) -> Iterator[Row]:
    taken: dict[float, float] = {}
    for n_models, n_queries, on_map in sizes:
        say(f"refresh of {n_models} x {n_queries} by a map of {on_map} models")
        repeats = 1 if n_models * n_queries > 10**7 else 3
        seconds, peak_mb = apart(
            "flows.bench.growth", "refresh",
            n_models=n_models, n_queries=n_queries, on_map=on_map, repeats=repeats,
        )  # fmt: skip
        scores = n_models * n_queries
        taken[scores] = min(seconds)
        last = len(taken) == len(sizes)
        label = f"map of {on_map:,} models"
        yield Row(
            f"refresh, {n_models:,} x {n_queries:,}",
            Side(label, tuple(seconds), scores, "scores", peak_mb),
            None,
            f"{_LIMIT}; {_LINEAR}" if last and what != "models" else _LINEAR if last else "",
            {f"exponent of time over scores, {what} growing": growth(taken)} if last else {},
        )


def _other(name: str, size: Size, say: Say) -> Iterator[Row]:
    what, unit, by_size = _OTHERS[name]
    taken: dict[float, float] = {}
    sizes = by_size[size]
    for n in sizes:
        say(f"{what}: {n:,}")
        seconds, peak_mb = apart("flows.bench.grown", name, size=n, repeats=3)
        work = n * n if name == "learn" else n
        taken[work] = min(seconds)
        last = len(taken) == len(sizes)
        yield Row(
            f"{what}: {n:,}" + (f" x {n:,}" if name == "learn" else ""),
            Side(name.replace("_", " "), tuple(seconds), work, unit, peak_mb),
            None,
            _LINEAR if last else "",
            {f"exponent of time over {unit}": growth(taken)} if last else {},
        )


def refresh(n_models: int, n_queries: int, on_map: int, repeats: int) -> list[float]:
    """Seconds in which all models of a made-up leaderboard are placed, for every repetition."""
    world = made(n_models, n_queries)
    model_map = map_of(world, on_map)
    # A first call loads what is loaded once.
    model_map.embed(world.ids, world.x_Qf, world.values_MQ[:8])
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        placed = model_map.embed(world.ids, world.x_Qf, world.values_MQ)
        seconds.append(time.perf_counter() - started)
        if len(placed.z_Md) != n_models:
            raise RuntimeError(f"{len(placed.z_Md)} models were placed, not {n_models}")
    return seconds
