"""A score matrix with its splits, read from a folder in the matrix schema (docs/imports.md)."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from locus.bank import Array, Bank, Queries
from locus.encoding import TextEncoder, encoder_identity
from locus.ids import short_hash, split_of
from locus.matrix import ScoreMatrix


class BenchmarkDataError(ValueError):
    """A folder that can't be used for a benchmark; the message names the file and the fault."""


@dataclass(frozen=True)
class BenchmarkData:
    """Scores of a training pool and of held-out models on train, val and test queries.

    Attributes:
        name: the folder's name.
        digest: of the tables: results of two digests are never mixed.
        encoder: identity of the sentence encoder.
        queries: by split.
        pool: scores of the training pool, by split.
        held: scores of the held-out models, by split; no organisation of theirs is in the pool.
    """

    name: str
    digest: str
    encoder: str
    queries: dict[str, Queries]
    pool: dict[str, Array]
    held: dict[str, Array]

    def bank(self) -> Bank:
        """Everything that a method may learn from."""
        queries, pool = self.queries, self.pool
        return Bank(queries["train"], pool["train"], queries["val"], pool["val"])


def load(folder: Path, encoder: str, cache: Path) -> BenchmarkData:
    """Read a folder.

    The pool is `pool112` where models.parquet has it, else `split` = train, else four fifths of
    the organisations; held-out models likewise (`heldout64`, `split` = heldout, the rest).
    Queries without a `split` are split by their id.

    Args:
        folder: models.parquet, queries.parquet, scores.parquet.
        encoder: sentence encoder, as in the settings.
        cache: folder for encodings, so that no text is encoded twice.

    Raises:
        BenchmarkDataError: a missing file or column, or a split without queries or models.
    """
    frames = {}
    for name in ("models", "queries", "scores"):
        path = folder / f"{name}.parquet"
        if not path.is_file():
            raise BenchmarkDataError(f"{path} is missing: a benchmark reads the matrix schema")
        frames[name] = pl.read_parquet(path)
    models, queries = _models(frames["models"]), _queries(frames["queries"])
    identity = encoder_identity(encoder)
    phi_Qp = _encodings(queries, encoder, identity, cache)
    matrix = ScoreMatrix.from_frame(
        frames["scores"], models["model_id"].to_list(), queries["query_id"].to_list()
    )
    part, split = models["part"].to_numpy(), queries["split"].to_numpy()
    columns = {name: np.flatnonzero(split == name) for name in ("train", "val", "test")}
    for name, found in columns.items():
        if not len(found):
            raise BenchmarkDataError(f"{folder}: no query is in the split {name!r}")
    if (part == "pool").sum() < 8 or (part == "held").sum() < 2:
        raise BenchmarkDataError(f"{folder}: too few models for a pool and held-out models")
    benchmark = queries["benchmark"].to_list()
    digest = hashlib.sha256()
    for name in frames:
        digest.update((folder / f"{name}.parquet").read_bytes())
    return BenchmarkData(
        folder.resolve().name,
        digest.hexdigest()[:12],
        identity,
        {n: Queries(phi_Qp[c], tuple(benchmark[i] for i in c)) for n, c in columns.items()},
        {n: matrix.values_MQ[part == "pool"][:, c] for n, c in columns.items()},
        {n: matrix.values_MQ[part == "held"][:, c] for n, c in columns.items()},
    )


def _models(models: pl.DataFrame) -> pl.DataFrame:
    if {"pool112", "heldout64"} <= set(models.columns):
        pool, held = pl.col("pool112"), pl.col("heldout64")
    elif "split" in models.columns:
        pool, held = pl.col("split") == "train", pl.col("split") == "heldout"
    else:
        named = "org" in models.columns
        name = pl.col("model_id").str.split("/").list.first()
        org = pl.coalesce("org", name) if named else name
        share = org.map_elements(
            lambda name: int(short_hash("org:" + name, 8), 16) / 16**8, return_dtype=pl.Float64
        )
        pool, held = share >= 0.2, share < 0.2
    return models.select(
        "model_id",
        part=pl.when(pool).then(pl.lit("pool")).when(held).then(pl.lit("held")),
    ).drop_nulls("part")


def _queries(queries: pl.DataFrame) -> pl.DataFrame:
    for column in ("query_id", "benchmark", "text"):
        if column not in queries.columns:
            raise BenchmarkDataError(f"queries.parquet has no column {column!r}")
    if "split" in queries.columns:
        return queries
    splits = [split_of(query) for query in queries["query_id"]]
    return queries.with_columns(split=pl.Series(splits, dtype=pl.String))


def _encodings(queries: pl.DataFrame, encoder: str, identity: str, cache: Path) -> Array:
    texts = queries["text"].to_list()
    path = cache / f"encodings-{short_hash(identity + chr(0).join(texts))}.npy"
    if path.exists():
        stored: Array = np.load(path, allow_pickle=False)
        return stored
    phi_Qp = TextEncoder(encoder).encode(texts)
    cache.mkdir(parents=True, exist_ok=True)
    np.save(path, phi_Qp)
    return phi_Qp
