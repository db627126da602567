"""The routing table: for each bucket of queries, who answers best, how sure we are, who stands in.

A bucket is ``all``, a task (benchmark), or a topic learned from the queries' encodings
(`locus.routing.buckets`). Its p_correct is the predictor's mean over the bucket's reference
queries. Its lower bound is calibrated on held-out answers (`locus.routing.bounds`); the bound by
observed answers alone stands beside it. What isn't known is missing.

Shape letters: T reference queries, M models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from locus.routing.bounds import Calibrated
from locus.similarity import wilson

Array = NDArray[np.float32]

ALL, TASK, TOPIC = "all", "task", "topic"

MONEY_MARGIN = 0.02
"""P(correct) that the best for the money may be worse than the best."""


@dataclass(frozen=True)
class Bucket:
    """A bucket of queries.

    Attributes:
        name: its name, unique in a table.
        kind: ``all``, ``task`` or ``topic``.
        rows: its reference queries.
        words: words that tell a topic from the others.
    """

    name: str
    kind: str
    rows: NDArray[np.int64]
    words: Sequence[str] = field(default_factory=tuple)


def task_buckets(task_T: Sequence[str]) -> list[Bucket]:
    """``all``, then each task in alphabetical order."""
    tasks = np.array(list(task_T), dtype=object)
    return [
        Bucket(ALL, ALL, np.arange(len(tasks))),
        *(Bucket(t, TASK, np.flatnonzero(tasks == t)) for t in sorted(set(task_T))),
    ]


def routing_table(
    models: pl.DataFrame,
    queries: pl.DataFrame,
    p_TM: Array,
    scores: pl.DataFrame,
    cost: pl.DataFrame | None = None,
    *,
    buckets: Sequence[Bucket] | None = None,
    deviation_TM: Array | None = None,
    calibrated: Calibrated | None = None,
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
        buckets: the buckets; by default ``all`` and each task.
        deviation_TM: standard deviation of ``p_TM`` that is due to places; None where unknown.
        calibrated: how far a lower bound lies below; None gives no lower bounds.

    Returns:
        One row a (bucket, model): bucket, kind, rank (1 is best), model_id, p_correct, lower_bound
        (95 %, calibrated), observed_accuracy, observed_low (95 % Wilson), n_observed, n_reference,
        price_in_usd_per_mtok, price_out_usd_per_mtok, cost_usd, latency_ms; sorted.
    """
    if buckets is None:
        buckets = task_buckets(queries["task"].to_list())
    predicted = pl.concat(
        [_predicted(bucket, models, p_TM, deviation_TM, calibrated) for bucket in buckets]
    )
    observed = _observed(scores, queries, buckets)
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
            "kind",
            "rank",
            "model_id",
            "p_correct",
            "lower_bound",
            "observed_accuracy",
            "observed_low",
            "n_observed",
            "n_reference",
            "price_in_usd_per_mtok",
            "price_out_usd_per_mtok",
            "cost_usd",
            "latency_ms",
        )
    )


def _predicted(
    bucket: Bucket,
    models: pl.DataFrame,
    p_TM: Array,
    deviation_TM: Array | None,
    calibrated: Calibrated | None,
) -> pl.DataFrame:
    p_M = p_TM[bucket.rows].mean(axis=0).astype(np.float64)
    lower: list[float] | list[None] = [None] * models.height
    if calibrated is not None:
        deviation_M = (
            np.zeros_like(p_M)
            if deviation_TM is None
            else deviation_TM[bucket.rows].mean(axis=0).astype(np.float64)
        )
        lower = calibrated.lower(p_M, deviation_M).tolist()
    return pl.DataFrame(
        {
            "bucket": [bucket.name] * models.height,
            "kind": [bucket.kind] * models.height,
            "model_id": models["model_id"],
            "p_correct": p_M,
            "lower_bound": pl.Series(lower, dtype=pl.Float64),
            "n_reference": [len(bucket.rows)] * models.height,
        }
    )


def _observed(
    scores: pl.DataFrame, queries: pl.DataFrame, buckets: Sequence[Bucket]
) -> pl.DataFrame:
    """Observed accuracy and its lower bound per (bucket, model)."""
    ids = queries["query_id"]
    member = pl.concat(
        [pl.DataFrame({"query_id": ids.gather(b.rows), "bucket": b.name}) for b in buckets]
    )
    grouped = (
        scores.join(member, on="query_id")
        .group_by("bucket", "model_id")
        .agg(
            observed_accuracy=pl.col("score").cast(pl.Float64).mean(),
            n_observed=pl.len().cast(pl.Int64),
        )
    )
    successes = (grouped["observed_accuracy"] * grouped["n_observed"]).to_numpy()
    low, _ = wilson(successes, grouped["n_observed"].to_numpy())
    return grouped.with_columns(observed_low=pl.Series(low))


def as_json(
    table: pl.DataFrame, chains: Mapping[str, Sequence[str]], words: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """The table for programs: per bucket the best, the best for the money, and the ranking.

    Args:
        table: what `routing_table` gave.
        chains: for each model its stand-ins, nearest first.
        words: for each topic its words.

    Returns:
        ``{"buckets": {bucket: {"kind", "words", "best", "best_for_the_money", "fallbacks",
        "n_reference", "models"}}}``; `table.schema.json` has every field.
    """
    buckets: dict[str, Any] = {}
    for (bucket,), rows in table.group_by("bucket", maintain_order=True):
        best = rows["model_id"][0]
        buckets[str(bucket)] = {
            "kind": rows["kind"][0],
            "words": list(words.get(str(bucket), ())),
            "best": best,
            "best_for_the_money": best_for_the_money(rows),
            "fallbacks": list(chains.get(best, ())),
            "n_reference": rows["n_reference"][0],
            "models": rows.drop("bucket", "kind", "n_reference").to_dicts(),
        }
    return {"buckets": buckets}


def best_for_the_money(rows: pl.DataFrame) -> str | None:
    """The cheapest model of a bucket that is hardly worse than its best; None without prices.

    Cheap by measured cost a query if it is known of all candidates, else by prices per token.

    Args:
        rows: the bucket's rows of `routing_table`.
    """
    enough = rows.filter(pl.col("p_correct") >= pl.col("p_correct").max() - MONEY_MARGIN)
    if enough["cost_usd"].null_count() == 0:
        price = pl.col("cost_usd")
    else:
        price = pl.col("price_in_usd_per_mtok") + pl.col("price_out_usd_per_mtok").fill_null(0)
    # A mean's last digits depend on the order of adding: equal prices must stay equal.
    price = price.round_sig_figs(9)
    priced = enough.with_columns(price=price).drop_nulls("price").sort("price", "rank")
    return str(priced["model_id"][0]) if priced.height else None
