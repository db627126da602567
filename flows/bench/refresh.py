"""Refresh: every model gets its place from all its scores, and later those with new scores do.

By the map's own function, beside LOCUS' published forward pass one model at a time; then by the
pipeline's step, from a warehouse that holds the scores, after 1 % of new ones. Scores are made up
in the sizes of real leaderboards.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import torch

from flows.bench.plain import embed_one_by_one
from flows.bench.rows import Row, Say, Side, Size, in_turns, timed
from flows.bench.world import World, made, map_of
from locus.embedding import checkpoint
from locus.embedding.config import ArchitectureConfig
from locus.embedding.maps import AttentionMap, FactorMap, ModelMap
from locus.embedding.network import Locus
from tasks.changed import DIGESTS
from tasks.embed import embed_models
from tasks.importing import import_folder
from tasks.settings import Settings
from warehouse.store import Warehouse

_ENCODER = "made-up"
_SHARE = 0.01


def rows(size: Size, folder: Path, say: Say) -> Iterator[Row]:
    """The map's function on pools of a leaderboard, then the pipeline's step."""
    quick = size is Size.QUICK
    repeats = 1 if quick else 3
    pools = [(28, 256)] if quick else [(112, 1024), (2277, 1310)]
    for n_models, n_queries in pools:
        yield from _maps(made(n_models, n_queries), repeats, say)
    yield from _pipeline(pools[-1], folder, repeats, say)


def _maps(world: World, repeats: int, say: Say) -> Iterator[Row]:
    n_models, n_queries = world.values_MQ.shape
    phi = world.queries.phi_Qp
    torch.manual_seed(0)
    network = Locus(ArchitectureConfig(d_query=phi.shape[1])).eval()
    some = world.values_MQ[: min(n_models, 112)]
    fast = AttentionMap(network).embed(world.ids, world.x_Qf, some).z_Md
    apart = float(np.abs(fast - embed_one_by_one(network, phi, some)).max())
    goal = "20 times as fast" + (", under 30 s on two cores" if n_models > 1000 else "")
    ways: list[tuple[str, ModelMap]] = [("closed form", map_of(world))]
    if len(some) == n_models:
        ways.append(("attention, batched", AttentionMap(network)))
    for label, model_map in ways:
        say(f"placing {n_models} x {n_queries}: {label}")
        ours, peer = in_turns(
            partial(model_map.embed, world.ids, world.x_Qf, world.values_MQ),
            partial(embed_one_by_one, network, phi, some),
            repeats,
        )
        plain = "published, one by one" + (
            "" if len(some) == n_models else f" ({len(some)} of the models)"
        )
        notes = {"vectors differ by": apart} if isinstance(model_map, AttentionMap) else {}
        yield Row(
            f"place all of {n_models:,} models by {n_queries:,} queries",
            Side(label, ours, n_models, "models"),
            Side(plain, peer, len(some), "models"),
            goal,
            notes,
        )


def _pipeline(pool: tuple[int, int], folder: Path, repeats: int, say: Say) -> Iterator[Row]:
    n_models, n_queries = pool
    n_new = max(round(n_models * _SHARE), 1)
    world = made(n_models + n_new, n_queries)
    settings = Settings(home=folder / "home", encoder=_ENCODER)
    values = world.values_MQ
    hidden = (np.random.default_rng(1).random(values.shape) < _SHARE) & ~np.isnan(values)
    say(f"importing {n_models} x {n_queries}")
    first = np.where(hidden, np.nan, values)[:n_models]
    _file(settings, world, first, folder / "first")
    with Warehouse.open(settings.warehouse) as warehouse:
        stored = warehouse.catalogue.queries(columns=["query_id", "text"])
    # The import names queries by what they hold: the map knows them by those names.
    id_of = {text: query for query, text in stored.iter_rows()}
    ids = tuple(id_of[_text(i)] for i in range(n_queries))
    model_map = FactorMap(map_of(replace(world, values_MQ=values[:n_models])).placement, ids)
    settings.checkpoints.mkdir(parents=True, exist_ok=True)
    first_name, *names = (
        checkpoint.save(model_map, _ENCODER, {"copy": i}, settings.checkpoints)
        for i in range(repeats + 1)
    )
    # Once untimed: libraries are loaded, and digests remembered as after any night.
    _place(settings, first_name, n_models)
    memory = settings.home / DIGESTS

    def refresh(what: str, expected: int) -> tuple[float, ...]:
        say(what)
        remembered, seconds = memory.read_bytes(), []
        for name in names:
            # What the repetition before has learned is forgotten again.
            memory.write_bytes(remembered)
            seconds.append(timed(partial(_place, settings, name, expected)))
        return tuple(seconds)

    full = refresh("full refresh", n_models)
    nothing = refresh("nothing new", 0)
    new = np.full(values.shape, np.nan, dtype=np.float32)
    new[n_models:] = values[n_models:]
    _file(settings, world, new, folder / "new")
    few = refresh(f"{n_new} new models", n_new)
    _file(settings, world, np.where(hidden, values, np.nan)[:n_models], folder / "spread")
    # In a small pool some models get none.
    n_touched = int(hidden[:n_models].any(axis=1).sum())
    spread = refresh("new scores of every model", n_touched)
    size = f"{n_models:,} x {n_queries:,}"
    peer = Side("full refresh", full)
    yield Row(
        f"embed step, {size}, after 1 % new scores, of {n_new} models",
        Side("those models", few), peer, "20 times as fast",
        {"nothing new, s": float(np.median(nothing))},
    )  # fmt: skip
    yield Row(
        f"embed step, {size}, after 1 % new scores, of {n_touched:,} models",
        Side("those models", spread), peer, "none: every place changes",
    )  # fmt: skip


def _place(settings: Settings, name: str, expected: int) -> None:
    placed = embed_models.fn(settings, name)
    if len(placed) != expected:
        raise RuntimeError(f"{len(placed)} models were placed, not {expected}")


def _text(i: int) -> str:
    return f"What is made up as number {i}?"


def _file(settings: Settings, world: World, values_MQ: np.ndarray, folder: Path) -> None:
    """Import scores as anybody would, and give every query its made-up vector."""
    folder.mkdir()
    rows, columns = np.nonzero(~np.isnan(values_MQ))
    models = np.array([f"made/up-{i:05d}" for i in range(len(values_MQ))])
    queries = np.array(world.ids)
    pl.DataFrame({"model_id": models[np.unique(rows)]}).write_parquet(folder / "models.parquet")
    pl.DataFrame(
        {
            "query_id": world.ids,
            "benchmark": world.queries.benchmark,
            "text": [_text(i) for i in range(len(world.ids))],
            "split": "train",
        }
    ).write_parquet(folder / "queries.parquet")
    pl.DataFrame(
        {
            "model_id": models[rows],
            "query_id": queries[columns],
            "score": values_MQ[rows, columns].astype(np.float64),
        }
    ).write_parquet(folder / "scores.parquet")
    import_folder(settings, "matrix", folder)
    phi_Qp = world.queries.phi_Qp
    with Warehouse.open(settings.warehouse) as warehouse:
        missing = warehouse.vectors.missing_encodings(_ENCODER)
        if missing.is_empty():
            return
        frame = missing.select("query_id", encoder=pl.lit(_ENCODER)).with_columns(
            vector=pl.Series(phi_Qp[: missing.height].tolist(), dtype=pl.List(pl.Float32))
        )
        warehouse.vectors.add_encodings(frame)
