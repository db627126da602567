"""What may be written: one schema per frame, strict and without coercion.

A frame must have every required column, no column that is not named here, and exactly these types;
optional columns (those whose value may be unknown) can be left out and are stored as NULL. Times
are ``Datetime("us", "UTC")``, JSON is text, vectors are ``List(Float32)``. Columns that the
warehouse fills itself (ids given as arguments, the time of writing) are not part of a frame.

``build(ModelFrame, rows)`` makes a frame of the right types from dicts.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import duckdb
import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaErrors

from warehouse.errors import ContractError

UTC_TIME = pl.Datetime("us", "UTC")
VECTOR = pl.List(pl.Float32)

SPLITS = ("train", "val", "test")
STATUSES = ("ok", "error", "refused", "empty", "truncated")
MODEL_SOURCES = ("registry", "import")
TASK_SOURCES = ("lm-eval", "matrix", "lm-eval-log", "embedllm")

_N_SHOWN = 3


def _where(rule: str, expr: pl.Expr) -> pa.Check:
    """A rule that holds in every row where ``expr`` is true (or NULL)."""
    return pa.Check(lambda data: data.lazyframe.select(expr.fill_null(True)), name=rule)


def _on(rule: str, make: Any) -> pa.Check:
    """A rule about one column: ``make`` turns its expression into a condition."""
    return pa.Check(
        lambda data: data.lazyframe.select(make(pl.col(data.key)).fill_null(True)), name=rule
    )


def _json_valid(text: pl.Series) -> pl.Series:
    """For each value whether DuckDB takes it as JSON; NULL counts as valid."""
    distinct = text.drop_nulls().unique().to_frame("text")
    with duckdb.connect(config={"python_enable_replacements": "false"}) as con:
        con.register("given", distinct)
        bad = con.sql("SELECT text FROM given WHERE NOT json_valid(text)").pl()["text"]
    return text.is_null() | ~text.is_in(bad.implode())


def _text() -> pa.Column:
    return pa.Column(pl.String, _on("must not be empty", lambda c: c.str.len_bytes() > 0))


def _maybe(dtype: Any, *checks: pa.Check) -> pa.Column:
    return pa.Column(dtype, list(checks), nullable=True, required=False)


def _one_of(values: Sequence[str]) -> pa.Column:
    return pa.Column(
        pl.String, _on(f"must be one of {', '.join(values)}", lambda c: c.is_in(values))
    )


def _json() -> pa.Column:
    return _maybe(
        pl.String,
        _on("must be valid JSON", lambda c: c.map_batches(_json_valid, return_dtype=pl.Boolean)),
    )


def _not_negative() -> pa.Check:
    # NaN compares as greater than everything, so finiteness is asked for by name.
    return _on("must be finite and not negative", lambda c: (c >= 0) & c.is_finite())


def _count() -> pa.Check:
    return _on("must not be negative", lambda c: c >= 0)


def _share() -> pa.Check:
    return _on("must lie within [0, 1]", lambda c: c.is_between(0, 1) & c.is_not_nan())


def _vector() -> pa.Column:
    return pa.Column(
        VECTOR,
        [
            _on("must not be empty", lambda c: c.list.len() > 0),
            _on(
                "must hold finite numbers only",
                lambda c: c.list.eval(pl.element().is_finite().fill_null(False)).list.all(),
            ),
        ],
    )


def _frame(
    table: str, key: list[str], columns: dict[str, pa.Column], *rules: pa.Check
) -> pa.DataFrameSchema:
    return pa.DataFrameSchema(
        columns, checks=list(rules), name=table, unique=key, strict=True, coerce=False
    )


# A failure is never a wrong answer, and an answer that counts always has a score.
_SCORED = _where(
    "score must be NULL unless status is ok, and present when it is",
    (pl.col("status") == "ok") == pl.col("score").is_not_null(),
)

_DIM = _where("dim must be the length of vector", pl.col("dim") == pl.col("vector").list.len())

ModelFrame = _frame(
    "model",
    ["model_id"],
    {
        "model_id": _text(),
        "org": _maybe(pl.String),
        "family": _maybe(pl.String),
        "params_b": _maybe(pl.Float64, _not_negative()),
        # Text: of many models only the month or the year is known.
        "released": _maybe(
            pl.String,
            _on(
                "must be a year, month or day as YYYY, YYYY-MM or YYYY-MM-DD",
                lambda c: c.str.contains(r"^\d{4}(-\d{2}(-\d{2})?)?$"),
            ),
        ),
        "license": _maybe(pl.String),
        "price_in_usd_per_mtok": _maybe(pl.Float64, _not_negative()),
        "price_out_usd_per_mtok": _maybe(pl.Float64, _not_negative()),
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
        "backend": _maybe(pl.String),
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
        "output_type": _maybe(pl.String),
        "primary_metric": _maybe(pl.String),
        "num_fewshot": _maybe(pl.Int32, _count()),
    },
)

QueryFrame = _frame(
    "query",
    ["query_id"],
    {
        "query_id": _text(),
        "task": _text(),
        "task_version": _text(),
        "category": _maybe(pl.String),
        "split": _one_of(SPLITS),
        "text": pa.Column(pl.String),
        "choices": _maybe(pl.List(pl.String)),
        "target": _maybe(pl.String),
        "doc": _json(),
        "source_id": _maybe(pl.String),
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
        "score": pa.Column(pl.Float64, _share(), nullable=True),
        "metric": _maybe(pl.String),
        "filter": _maybe(pl.String),
        "metrics": _json(),
        "response": _maybe(pl.String),
        "latency_ms": _maybe(pl.Float64, _not_negative()),
        "tokens_in": _maybe(pl.Int64, _count()),
        "tokens_out": _maybe(pl.Int64, _count()),
        "cost_usd": _maybe(pl.Float64, _not_negative()),
        "doc_hash": _maybe(pl.String),
        "prompt_hash": _maybe(pl.String),
        "target_hash": _maybe(pl.String),
        "scored_at": pa.Column(UTC_TIME),
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
        "score": pa.Column(pl.Float64, _share(), nullable=True),
        "response_sha256": _maybe(
            pl.String,
            _on("must be 64 hexadecimal digits", lambda c: c.str.contains(r"^[0-9a-f]{64}$")),
        ),
        "response": _maybe(pl.String),
        "asked_at": pa.Column(UTC_TIME),
        "tokens_in": _maybe(pl.Int64, _count()),
        "tokens_out": _maybe(pl.Int64, _count()),
        "latency_ms": _maybe(pl.Float64, _not_negative()),
        "cost_usd": _maybe(pl.Float64, _not_negative()),
    },
    _SCORED,
    _where(
        "response_sha256 must be NULL where response is, and present where it is",
        pl.col("response_sha256").is_null() == pl.col("response").is_null(),
    ),
)

PriceFrame = _frame(
    "price",
    ["model_id", "valid_from"],
    {
        "model_id": _text(),
        "valid_from": _maybe(pl.Date),
        "in_usd_per_mtok": pa.Column(pl.Float64, _not_negative()),
        "out_usd_per_mtok": pa.Column(pl.Float64, _not_negative()),
    },
)

EncodingFrame = _frame(
    "query_encoding",
    ["query_id", "encoder"],
    {"query_id": _text(), "encoder": _text(), "dim": _maybe(pl.Int32), "vector": _vector()},
    _DIM,
)

EmbeddingFrame = _frame(
    "model_embedding",
    ["model_id"],
    {
        "model_id": _text(),
        "revision": _text(),
        "dim": _maybe(pl.Int32),
        "vector": _vector(),
        "n_scores": pa.Column(pl.Int64, _count()),
        "scores_digest": _text(),
        "uncertainty": _maybe(pl.Float32, _not_negative()),
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
        "p_correct": pa.Column(pl.Float64, _share()),
        "deviation": _maybe(pl.Float32, _not_negative()),
    },
)


def polars_schema(contract: pa.DataFrameSchema) -> pl.Schema:
    """Columns of a contract, optional ones included, with their polars types."""
    return pl.Schema({name: column.dtype.type for name, column in contract.columns.items()})


def build(contract: pa.DataFrameSchema, rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """Make a frame of a contract's columns and types from dicts; a missing key is NULL.

    Raises:
        ContractError: a row has a key that is no column, or a value of another type.
    """
    schema = polars_schema(contract)
    rows = list(rows)
    for row in rows:
        extra = sorted(set(row) - set(schema))
        if extra:
            raise ContractError(str(contract.name), extra[0], "is not a column", [row])
    try:
        return pl.DataFrame(rows, schema=schema, orient="row", strict=True)
    except (TypeError, pl.exceptions.PolarsError) as error:
        rule = f"a value has a wrong type: {str(error).splitlines()[0]}"
        raise ContractError(str(contract.name), None, rule) from error


def validated(contract: pa.DataFrameSchema, frame: pl.DataFrame) -> pl.DataFrame:
    """Hold a frame against its contract.

    Returns:
        The frame with all columns of the contract in order; optional ones that were left out are
        NULL.

    Raises:
        ContractError: a rule is broken; it names table, column, rule and the first few rows.
    """
    schema = polars_schema(contract)
    # Keys and rules may span optional columns, so those are filled in before they are checked.
    missing = [
        name
        for name, column in contract.columns.items()
        if not column.required and name not in frame.columns
    ]
    full = frame.with_columns(pl.lit(None, dtype=schema[name]).alias(name) for name in missing)
    if "dim" in missing and "vector" in frame.columns and frame.schema["vector"] == VECTOR:
        full = full.with_columns(dim=pl.col("vector").list.len().cast(pl.Int32))
    try:
        contract.validate(full, lazy=True)
    except SchemaErrors as errors:
        raise _contract_error(contract, full, errors) from errors
    return full.select(schema.names())


def _contract_error(
    contract: pa.DataFrameSchema, frame: pl.DataFrame, errors: SchemaErrors
) -> ContractError:
    """Say the first broken rule and its rows; wrong columns and types come before values."""
    ordered = sorted(errors.schema_errors, key=lambda e: isinstance(e.check_output, pl.DataFrame))
    first = ordered[0]
    table = str(contract.name)
    column = str(first.schema.name) if isinstance(first.schema, pa.Column) else None
    name = str(getattr(first.check, "name", None) or first.check)
    cases = errors.failure_cases.filter(
        (pl.col("check") == name) & (pl.col("column") == (column or table))
    )
    positions = cases["index"].drop_nulls().unique().sort().to_list()
    key = list(contract.unique or [])
    if name == "column_in_schema":
        column, rule = str(first.failure_cases), "is not a column of this table"
    elif name == "column_in_dataframe":
        column, rule = str(first.failure_cases), "is missing"
    elif name == "not_nullable":
        rule = "must not be NULL"
    elif name == "multiple_fields_uniqueness":
        rule = f"({', '.join(key)}) must be unique"
    elif name.startswith("dtype("):
        rule = f"must be {name[7:-2]}, is {first.failure_cases}"
    else:
        rule = name
    shown = [*key, column] if column and column not in key else key
    rows = frame[positions[:_N_SHOWN]].to_dicts()
    if column is None and name != "multiple_fields_uniqueness":
        rows = [{c: v for c, v in row.items() if v is not None} for row in rows]
    else:
        rows = [{c: row[c] for c in shown if c in row} for row in rows]
    return ContractError(table, column, rule, rows, n_rows=len(positions), more=len(ordered) - 1)
