"""What may be written: one schema per frame, strict and without coercion.

A frame must have every required column, no column that is not named here, and exactly these types;
optional columns (those whose value may be unknown) can be left out and are stored as NULL. Times
are ``Datetime("us", "UTC")``, JSON is text, vectors are ``List(Float32)``. Columns that the
warehouse fills itself (ids given as arguments, the time of writing) are not part of a frame.

``build(ModelFrame, rows)`` makes a frame of the right types from dicts; ``validated`` holds a frame
against its contract. How that is done is in `warehouse.rules`.
"""

from collections.abc import Sequence

import polars as pl

from warehouse.rules import Column, Contract, RowRule, Rule, build, polars_schema, validated

__all__ = ["Contract", "build", "polars_schema", "validated"]

UTC_TIME = pl.Datetime("us", "UTC")
VECTOR = pl.List(pl.Float32())

SPLITS = ("train", "val", "test")
STATUSES = ("ok", "error", "refused", "empty", "truncated")
MODEL_SOURCES = ("registry", "import")
TASK_SOURCES = ("lm-eval", "matrix", "lm-eval-log", "embedllm")


def _text() -> Column:
    return Column(pl.String(), (Rule("must not be empty", lambda c: c.str.len_bytes() > 0),))


def _maybe(dtype: pl.DataType, *rules: Rule) -> Column:
    return Column(dtype, rules, nullable=True, required=False)


def _one_of(values: Sequence[str]) -> Column:
    rule = Rule(f"must be one of {', '.join(values)}", lambda c: c.is_in(values))
    return Column(pl.String(), (rule,))


def _json() -> Column:
    return Column(pl.String(), nullable=True, required=False, is_json=True)


def _not_negative() -> Rule:
    # NaN compares as greater than everything, so finiteness is asked for by name.
    return Rule("must be finite and not negative", lambda c: (c >= 0) & c.is_finite())


def _count() -> Rule:
    return Rule("must not be negative", lambda c: c >= 0)


def _share() -> Rule:
    return Rule("must lie within [0, 1]", lambda c: c.is_between(0, 1) & c.is_not_nan())


def _vector() -> Column:
    finite = pl.element().is_finite().fill_null(False)
    return Column(
        VECTOR,
        (
            Rule("must not be empty", lambda c: c.list.len() > 0),
            Rule("must hold finite numbers only", lambda c: c.list.eval(finite).list.all()),
        ),
    )


def _frame(table: str, key: list[str], columns: dict[str, Column], *rules: RowRule) -> Contract:
    return Contract(table, tuple(key), columns, rules)


# A failure is never a wrong answer, and an answer that counts always has a score.
_SCORED = RowRule(
    "score must be NULL unless status is ok, and present when it is",
    (pl.col("status") == "ok") == pl.col("score").is_not_null(),
)

_DIM = RowRule("dim must be the length of vector", pl.col("dim") == pl.col("vector").list.len())

ModelFrame = _frame(
    "model",
    ["model_id"],
    {
        "model_id": _text(),
        "org": _maybe(pl.String()),
        "family": _maybe(pl.String()),
        "params_b": _maybe(pl.Float64(), _not_negative()),
        # Text: of many models only the month or the year is known.
        "released": _maybe(
            pl.String(),
            Rule(
                "must be a year, month or day as YYYY, YYYY-MM or YYYY-MM-DD",
                lambda c: c.str.contains(r"^\d{4}(-\d{2}(-\d{2})?)?$"),
            ),
        ),
        "license": _maybe(pl.String()),
        "price_in_usd_per_mtok": _maybe(pl.Float64(), _not_negative()),
        "price_out_usd_per_mtok": _maybe(pl.Float64(), _not_negative()),
        "source": _one_of(MODEL_SOURCES),
        "metadata": _json(),
    },
)

RevisionFrame = _frame(
    "model_revision",
    ["model_id", "revision"],
    {
        "model_id": _text(),
        "revision": _text(),
        "backend": _maybe(pl.String()),
        "backend_args": _json(),
        "seen_at": _maybe(UTC_TIME),
    },
)

TaskFrame = _frame(
    "task",
    ["task", "task_version"],
    {
        "task": _text(),
        "task_version": _text(),
        "source": _one_of(TASK_SOURCES),
        "output_type": _maybe(pl.String()),
        "primary_metric": _maybe(pl.String()),
        "num_fewshot": _maybe(pl.Int32(), _count()),
    },
)

QueryFrame = _frame(
    "query",
    ["query_id"],
    {
        "query_id": _text(),
        "task": _text(),
        "task_version": _text(),
        "category": _maybe(pl.String()),
        "split": _one_of(SPLITS),
        "text": Column(pl.String()),
        "choices": _maybe(pl.List(pl.String())),
        "target": _maybe(pl.String()),
        "doc": _json(),
        "source_id": _maybe(pl.String()),
    },
)

ScoreFrame = _frame(
    "score",
    ["model_id", "revision", "query_id", "metric", "filter", "scored_at"],
    {
        "model_id": _text(),
        "revision": _text(),
        "query_id": _text(),
        "status": _one_of(STATUSES),
        "score": Column(pl.Float64(), (_share(),), nullable=True),
        "metric": _maybe(pl.String()),
        "filter": _maybe(pl.String()),
        "metrics": _json(),
        "response": _maybe(pl.String()),
        "latency_ms": _maybe(pl.Float64(), _not_negative()),
        "tokens_in": _maybe(pl.Int64(), _count()),
        "tokens_out": _maybe(pl.Int64(), _count()),
        "cost_usd": _maybe(pl.Float64(), _not_negative()),
        "doc_hash": _maybe(pl.String()),
        "prompt_hash": _maybe(pl.String()),
        "target_hash": _maybe(pl.String()),
        "scored_at": Column(UTC_TIME),
    },
    _SCORED,
)

# A part of canaries comes as a `ScoreFrame`; this is what is kept of it.
CanaryFrame = _frame(
    "canary",
    ["model_id", "revision", "query_id"],
    {
        "model_id": _text(),
        "revision": _text(),
        "query_id": _text(),
        "status": _one_of(STATUSES),
        "score": Column(pl.Float64(), (_share(),), nullable=True),
        "response_sha256": _maybe(
            pl.String(),
            Rule("must be 64 hexadecimal digits", lambda c: c.str.contains(r"^[0-9a-f]{64}$")),
        ),
        "response": _maybe(pl.String()),
        "asked_at": Column(UTC_TIME),
        "tokens_in": _maybe(pl.Int64(), _count()),
        "tokens_out": _maybe(pl.Int64(), _count()),
        "latency_ms": _maybe(pl.Float64(), _not_negative()),
        "cost_usd": _maybe(pl.Float64(), _not_negative()),
    },
    _SCORED,
    RowRule(
        "response_sha256 must be NULL where response is, and present where it is",
        pl.col("response_sha256").is_null() == pl.col("response").is_null(),
    ),
)

PriceFrame = _frame(
    "price",
    ["model_id", "valid_from"],
    {
        "model_id": _text(),
        "valid_from": _maybe(pl.Date()),
        "in_usd_per_mtok": Column(pl.Float64(), (_not_negative(),)),
        "out_usd_per_mtok": Column(pl.Float64(), (_not_negative(),)),
    },
)

EncodingFrame = _frame(
    "query_encoding",
    ["query_id", "encoder"],
    {"query_id": _text(), "encoder": _text(), "dim": _maybe(pl.Int32()), "vector": _vector()},
    _DIM,
)

EmbeddingFrame = _frame(
    "model_embedding",
    ["model_id"],
    {
        "model_id": _text(),
        "revision": _text(),
        "dim": _maybe(pl.Int32()),
        "vector": _vector(),
        "n_scores": Column(pl.Int64(), (_count(),)),
        "scores_digest": _text(),
        "uncertainty": _maybe(pl.Float32(), _not_negative()),
        "covariance": _maybe(VECTOR),
    },
    _DIM,
)

PredictionFrame = _frame(
    "prediction",
    ["model_id", "query_id"],
    {
        "model_id": _text(),
        "query_id": _text(),
        "p_correct": Column(pl.Float64(), (_share(),)),
        "deviation": _maybe(pl.Float32(), _not_negative()),
    },
)
