"""Places of models, distances between them, and the same for TensorBoard's projector."""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from locus.publication.build import ALL_PAIRS_UP_TO, NEAREST_PAIRS, NEIGHBOURS
from locus.publication.checks.reading import Checked, Reader, vectors
from locus.publication.content import Array
from locus.publication.emit.projector import CONFIG, METADATA, TENSORS
from locus.similarity import PAIR_SCHEMA

EMBEDDINGS = "similarity/embeddings.parquet"
PAIRS = "similarity/pairs.parquet"
NEAREST = "similarity/nearest.parquet"

_VECTOR = pl.List(pl.Float32())
_PLACES: dict[str, pl.DataType] = {
    "model_id": pl.String(),
    "revision": pl.String(),
    "org": pl.String(),
    "family": pl.String(),
    "params_b": pl.Float64(),
    "price_in_usd_per_mtok": pl.Float64(),
    "price_out_usd_per_mtok": pl.Float64(),
    "n_scores": pl.Int64(),
    "vector": _VECTOR,
}
_MEASURES = dict(list(PAIR_SCHEMA.items())[2:])
_NEAREST: dict[str, pl.DataType] = {
    "model_id": pl.String(),
    "rank": pl.Int64(),
    "neighbour_id": pl.String(),
    **_MEASURES,
}
# Distances of float32 vectors, computed in float64 in two ways.
_APART = 1e-6
_ROWS = 1 << 15  # pairs at a time: 32 MB of differences of 128 numbers


@dataclass(frozen=True)
class Places:
    """Published models.

    Attributes:
        at: position of each model, by id.
        z_Md: their places.
    """

    at: Mapping[str, int]
    z_Md: Array

    @property
    def ids(self) -> list[str]:
        """The models in their order."""
        return list(self.at)


def check_embeddings(reader: Reader) -> tuple[Places, Checked]:
    """Every model once, with a finite place of one width."""
    frame = reader.parquet(EMBEDDINGS, _PLACES)
    ids = frame["model_id"].to_list()
    if None in ids or len(set(ids)) != len(ids):
        reader.fail(EMBEDDINGS, "a model is there twice, or has no id")
    counted = reader.count("models")
    if len(ids) != counted:
        reader.fail(EMBEDDINGS, f"has {len(ids)} models, and the manifest counts {counted}")
    for column in ("params_b", "price_in_usd_per_mtok", "price_out_usd_per_mtok", "n_scores"):
        fine = (pl.col(column) >= 0) & pl.col(column).cast(pl.Float64).is_finite()
        reader.rule(EMBEDDINGS, frame, fine, f"{column} must be 0 or more", ["model_id"])
    z_Md = vectors(reader, EMBEDDINGS, frame["vector"], ids)
    if "uncertainty" in frame.columns:
        fine = (pl.col("uncertainty") >= 0) & pl.col("uncertainty").is_finite()
        reader.rule(EMBEDDINGS, frame, fine, "uncertainty must be 0 or more", ["model_id"])
    doubt = ""
    if "covariance" in frame.columns and not frame["covariance"].null_count():
        vectors(reader, EMBEDDINGS, frame["covariance"], ids)
        doubt = ", each with its covariance"
    places = Places({model: i for i, model in enumerate(ids)}, z_Md)
    said = f"{len(ids)} models with finite places of {z_Md.shape[1]} numbers{doubt}"
    return places, Checked(EMBEDDINGS, said)


def check_pairs(reader: Reader, places: Places) -> Checked:
    """Pairs name known models, each pair once, and their distance is that of the places."""
    frame = reader.parquet(PAIRS, PAIR_SCHEMA)
    _measured(reader, PAIRS, frame, places, ("model_a", "model_b"))
    ordered = pl.col("model_a") < pl.col("model_b")
    reader.rule(PAIRS, frame, ordered, "model_a must come before model_b", ["model_a", "model_b"])
    if frame.select("model_a", "model_b").is_duplicated().any():
        reader.fail(PAIRS, "a pair is there twice")
    n = len(places.at)
    every = n * (n - 1) // 2
    if n <= ALL_PAIRS_UP_TO:
        if frame.height != every:
            reader.fail(PAIRS, f"has {frame.height} pairs, and {n} models make {every}")
    else:
        both = pl.concat([frame["model_a"], frame["model_b"].rename("model_a")])
        fewest = both.value_counts()["count"].min() if both.n_unique() == n else 0
        if not isinstance(fewest, int) or fewest < NEAREST_PAIRS:
            reader.fail(PAIRS, f"a model has fewer than its {NEAREST_PAIRS} nearest")
    return Checked(PAIRS, f"{frame.height} pairs, as far apart as their places are")


def check_nearest(reader: Reader, places: Places) -> tuple[pl.DataFrame, Checked]:
    """Every model has its neighbours, the nearest first."""
    frame = reader.parquet(NEAREST, _NEAREST)
    _measured(reader, NEAREST, frame, places, ("model_id", "neighbour_id"))
    k = min(NEIGHBOURS, len(places.at) - 1)
    counted = (
        frame.sort("model_id", "rank")
        .group_by("model_id", maintain_order=True)
        .agg(
            whole=(pl.col("rank") == pl.int_range(1, pl.len() + 1)).all() & (pl.len() == k),
            rising=pl.col("euclidean_distance").is_sorted(),
            others=(pl.col("neighbour_id") != pl.col("model_id").first()).all()
            & (pl.col("neighbour_id").n_unique() == pl.len()),
        )
    )
    if k and counted.height != len(places.at):
        reader.fail(NEAREST, f"has neighbours of {counted.height} of {len(places.at)} models")
    for column, must in (
        ("whole", f"a model must have {k} neighbours, ranked from 1"),
        ("others", "neighbours must be different models, and others than the model"),
        ("rising", "a nearer neighbour must come first"),
    ):
        reader.rule(NEAREST, counted, pl.col(column), must, ["model_id"])
    return frame, Checked(NEAREST, f"the {k} nearest of each of {len(places.at)} models")


def check_projector(reader: Reader, places: Places) -> list[Checked]:
    """The two tables have a row a model, in the order of the places, and the same numbers."""
    tensors, metadata, config = (f"similarity/{name}" for name in (TENSORS, METADATA, CONFIG))
    n = len(places.at)
    text = reader.text(tensors)
    rows = text.count("\n")
    if rows != n:
        reader.fail(tensors, f"has {rows} rows, and there are {n} models")
    try:
        read_Md = pl.read_csv(
            io.StringIO(text), separator="\t", has_header=False, quote_char=None,
            infer_schema=False,
        ).select(pl.all().cast(pl.Float64)).to_numpy()  # fmt: skip
    except pl.exceptions.PolarsError as error:
        reader.fail(tensors, f"has a cell that is no number: {error}")
    if read_Md.shape != places.z_Md.shape or not np.array_equal(
        read_Md.astype(np.float32), places.z_Md
    ):
        reader.fail(tensors, f"has other numbers than {EMBEDDINGS}")
    lines = reader.text(metadata).rstrip("\n").split("\n")
    named = [line.split("\t")[0] for line in lines[1:]]
    if len(named) != n:
        reader.fail(metadata, f"has {len(named)} rows under its header, and there are {n} models")
    for found, model in zip(named, places.at, strict=True):
        if found != " ".join(model.split()):
            reader.fail(metadata, f"names {found!r} where {EMBEDDINGS} has {model!r}")
    pointing = reader.text(config)
    for name in (TENSORS, METADATA):
        if f'"{name}"' not in pointing:
            reader.fail(config, f"does not point to {name}")
    return [
        Checked(tensors, f"{n} rows, the same numbers as {EMBEDDINGS}"),
        Checked(metadata, f"{n} rows, in the same order"),
        Checked(config, "points to both"),
    ]


def _measured(
    reader: Reader, file: str, frame: pl.DataFrame, places: Places, ends: tuple[str, str]
) -> None:
    """Rows that measure two models: who they are, and whether the numbers can be."""
    for end in ends:
        reader.known(file, frame[end].unique().to_list(), places.at, end)
    share = ("observed_agreement", "agreement_low", "agreement_high")
    for column in share:
        reader.rule(
            file, frame, pl.col(column).is_between(0, 1), f"{column} must be in [0, 1]", ends
        )
    within = pl.col("cosine_distance").is_between(0, 2)
    reader.rule(file, frame, within, "cosine_distance must be in [0, 2]", ends)
    reader.rule(file, frame, pl.col("n_common") >= 0, "n_common must be 0 or more", ends)
    one_P, other_P = (
        frame[end].replace_strict(places.at, return_dtype=pl.Int64).to_numpy() for end in ends
    )
    z_Md = places.z_Md.astype(np.float64)
    apart_P = np.concatenate(
        [
            np.linalg.norm(z_Md[one_P[i : i + _ROWS]] - z_Md[other_P[i : i + _ROWS]], axis=1)
            for i in range(0, len(one_P), _ROWS)
        ]
        or [np.empty(0)]
    )
    beside = frame.with_columns(apart=pl.Series(apart_P))
    gap = (pl.col("euclidean_distance") - pl.col("apart")).abs()
    # A distance that is missing or no number is none either.
    near = (gap <= _APART * (1 + pl.col("apart"))).fill_null(False) & gap.is_finite()
    reader.rule(file, beside, near, "euclidean_distance must be that of the places", ends)
