"""The routing table: its Parquet in itself, and its JSON held against it."""

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

import jsonschema
import numpy as np
import polars as pl

from locus.publication.build import SCHEMA_FILE, stand_ins
from locus.publication.checks.places import Places
from locus.publication.checks.reading import Checked, Reader
from locus.routing.table import ALL, TASK, TOPIC, best_for_the_money

TABLE = "routing/table.parquet"
DOCUMENT = "routing/table.json"
SCHEMA = f"routing/{SCHEMA_FILE}"
TOPICS = "routing/buckets.safetensors"

COLUMNS: dict[str, pl.DataType] = {
    "bucket": pl.String(),
    "kind": pl.String(),
    "rank": pl.Int64(),
    "model_id": pl.String(),
    "p_correct": pl.Float64(),
    "lower_bound": pl.Float64(),
    "observed_accuracy": pl.Float64(),
    "observed_low": pl.Float64(),
    "n_observed": pl.Int64(),
    "n_reference": pl.Int64(),
    "price_in_usd_per_mtok": pl.Float64(),
    "price_out_usd_per_mtok": pl.Float64(),
    "cost_usd": pl.Float64(),
    "latency_ms": pl.Float64(),
}
_REQUIRED = ("bucket", "kind", "rank", "model_id", "p_correct", "n_observed", "n_reference")
_AMOUNTS = ("price_in_usd_per_mtok", "price_out_usd_per_mtok", "cost_usd", "latency_ms")
_OF_BUCKET = ("bucket", "kind", "n_reference")
_ROW = ("bucket", "model_id")
# Bounds are computed from p in float64; both are rounded once.
_ROUNDING = 1e-9


def check_table(reader: Reader, places: Places) -> tuple[pl.DataFrame, Checked]:
    """Every model once in every bucket, ranked by p, with numbers that can be."""
    frame = reader.parquet(TABLE, COLUMNS).select(
        pl.col(column).cast(kind) for column, kind in COLUMNS.items()
    )
    for column in _REQUIRED:
        if frame[column].null_count():
            reader.fail(TABLE, f"column {column} has missing values")
    reader.known(TABLE, frame["model_id"].unique().to_list(), places.at, "column model_id")
    for column in ("p_correct", "lower_bound", "observed_accuracy", "observed_low"):
        within = pl.col(column).is_between(0, 1)
        reader.rule(TABLE, frame, within, f"{column} must be in [0, 1]", _ROW)
    for low, high in (("lower_bound", "p_correct"), ("observed_low", "observed_accuracy")):
        below = pl.col(low) <= pl.col(high) + _ROUNDING
        reader.rule(TABLE, frame, below, f"{low} must not be above {high}", _ROW)
    for column in _AMOUNTS:
        amount = (pl.col(column) >= 0) & pl.col(column).is_finite()
        reader.rule(TABLE, frame, amount, f"{column} must be 0 or more", _ROW)
    reader.rule(TABLE, frame, pl.col("n_observed") >= 0, "n_observed must be 0 or more", _ROW)
    reader.rule(TABLE, frame, pl.col("n_reference") >= 1, "n_reference must be 1 or more", _ROW)
    _check_buckets(reader, frame, len(places.at))
    n = frame["bucket"].n_unique()
    said = f"{frame.height} rows: {n} buckets, each ranks all {len(places.at)} models once"
    return frame, Checked(TABLE, said)


def _check_buckets(reader: Reader, frame: pl.DataFrame, n_models: int) -> None:
    buckets = (
        frame.sort("bucket", "rank")
        .group_by("bucket", maintain_order=True)
        .agg(
            complete=(pl.len() == n_models) & (pl.col("model_id").n_unique() == n_models),
            whole=(pl.col("rank") == pl.int_range(1, pl.len() + 1)).all(),
            falling=pl.col("p_correct").is_sorted(descending=True),
            one=(pl.col("kind").n_unique() == 1) & (pl.col("n_reference").n_unique() == 1),
            named=pl.col("kind").is_in([ALL, TASK, TOPIC]).all(),
        )
    )
    for column, must in (
        ("complete", f"a bucket must have each of {n_models} models once"),
        ("whole", "ranks of a bucket must run from 1 without a gap"),
        ("falling", "a model of higher p_correct must have the better rank"),
        ("one", "kind and n_reference must be the same in a whole bucket"),
        ("named", f"kind must be {ALL}, {TASK} or {TOPIC}"),
    ):
        reader.rule(TABLE, buckets, pl.col(column), must, ["bucket"])
    if frame.filter(kind=ALL)["bucket"].unique().to_list() != [ALL]:
        reader.fail(TABLE, f"must have one bucket of the kind {ALL}, called so")


def check_document(
    reader: Reader, places: Places, table: pl.DataFrame, nearest: pl.DataFrame
) -> list[Checked]:
    """The JSON fits its schema and says what the Parquet says."""
    document = reader.json(DOCUMENT)
    schema = reader.json(SCHEMA)
    try:
        jsonschema.validate(document, schema)
    except jsonschema.SchemaError as error:
        reader.fail(SCHEMA, f"is no JSON Schema: {error.message}")
    except jsonschema.ValidationError as error:
        reader.fail(DOCUMENT, f"does not fit {SCHEMA} at {error.json_path}: {error.message}")
    reader.shaped(DOCUMENT, lambda: _check_chains(reader, document, places, nearest))
    reader.shaped(DOCUMENT, lambda: _check_rows(reader, document, table))
    reader.shaped(DOCUMENT, lambda: _check_choices(reader, document, table))
    return [
        Checked(SCHEMA, "a JSON Schema"),
        Checked(DOCUMENT, f"fits its schema, the same {table.height} rows and first choices"),
    ]


def check_packaged_schema(reader: Reader) -> None:
    """The published schema is the one that this version publishes."""
    ours = resources.files("locus.routing").joinpath(SCHEMA_FILE).read_text("utf-8")
    if reader.json(SCHEMA) != json.loads(ours):
        reader.fail(SCHEMA, "is not the schema of this version")


def check_topics(reader: Reader, table: pl.DataFrame) -> list[Checked]:
    """Topics of the table have a centre to find them by."""
    n = table.filter(kind=TOPIC)["bucket"].n_unique()
    if not reader.has(TOPICS):
        if n:
            reader.fail(TOPICS, f"is missing, and {TABLE} has {n} topics")
        return []
    centres_Gp = reader.arrays(TOPICS).get("centres")
    if centres_Gp is None or centres_Gp.ndim != 2 or len(centres_Gp) < n:
        reader.fail(TOPICS, f"has no centre for each of the {n} topics of {TABLE}")
    # NaN is no length either.
    if not (np.abs(np.linalg.norm(centres_Gp, axis=1) - 1) < 1e-3).all():
        reader.fail(TOPICS, "has a centre that is no unit vector")
    return [Checked(TOPICS, f"{len(centres_Gp)} centres, {n} topics in the table")]


def _check_chains(
    reader: Reader, document: Mapping[str, Any], places: Places, nearest: pl.DataFrame
) -> None:
    chains = document["stand_ins"]
    reader.known(DOCUMENT, list(chains), places.at, "stand_ins")
    for model, others in chains.items():
        reader.known(DOCUMENT, others, places.at, f"stand_ins of {model!r}")
    for model, others in stand_ins(nearest).items():
        if chains.get(model) != others:
            reader.fail(DOCUMENT, f"stand_ins of {model!r} are not its nearest neighbours")


def _check_rows(reader: Reader, document: Mapping[str, Any], table: pl.DataFrame) -> None:
    """The same rows, to the last digit: JSON gives back the float that was written."""
    buckets: Mapping[str, Any] = document["buckets"]
    if odd := sorted(set(buckets) ^ set(table["bucket"])):
        reader.fail(DOCUMENT, f"bucket {odd[0]!r} is not both here and in {TABLE}")
    rows = [
        {**row, "bucket": name, "kind": said["kind"], "n_reference": said["n_reference"]}
        for name, said in buckets.items()
        for row in said["models"]
    ]
    told = pl.DataFrame(rows, schema=COLUMNS)
    if told.height != table.height:
        reader.fail(DOCUMENT, f"has {told.height} rows, and {TABLE} has {table.height}")
    both = told.join(table, on=["bucket", "rank"], suffix="_p", how="left")
    for column in COLUMNS:
        if column not in ("bucket", "rank"):
            same = pl.col(column).eq_missing(pl.col(f"{column}_p"))
            must = f"{column} must be the same as in {TABLE}"
            reader.rule(DOCUMENT, both, same, must, _ROW)


def _check_choices(reader: Reader, document: Mapping[str, Any], table: pl.DataFrame) -> None:
    """Who is best, best for the money, and who steps in, follow from the rows."""
    chains = document["stand_ins"]
    for (bucket,), rows in table.sort("bucket", "rank").group_by("bucket", maintain_order=True):
        said = document["buckets"][bucket]
        first = rows["model_id"][0]
        for field, follows in (
            ("best", first),
            ("best_for_the_money", best_for_the_money(rows)),
            ("fallbacks", chains.get(first, [])),
        ):
            if said[field] != follows:
                reader.fail(
                    DOCUMENT,
                    f"{field} of bucket {bucket!r} is {said[field]!r}, and {TABLE} says "
                    f"{follows!r}",
                )
        order = [row["model_id"] for row in said["models"]]
        if order != rows["model_id"].to_list():
            reader.fail(DOCUMENT, f"models of bucket {bucket!r} are not in the order of their rank")
