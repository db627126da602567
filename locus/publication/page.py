"""From a snapshot's content to the frames of the similarity report."""

from pathlib import Path

import polars as pl

from locus import similarity
from locus.publication.content import BuildFacts, SnapshotContent
from locus.publication.limits import LIMITS
from locus.report import ReportData, write

# Linkage of a large pool is slow and its picture unreadable; such a map has one colour.
_CLUSTERED_UP_TO = 1500


def write_report(
    content: SnapshotContent,
    facts: BuildFacts,
    pairs: pl.DataFrame,
    nearest: pl.DataFrame,
    table: pl.DataFrame,
    path: Path,
) -> None:
    """Render the report of a snapshot into one HTML file."""
    data = ReportData(
        title="Map of models",
        snapshot_id=f"{content.created_at:%Y-%m-%d %H:%M} UTC",
        created_at=content.created_at,
        n_queries=facts.counts["queries"],
        models=_models(content),
        pairs=pairs,
        neighbours=nearest,
        routing=table,
        task_accuracy=_task_accuracy(content.scores),
        routing_quality={
            _method_key(q.method): {"hit@1": q.hit1, "low": q.low, "high": q.high, "n": q.n}
            for q in facts.quality
        },
        new_models=content.new_models,
        lineage=content.lineage,
        limits=LIMITS,
    )
    write(data, path)


def _method_key(method: str) -> str:
    return "locus" if method == "routed" else method.replace(" ", "_")


def _models(content: SnapshotContent) -> pl.DataFrame:
    accuracy = content.scores.group_by("model_id").agg(
        accuracy=pl.col("score").cast(pl.Float64).mean()
    )
    xy = similarity.project(content.z_Md)
    return (
        content.models.select("model_id", "org", "family", "params_b", "n_scores")
        .with_columns(
            x=pl.Series(xy[:, 0]), y=pl.Series(xy[:, 1]), cluster=pl.Series(_clusters(content))
        )
        .join(accuracy, on="model_id", how="left", maintain_order="left")
    )


def _clusters(content: SnapshotContent) -> list[int]:
    """Cluster numbers by average linkage of Euclidean distances; one cluster if it can't tell."""
    from scipy.spatial.distance import pdist, squareform

    n = len(content.z_Md)
    if n < 3 or n > _CLUSTERED_UP_TO:
        return [0] * n
    tree = similarity.dendrogram_order(squareform(pdist(content.z_Md.astype(float))))
    return [int(c) for c in similarity.clusters(tree.linkage, min(max(2, round(n**0.5)), 8))]


def _task_accuracy(scores: pl.DataFrame) -> pl.DataFrame:
    grouped = (
        scores.group_by("model_id", "task")
        .agg(n=pl.len().cast(pl.Int64), accuracy=pl.col("score").cast(pl.Float64).mean())
        .sort("model_id", "task")
    )
    low, high = similarity.wilson(grouped["accuracy"] * grouped["n"], grouped["n"])
    return grouped.with_columns(low=low, high=high)
