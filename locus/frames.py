"""Columns of the frames that go to the warehouse; docs/warehouse.md says what they mean.

Times are UTC; JSON is text. The warehouse adds ids of runs and times of writing itself.
"""

import polars as pl

TASKS: dict[str, pl.DataType] = {
    "task": pl.String(),
    "task_version": pl.String(),
    "source": pl.String(),
    "output_type": pl.String(),
    "primary_metric": pl.String(),
}
# What the catalogue knows besides, and an import doesn't.
CATALOGUED_TASKS: dict[str, pl.DataType] = {**TASKS, "num_fewshot": pl.Int32()}

QUERIES: dict[str, pl.DataType] = {
    "query_id": pl.String(),
    "task": pl.String(),
    "task_version": pl.String(),
    "category": pl.String(),
    "split": pl.String(),
    "text": pl.String(),
    "choices": pl.List(pl.String()),
    "target": pl.String(),
    "doc": pl.String(),
    "source_id": pl.String(),
}

# One row per asked query.
SCORES: dict[str, pl.DataType] = {
    "model_id": pl.String(),
    "revision": pl.String(),
    "query_id": pl.String(),
    "status": pl.String(),
    "score": pl.Float64(),
    "metric": pl.String(),
    "filter": pl.String(),
    "metrics": pl.String(),
    "response": pl.String(),
    "latency_ms": pl.Float64(),
    "tokens_in": pl.Int64(),
    "tokens_out": pl.Int64(),
    "cost_usd": pl.Float64(),
    "doc_hash": pl.String(),
    "prompt_hash": pl.String(),
    "target_hash": pl.String(),
    "scored_at": pl.Datetime("us", "UTC"),
}
