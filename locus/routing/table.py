"""The routing table: for each bucket of queries, who answers best, how sure we are, who stands in.

A bucket is a task (benchmark), or ``all``. Its p_correct is the predictor's mean over the bucket's
reference queries; its lower bound comes from observed answers alone, and is missing where there
are none.
"""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from locus.similarity import wilson

Array = NDArray[np.float32]

ALL = "all"


def routing_table(
    models: pl.DataFrame,
    queries: pl.DataFrame,
    p_TM: Array,
    scores: pl.DataFrame,
    cost: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Rank the pool in each bucket.

    Args:
        models: one row a model, in the column order of ``p_TM``: model_id,
            price_in_usd_per_mtok, price_out_usd_per_mtok (None where unknown).
        queries: one row a reference query, in the row order of ``p_TM``: query_id, task.
        p_TM: predicted P(correct).
        scores: observed scores (model_id, query_id, score) on any queries that may be used for
            publishing (never on test queries).
        cost: optional measured means: model_id, cost_usd, latency_ms.

    Returns:
        One row a (bucket, model): bucket, rank (1 is best), model_id, p_correct, lower_bound
        (95 % Wilson, observed), observed_accuracy, n_observed, n_reference,
        price_in_usd_per_mtok, price_out_usd_per_mtok, cost_usd, latency_ms; sorted.
    """
    buckets = [(ALL, np.arange(queries.height))] + [
        (task, np.flatnonzero((queries["task"] == task).to_numpy()))
        for task in sorted(queries["task"].unique())
    ]
    predicted = pl.concat(
        [
            pl.DataFrame(
                {
                    "bucket": [bucket] * models.height,
                    "model_id": models["model_id"],
                    "p_correct": p_TM[rows].mean(axis=0).astype(np.float64),
                    "n_reference": [len(rows)] * models.height,
                }
            )
            for bucket, rows in buckets
        ]
    )
    observed = _observed(scores, queries)
    prices = models.select("model_id", "price_in_usd_per_mtok", "price_out_usd_per_mtok")
    if cost is None:
        cost = pl.DataFrame(
            schema={"model_id": pl.String, "cost_usd": pl.Float64, "latency_ms": pl.Float64}
        )
    return (
        predicted.join(observed, on=["bucket", "model_id"], how="left")
        .join(prices, on="model_id", how="left")
        .join(cost, on="model_id", how="left")
        .with_columns(pl.col("n_observed").fill_null(0))
        # Ties are broken by id, so that the same inputs give the same table.
        .sort("bucket", "p_correct", "model_id", descending=[False, True, False])
        .with_columns(rank=pl.int_range(1, pl.len() + 1).over("bucket"))
        .select(
            "bucket",
            "rank",
            "model_id",
            "p_correct",
            "lower_bound",
            "observed_accuracy",
            "n_observed",
            "n_reference",
            "price_in_usd_per_mtok",
            "price_out_usd_per_mtok",
            "cost_usd",
            "latency_ms",
        )
    )


def _observed(scores: pl.DataFrame, queries: pl.DataFrame) -> pl.DataFrame:
    """Observed accuracy and its lower bound per (bucket, model)."""
    tagged = scores.join(queries.select("query_id", bucket="task"), on="query_id")
    both = pl.concat([tagged, tagged.with_columns(bucket=pl.lit(ALL))])
    grouped = both.group_by("bucket", "model_id").agg(
        observed_accuracy=pl.col("score").cast(pl.Float64).mean(),
        n_observed=pl.len().cast(pl.Int64),
    )
    successes = (grouped["observed_accuracy"] * grouped["n_observed"]).to_numpy()
    low, _ = wilson(successes, grouped["n_observed"].to_numpy())
    return grouped.with_columns(lower_bound=pl.Series(low))


def as_json(table: pl.DataFrame, chains: dict[str, list[str]]) -> dict[str, Any]:
    """The table for programs: per bucket the best, the best for the money, and the ranking.

    Args:
        table: what `routing_table` gave.
        chains: for each model its stand-ins, nearest first.

    Returns:
        ``{"buckets": {bucket: {"best": id, "fallbacks": [...], "models": [...]}}}``.
    """
    buckets: dict[str, Any] = {}
    for (bucket,), rows in table.group_by("bucket", maintain_order=True):
        best = rows["model_id"][0]
        buckets[str(bucket)] = {
            "best": best,
            "fallbacks": chains.get(best, []),
            "n_reference": rows["n_reference"][0],
            "models": rows.drop("bucket", "n_reference").to_dicts(),
        }
    return {"buckets": buckets}
