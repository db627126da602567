"""What a benchmark measures on: a training pool, held-out models, and queries in three splits."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from locus.bank import Array, Queries
from locus.benchmark.readers import BenchmarkDataError, read_folder
from locus.durable import whole_file
from locus.encoding import TextEncoder, encoder_identity
from locus.encoding.surface import surface
from locus.ids import short_hash
from locus.matrix import ScoreMatrix

POOL_LEAST = 8
"""Fewer models than that are no pool: nothing can be learned from them."""


@dataclass(frozen=True)
class Models:
    """Some models and what they scored.

    Attributes:
        ids: B model ids.
        scores: by split, float32 [B, queries of the split]; NaN where nobody asked.
        params_b: billions of parameters [B]; NaN where nobody knows.
    """

    ids: tuple[str, ...]
    scores: dict[str, Array]
    params_b: NDArray[np.float64]

    def __len__(self) -> int:
        """How many models."""
        return len(self.ids)


@dataclass(frozen=True)
class BenchmarkData:
    """Scores of a training pool and of held-out models on train, val and test queries.

    Attributes:
        name: the folder's name.
        digest: of the tables: results of two digests are never mixed.
        encoder: identity of the sentence encoder.
        queries: by split.
        pool: the training pool.
        held: the held-out models; no organisation of theirs is in the pool.
        wide_pool: every training model there is, where that is more than the pool; else None.
        wide_held: every held-out model there is, with `wide_pool`.
        notes: what a reader of the tables must know about the data.
    """

    name: str
    digest: str
    encoder: str
    queries: dict[str, Queries]
    pool: Models
    held: Models
    wide_pool: Models | None = None
    wide_held: Models | None = None
    notes: tuple[str, ...] = ()

    @property
    def n_train(self) -> int:
        """Training queries."""
        return len(self.queries["train"])


def load(folder: Path, encoder: str, cache: Path, precision: str = "float32") -> BenchmarkData:
    """Read a folder in the matrix schema or in EmbedLLM's format.

    The pool is `pool112` where models.parquet has it, else `split` = train, else four fifths of
    the organisations, by a hash; held-out models likewise (`heldout64`, `split` = heldout, the
    rest). Queries without a `split` are split by their id.

    Args:
        folder: see `readers.read_folder`.
        encoder: sentence encoder, as in the settings.
        cache: folder for encodings, so that no text is encoded twice.
        precision: of the sentence encoder, as in the settings.

    Raises:
        BenchmarkDataError: a missing file or column, a split without queries, a pool of fewer
            than eight models, or two scores for the same model and query.
    """
    frames, digest, notes = read_folder(folder)
    queries = frames["queries"]
    split = queries["split"].to_numpy()
    columns = {name: np.flatnonzero(split == name) for name in ("train", "val", "test")}
    for name, found in columns.items():
        if not len(found):
            raise BenchmarkDataError(f"{folder}: no query is in the split {name!r}")
    parts = _parts(frames["models"])
    if len(parts["pool"]) < POOL_LEAST:
        raise BenchmarkDataError(
            f"{folder}: {len(parts['pool'])} models are in the training pool, which needs "
            f"{POOL_LEAST}; models of one organisation are never divided"
        )
    identity = encoder_identity(encoder, precision)
    texts = queries["text"].to_list()
    phi_Qp = _encodings(texts, TextEncoder(encoder, precision=precision), identity, cache)
    every = Queries(phi_Qp, tuple(queries["benchmark"].to_list()), surface(texts))
    groups = {
        name: _models(frames, rows, queries["query_id"].to_list(), columns)
        for name, rows in parts.items()
    }
    return BenchmarkData(
        folder.resolve().name,
        digest,
        identity,
        {name: every.take(found) for name, found in columns.items()},
        groups["pool"],
        groups["held"],
        groups.get("wide_pool"),
        groups.get("wide_held"),
        tuple(notes),
    )


def _parts(models: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The models of each part, in the order of the file."""
    train, heldout = pl.lit(False), pl.lit(False)
    divided = "split" in models.columns
    if divided:
        train, heldout = pl.col("split") == "train", pl.col("split") == "heldout"
    if {"pool112", "heldout64"} <= set(models.columns):
        found = {"pool": models.filter("pool112"), "held": models.filter("heldout64")}
        if divided:
            found |= {"wide_pool": models.filter(train), "wide_held": models.filter(heldout)}
        return found
    if divided:
        return {"pool": models.filter(train), "held": models.filter(heldout)}
    name = pl.col("model_id").str.split("/").list.first()
    org = pl.coalesce("org", name) if "org" in models.columns else name
    share = org.map_elements(
        lambda name: int(short_hash("org:" + name, 8), 16) / 16**8, return_dtype=pl.Float64
    )
    return {"pool": models.filter(share >= 0.2), "held": models.filter(share < 0.2)}


def _models(
    frames: dict[str, pl.DataFrame],
    models: pl.DataFrame,
    query_ids: list[str],
    columns: dict[str, NDArray[np.int64]],
) -> Models:
    ids = models["model_id"].to_list()
    try:
        matrix = ScoreMatrix.from_frame(frames["scores"], ids, query_ids)
    except ValueError as error:
        raise BenchmarkDataError(f"scores: {error}") from error
    params = (
        models["params_b"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        if "params_b" in models.columns
        else np.full(len(ids), np.nan)
    )
    scores = {name: matrix.values_MQ[:, found] for name, found in columns.items()}
    return Models(tuple(ids), scores, params)


def _encodings(texts: list[str], encoder: TextEncoder, identity: str, cache: Path) -> Array:
    path = cache / f"encodings-{short_hash(identity + chr(0).join(texts))}.npy"
    if path.exists():
        stored: Array = np.load(path, allow_pickle=False)
        return stored
    phi_Qp = encoder.encode(texts)
    cache.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as stream:
        np.save(stream, phi_Qp)
    return phi_Qp
