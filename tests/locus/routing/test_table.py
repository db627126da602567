"""The routing table on a pool small enough to count."""

import numpy as np
import polars as pl
import pytest

from locus.routing.bounds import Calibrated
from locus.routing.table import Bucket, as_json, best_for_the_money, routing_table, task_buckets

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
    assert 0.09 < x[0]["observed_low"] < 0.1  # Wilson, 1 of 2
    assert x[0]["lower_bound"] is None  # nothing was calibrated
    y = table.filter(bucket="y").to_dicts()
    assert y[0]["model_id"] == "b"
    assert y[0]["observed_accuracy"] is None
    assert y[0]["observed_low"] is None
    assert y[0]["n_observed"] == 0
    assert set(table["bucket"]) == {"all", "x", "y"}


def test_json_names_the_best_and_its_stand_ins() -> None:
    table = routing_table(MODELS, QUERIES, P, SCORES)
    document = as_json(table, {"a": ["b"]}, {})
    assert document["buckets"]["x"]["best"] == "a"
    assert document["buckets"]["x"]["fallbacks"] == ["b"]
    assert document["buckets"]["y"]["fallbacks"] == []
    assert [m["rank"] for m in document["buckets"]["all"]["models"]] == [1, 2]


def test_topics_stand_beside_tasks_and_bounds_follow_doubt() -> None:
    topic = Bucket("topic 01", "topic", np.array([0, 2]), ("sum", "digits"))
    table = routing_table(
        MODELS, QUERIES, P, SCORES,
        buckets=[*task_buckets(QUERIES["task"].to_list()), topic],
        deviation_TM=np.array([[0.1, 0.0]] * 3, dtype=np.float32),
        calibrated=Calibrated(misfit=0.0, quantile=-2.0, pairs=100),
    )  # fmt: skip
    rows = {r["model_id"]: r for r in table.filter(bucket="topic 01").to_dicts()}
    assert rows["a"]["p_correct"] == pytest.approx(0.5)
    assert rows["a"]["lower_bound"] == pytest.approx(0.3)
    assert rows["b"]["lower_bound"] == pytest.approx(rows["b"]["p_correct"])
    assert (rows["a"]["observed_accuracy"], rows["a"]["n_observed"]) == (1.0, 1)
    document = as_json(table, {}, {"topic 01": ["sum", "digits"]})
    assert document["buckets"]["topic 01"]["words"] == ["sum", "digits"]
    assert document["buckets"]["topic 01"]["kind"] == "topic"
    assert document["buckets"]["x"]["words"] == []


def test_best_for_the_money() -> None:
    def rows(prices: list[float | None], cost: list[float | None]) -> pl.DataFrame:
        return pl.DataFrame(
            {
                "model_id": ["best", "near", "far"],
                "rank": [1, 2, 3],
                "p_correct": [0.9, 0.885, 0.5],
                "price_in_usd_per_mtok": prices,
                "price_out_usd_per_mtok": [None, 0.5, 0.0],
                "cost_usd": cost,
            },
            schema_overrides={"cost_usd": pl.Float64, "price_in_usd_per_mtok": pl.Float64},
        )

    assert best_for_the_money(rows([2.0, 1.0, 0.1], [None] * 3)) == "near"
    assert best_for_the_money(rows([1.2, 1.0, 0.1], [None] * 3)) == "best"  # 1.0 + 0.5
    assert best_for_the_money(rows([2.0, 1.0, 0.1], [0.001, 0.002, None])) == "best"  # measured
    assert best_for_the_money(rows([2.0, None, 0.1], [None] * 3)) == "best"  # near has no price
    assert best_for_the_money(rows([None, None, 0.1], [None] * 3)) is None
    # Two sums of the same numbers in another order.
    assert (
        best_for_the_money(rows([1.0, 1.0, 1.0], [0.1 + 0.2 + 0.3, 0.3 + 0.2 + 0.1, 1])) == "best"
    )
