"""What contracts refuse, and what their errors say."""

from typing import Any

import polars as pl
import pytest
from warehouse_sample import T0, models, score_row, scores

from warehouse.contracts import (
    EncodingFrame,
    ModelFrame,
    PredictionFrame,
    QueryFrame,
    ScoreFrame,
    build,
    polars_schema,
    validated,
)
from warehouse.errors import ContractError
from warehouse.store import Warehouse

GOOD = scores(score_row("a/alpha", "a1", "q1", 1.0), score_row("a/alpha", "a1", "q2", None))


def refused(frame: pl.DataFrame, contract: Any = ScoreFrame) -> ContractError:
    with pytest.raises(ContractError) as info:
        validated(contract, frame)
    return info.value


def with_first(column: str, value: Any) -> pl.DataFrame:
    first = pl.int_range(pl.len()) == 0
    return GOOD.with_columns(
        pl.when(first)
        .then(pl.lit(value, dtype=GOOD.schema[column]))
        .otherwise(column)
        .alias(column)
    )


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("score", 1.5, "must lie within"),
        ("score", -0.1, "must lie within"),
        ("score", float("nan"), "must lie within"),
        ("status", "fine", "must be one of ok, error"),
        ("model_id", None, "must not be NULL"),
        ("query_id", "", "must not be empty"),
        ("metrics", "{not json", "must be valid JSON"),
        ("latency_ms", -1.0, "finite and not negative"),
        ("latency_ms", float("inf"), "finite and not negative"),
        ("cost_usd", float("nan"), "finite and not negative"),
        ("tokens_in", -1, "must not be negative"),
        ("scored_at", None, "must not be NULL"),
    ],
)
def test_a_bad_value_is_named_with_its_row(column: str, value: Any, rule: str) -> None:
    error = refused(with_first(column, value))
    assert (error.table, error.column) == ("score", column)
    assert rule in error.rule
    assert len(error.rows) == 1
    assert column in error.rows[0]
    for part in ("score", column, rule):
        assert part in str(error)


@pytest.mark.parametrize(("status", "score"), [("error", 0.0), ("truncated", 1.0), ("ok", None)])
def test_only_ok_has_a_score_and_ok_always_has_one(status: str, score: float | None) -> None:
    row = score_row("a/alpha", "a1", "q1", score) | {"status": status}
    error = refused(scores(row))
    assert error.column is None
    assert "NULL unless status is ok" in error.rule
    assert error.rows[0]["status"] == status


def test_types_are_not_coerced() -> None:
    error = refused(GOOD.with_columns(pl.col("score").cast(pl.Float32)))
    assert (error.column, error.rule) == ("score", "must be Float64, is Float32")
    error = refused(GOOD.with_columns(pl.lit(T0.replace(tzinfo=None)).alias("scored_at")))
    assert error.column == "scored_at"


def test_columns_are_exact_but_optional_ones_may_be_left_out() -> None:
    assert refused(GOOD.with_columns(x=1)).rule == "is not a column of this table"
    error = refused(GOOD.drop("status"))
    assert (error.column, error.rule) == ("status", "is missing")
    full = validated(ScoreFrame, GOOD.drop("response", "filter", "cost_usd"))
    assert full.schema == polars_schema(ScoreFrame)
    assert full["response"].null_count() == full.height


def test_twice_the_same_key_is_refused() -> None:
    error = refused(pl.concat([GOOD, GOOD.head(1)]))
    assert "must be unique" in error.rule
    assert [row["query_id"] for row in error.rows] == ["q1", "q1"]


def test_only_the_first_few_rows_are_shown_and_hostile_text_is_escaped() -> None:
    evil = "\x1b[31m" + "x" * 500
    many = scores(*[score_row("m", "r", f"{i}{evil}", 2.0) for i in range(50)])
    error = refused(many)
    assert "50 offending row(s)" in str(error)
    assert len(error.rows) == 3
    assert "\x1b" not in str(error)
    assert len(str(error)) < 1500


@pytest.mark.parametrize(
    ("vector", "rule"),
    [([], "must not be empty"), ([1.0, float("nan")], "finite"), ([1.0, None], "finite")],
)
def test_vectors_are_finite(vector: list[float | None], rule: str) -> None:
    frame = build(EncodingFrame, [{"query_id": "q1", "encoder": "e", "vector": vector}])
    error = refused(frame.drop("dim"), EncodingFrame)
    assert error.column == "vector"
    assert rule in error.rule


def test_dim_is_the_length_of_the_vector() -> None:
    row = {"query_id": "q1", "encoder": "e", "vector": [1.0, 2.0]}
    assert validated(EncodingFrame, build(EncodingFrame, [row]).drop("dim"))["dim"].item() == 2
    error = refused(build(EncodingFrame, [row | {"dim": 3}]), EncodingFrame)
    assert "length of vector" in error.rule


def test_other_tables_have_their_rules() -> None:
    prediction = build(PredictionFrame, [{"model_id": "m", "query_id": "q", "p_correct": 1.01}])
    assert refused(prediction, PredictionFrame).column == "p_correct"
    query = {"query_id": "q", "task": "t", "task_version": "1", "split": "dev", "text": "?"}
    assert refused(build(QueryFrame, [query]), QueryFrame).column == "split"
    assert refused(models("m", source="rumour"), ModelFrame).column == "source"
    negative = build(ModelFrame, [{"model_id": "m", "source": "import", "params_b": -7.0}])
    assert refused(negative, ModelFrame).column == "params_b"


def test_build_refuses_unknown_keys_and_wrong_types() -> None:
    with pytest.raises(ContractError, match=r"model\.modelid: is not a column"):
        build(ModelFrame, [{"modelid": "m"}])
    with pytest.raises(ContractError, match="wrong type"):
        build(ModelFrame, [{"model_id": "m", "params_b": "seven"}])


def test_a_refused_frame_writes_nothing(empty: Warehouse) -> None:
    frame = pl.concat([models("a/alpha"), models("b/beta", source="rumour")])
    with pytest.raises(ContractError):
        empty.catalogue.add_models(frame)
    assert empty.catalogue.models().is_empty()
