"""Growth: how time and memory of a refresh grow, each size in a process of its own.

Twice: models and queries grow together, and the map with them (every model is a training model of
it, as after a retraining); then models alone, placed by the map of the fewest of them, as new ones
come between retrainings. Scores are made up; of each size the fastest of the repetitions counts.
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
_LIMIT = "10,000 x 10,000 in less than 8,000 MB"
_LINEAR = "exponent of 1 at most"


def rows(size: Size, folder: Path, say: Say) -> Iterator[Row]:
    """Both series, each with the exponent of time over scores."""
    yield from _series("models and queries", [(n, n, n) for n in _SIDES[size]], say)
    models, n_queries = _MODELS[size], _QUERIES[size]
    yield from _series("models", [(n, n_queries, models[0]) for n in models], say)


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
