"""The routing table on a pool small enough to count."""

import numpy as np
import polars as pl

from locus.routing.table import as_json, routing_table

MODELS = pl.DataFrame(
    {
        "model_id": ["a", "b"],
        "price_in_usd_per_mtok": [1.0, None],
        "price_out_usd_per_mtok": [2.0, None],
    },
    schema_overrides={"price_in_usd_per_mtok": pl.Float64, "price_out_usd_per_mtok": pl.Float64},
)
QUERIES = pl.DataFrame({"query_id": ["q1", "q2", "q3"], "task": ["x", "x", "y"]})
P = np.array([[0.9, 0.2], [0.7, 0.4], [0.1, 0.8]], dtype=np.float32)
SCORES = pl.DataFrame(
    {"model_id": ["a", "a", "b"], "query_id": ["q1", "q2", "q1"], "score": [1.0, 0.0, 1.0]}
)


def test_ranks_and_numbers() -> None:
    table = routing_table(MODELS, QUERIES, P, SCORES)
    x = table.filter(bucket="x").to_dicts()
    assert [(r["rank"], r["model_id"]) for r in x] == [(1, "a"), (2, "b")]
    assert abs(x[0]["p_correct"] - 0.8) < 1e-6
    assert (x[0]["observed_accuracy"], x[0]["n_observed"], x[0]["n_reference"]) == (0.5, 2, 2)
    assert 0.09 < x[0]["lower_bound"] < 0.1  # Wilson, 1 of 2
    y = table.filter(bucket="y").to_dicts()
    assert y[0]["model_id"] == "b"
    assert y[0]["observed_accuracy"] is None
    assert y[0]["lower_bound"] is None
    assert y[0]["n_observed"] == 0
    assert set(table["bucket"]) == {"all", "x", "y"}


def test_json_names_the_best_and_its_stand_ins() -> None:
    table = routing_table(MODELS, QUERIES, P, SCORES)
    document = as_json(table, {"a": ["b"]})
    assert document["buckets"]["x"]["best"] == "a"
    assert document["buckets"]["x"]["fallbacks"] == ["b"]
    assert document["buckets"]["y"]["fallbacks"] == []
    assert [m["rank"] for m in document["buckets"]["all"]["models"]] == [1, 2]
