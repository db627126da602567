"""From a snapshot's content to the frames of the similarity report."""

import logging
from pathlib import Path

import polars as pl

from locus import similarity
from locus.publication.changes import being_built, compare, side
from locus.publication.content import BuildFacts, SnapshotContent
from locus.publication.limits import LIMITS
from locus.publication.routing import Routing
from locus.report import FRAMES, ReportData, Since, write
from locus.report.curves import Curves
from locus.report.data import FIRST
from locus.report.payload import in_heat_map
from locus.routing.table import ALL, TASK, TOPIC, best_for_the_money

log = logging.getLogger(__name__)

# Linkage holds all distances: 400 MB at this size. A larger map has one colour.
_CLUSTERED_UP_TO = 10_000


def write_report(
    content: SnapshotContent,
    facts: BuildFacts,
    pairs: pl.DataFrame,
    nearest: pl.DataFrame,
    routing: Routing,
    path: Path,
    curves: Curves | None = None,
) -> None:
    """Render the report of a snapshot into one HTML file.

    Args:
        content: what the snapshot is made from.
        facts: what its build found out.
        pairs: as `locus.similarity.pairs` returns it.
        nearest: as `locus.similarity.nearest` returns it.
        routing: the routing part.
        path: the file.
        curves: what few models and money reach; None where it was not measured.
    """
    since, not_compared = _since(content, facts, routing.table)
    models = _models(content)
    data = ReportData(
        title="Map of models",
        snapshot_id=f"{content.created_at:%Y-%m-%d %H:%M} UTC",
        created_at=content.created_at,
        n_queries=facts.counts["queries"],
        models=models,
        pairs=_with_heat_map(content, pairs, models, routing.table),
        neighbours=nearest,
        buckets=_buckets(routing),
        routing=routing.table,
        task_accuracy=_task_accuracy(content.scores),
        facts=_facts(content, routing.table),
        routing_quality={
            _method_key(q.method): {"hit@1": q.hit1, "low": q.low, "high": q.high, "n": q.n}
            for q in facts.quality
        },
        new_models=content.new_models,
        since=since,
        not_compared=not_compared,
        curves=curves or Curves(),
        layouts=_layouts(content),
        lineage=content.lineage,
        limits=LIMITS,
    )
    write(data, path)


def _with_heat_map(
    content: SnapshotContent, pairs: pl.DataFrame, models: pl.DataFrame, table: pl.DataFrame
) -> pl.DataFrame:
    """The pairs, and all of those between models of the heat map, which is full of holes else."""
    ranks = table.filter(kind=ALL).select("model_id", "rank")
    shown = in_heat_map(models, ranks, content.new_models)
    if len(shown) == models.height:
        return pairs
    row = {model: i for i, model in enumerate(content.models["model_id"])}
    scores = content.scores.filter(pl.col("model_id").is_in(shown))
    among = similarity.pairs(shown, content.z_Md[[row[model] for model in shown]], scores)
    return pl.concat([pairs, among]).unique(["model_a", "model_b"], maintain_order=True)


def _buckets(routing: Routing) -> pl.DataFrame:
    """Buckets with kind, words and best for the money: all, then tasks, then topics."""
    rows = [
        {
            "bucket": str(bucket),
            "kind": rows["kind"][0],
            "words": ", ".join(routing.words.get(str(bucket), ())) or None,
            "best_for_the_money": best_for_the_money(rows),
        }
        for (bucket,), rows in routing.table.group_by("bucket", maintain_order=True)
    ]
    kinds = (ALL, TASK, TOPIC)
    rows.sort(key=lambda row: (kinds.index(row["kind"]), row["bucket"]))
    return pl.DataFrame(rows, schema=FRAMES["buckets"])


def _since(
    content: SnapshotContent, facts: BuildFacts, table: pl.DataFrame
) -> tuple[Since | None, str]:
    """What changed since the parent, or why nothing is compared."""
    if content.parent is None:
        return None, FIRST
    try:
        before = side(content.parent)
    except (OSError, KeyError, pl.exceptions.PolarsError) as error:
        # Publishing mends a damaged parent; the comparison must not stand in its way.
        parent = content.parent.snapshot_id
        log.error(
            "files of the last snapshot, %s, can't be read, so the report compares nothing; "
            "the one being built takes its place: %s",
            parent,
            error,
        )
        return None, f"Files of the last snapshot, {parent}, are damaged: nothing is compared."
    found = compare(before, being_built(content, facts, table))
    return Since(
        found.old,
        found.same_map,
        found.added,
        found.gone,
        found.revised,
        found.moved,
        found.flips,
        found.ranks,
        {_method_key(method): both for method, both in found.quality.items()},
    ), ""


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


def _facts(content: SnapshotContent, table: pl.DataFrame) -> pl.DataFrame:
    """Revision, prices, measured cost and latency, and the doubt about each place."""
    costs = ("price_in_usd_per_mtok", "price_out_usd_per_mtok", "cost_usd", "latency_ms")
    unknown = [None] * content.models.height
    doubt = unknown if content.uncertainty_M is None else content.uncertainty_M.tolist()
    return (
        content.models.select("model_id", "revision")
        .with_columns(uncertainty=pl.Series(doubt, dtype=pl.Float64))
        .join(table.select("model_id", *costs).unique("model_id"), on="model_id", how="left")
    )


def _layouts(content: SnapshotContent) -> dict[str, pl.DataFrame]:
    ids = content.models["model_id"]
    found: dict[str, pl.DataFrame] = {}
    for name in content.layouts:
        xy = similarity.project(content.z_Md, name)
        found[name] = pl.DataFrame({"model_id": ids, "x": xy[:, 0], "y": xy[:, 1]})
    return found


def _clusters(content: SnapshotContent) -> list[int]:
    """Groups as in `locus clusters`; one if there are too few models, or too many for all pairs."""
    n = len(content.z_Md)
    if n < 3 or n > _CLUSTERED_UP_TO:
        return [0] * n
    tree = similarity.group_tree(content.z_Md)
    labels = similarity.clusters(tree.linkage, similarity.usual_groups(n))
    return [int(label) for label in labels]


def _task_accuracy(scores: pl.DataFrame) -> pl.DataFrame:
    grouped = (
        scores.group_by("model_id", "task")
        .agg(n=pl.len().cast(pl.Int64), accuracy=pl.col("score").cast(pl.Float64).mean())
        .sort("model_id", "task")
    )
    low, high = similarity.wilson(grouped["accuracy"] * grouped["n"], grouped["n"])
    return grouped.with_columns(low=low, high=high)
