"""Filling a snapshot: routing table, predictor, similarity and report from plain frames."""

import json
from importlib import resources
from pathlib import Path

import numpy as np
import polars as pl

from locus import similarity
from locus.matrix import ScoreMatrix
from locus.publication import curves
from locus.publication.canned import write_canned
from locus.publication.content import Array, BuildFacts, SnapshotContent
from locus.publication.emit.files import write_emitted
from locus.publication.limits import DEFINITIONS
from locus.publication.page import write_report
from locus.publication.routing import Routing, route
from locus.report.cards import STAND_INS
from locus.routing import predictor as predictors
from locus.routing.quality import Quality, expected_calibration_error, routing_quality
from locus.routing.table import as_json

SCHEMA_FILE = "table.schema.json"
NEIGHBOURS = 10
# Above this many models only each model's nearest pairs are published: all pairs of 2,277 models
# are 2.6 million rows that nobody reads.
ALL_PAIRS_UP_TO = 300
NEAREST_PAIRS = 50


def build(content: SnapshotContent, folder: Path) -> BuildFacts:
    """Write every file but the manifest and the warehouse copy.

    Args:
        content: what to publish.
        folder: an empty folder.

    Raises:
        ValueError: nothing to publish.
    """
    if content.models.is_empty():
        raise ValueError("no model is placed yet: there is nothing to publish")
    ids = content.models["model_id"].to_list()
    p_TM = content.predictor.probabilities(content.z_Md, content.x_Tf)
    y_TM = ScoreMatrix.from_frame(
        content.scores, ids, content.reference["query_id"].to_list()
    ).values_MQ.T
    quality, calibration = _measure(content, p_TM, y_TM)
    pairs = similarity.pairs(
        ids,
        content.z_Md,
        content.scores.select("model_id", "query_id", "score"),
        top_k=None if len(ids) <= ALL_PAIRS_UP_TO else NEAREST_PAIRS,
    )
    nearest = similarity.nearest(pairs, NEIGHBOURS)
    routing = route(content, p_TM, y_TM)
    table = routing.table
    chains = stand_ins(nearest)
    _write_routing(content, routing, chains, folder / "routing")
    write_canned(content, p_TM, folder)
    _write_similarity(content, pairs, nearest, folder / "similarity")
    write_emitted(content, table, routing.words, chains, folder)
    correlation = similarity.distance_agreement_correlation(pairs)
    facts = BuildFacts(
        quality,
        calibration,
        quality[0].n if quality else 0,
        {
            "models": len(ids),
            "queries": content.scores["query_id"].n_unique(),
            "scores": content.scores.height,
            "reference_queries": content.reference.height,
        },
        {
            "n_pairs": correlation.n,
            "pearson_euclidean": correlation.pearson_euclidean,
            "spearman_euclidean": correlation.spearman_euclidean,
            "pearson_cosine": correlation.pearson_cosine,
            "spearman_cosine": correlation.spearman_cosine,
        },
        routing.bound,
        routing.bound_check,
    )
    write_report(
        content,
        facts,
        pairs,
        nearest,
        routing,
        folder / "similarity" / "report.html",
        curves.measure(content, p_TM, y_TM),
    )
    (folder / "similarity" / "summary.md").write_text(
        _summary(content, facts, nearest), encoding="utf-8"
    )
    return facts


def _measure(
    content: SnapshotContent, p_TM: Array, y_TM: Array
) -> tuple[list[Quality], float | None]:
    """Routing quality and calibration on test queries, which nothing was learned from."""
    is_test_T = (content.reference["split"] == "test").to_numpy()
    rows = np.flatnonzero(is_test_T & (~np.isnan(y_TM)).any(axis=1))
    if not len(rows):
        return [], None
    # By id, so that the bootstrap draws the same queries whatever their order.
    rows = rows[content.reference["query_id"].gather(rows).arg_sort().to_numpy()]
    p, y = p_TM[rows], y_TM[rows]
    # Who was asked none is preferred to nobody.
    accuracy = np.nan_to_num(curves.train_accuracy(content)).astype(np.float32)
    known = ~np.isnan(y)
    error = expected_calibration_error(p[known], y[known])
    return routing_quality(p, y, accuracy), error


def stand_ins(nearest: pl.DataFrame) -> dict[str, list[str]]:
    """For each model who answers in its place, nearest first."""
    chains: dict[str, list[str]] = {}
    for model, neighbour in (
        nearest.filter(pl.col("rank") <= STAND_INS)
        .sort("model_id", "rank")
        .select("model_id", "neighbour_id")
        .iter_rows()
    ):
        chains.setdefault(model, []).append(neighbour)
    return chains


def _write_routing(
    content: SnapshotContent, routing: Routing, chains: dict[str, list[str]], folder: Path
) -> None:
    folder.mkdir(parents=True)
    routing.table.write_parquet(folder / "table.parquet")
    document = {
        "$schema": SCHEMA_FILE,
        **as_json(routing.table, chains, routing.words),
        "stand_ins": chains,
        "definitions": DEFINITIONS,
    }
    # Whether it fits is asked of the file, once it is written: `locus.publication.checks`.
    schema = json.loads(resources.files("locus.routing").joinpath(SCHEMA_FILE).read_text("utf-8"))
    (folder / "table.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (folder / SCHEMA_FILE).write_text(json.dumps(schema, indent=1) + "\n", encoding="utf-8")
    if routing.topics is not None:
        routing.topics.write(folder)
    examples = slice(0, 8)
    predictors.write(
        content.predictor,
        content.z_Md[examples],
        content.x_Tf[examples],
        folder / "predictor",
    )


def _write_similarity(
    content: SnapshotContent, pairs: pl.DataFrame, nearest: pl.DataFrame, folder: Path
) -> None:
    folder.mkdir(parents=True)
    pairs.write_parquet(folder / "pairs.parquet")
    nearest.write_parquet(folder / "nearest.parquet")

    def column(values: Array | None, dtype: pl.DataType) -> pl.Series:
        unknown = [None] * content.models.height
        return pl.Series(unknown if values is None else values.tolist(), dtype=dtype)

    content.models.with_columns(
        vector=column(content.z_Md, pl.List(pl.Float32)),
        uncertainty=column(content.uncertainty_M, pl.Float32()),
        covariance=column(content.covariance_Mu, pl.List(pl.Float32)),
    ).write_parquet(folder / "embeddings.parquet")


def _summary(content: SnapshotContent, facts: BuildFacts, nearest: pl.DataFrame) -> str:
    """The snapshot in a few lines of Markdown, for a chat message or a log."""
    counts = facts.counts
    lines = [
        "# Map of models",
        "",
        f"{counts['models']} models, {counts['queries']} queries, {counts['scores']} scores, "
        f"{content.created_at:%Y-%m-%d %H:%M} UTC.",
        "",
        f"Right first choice on {facts.n_test_queries} held-out queries "
        "(95 % bootstrap interval over queries):",
        "",
        "| choice | hit@1 | interval |",
        "|---|---|---|",
        *(f"| {q.method} | {q.hit1:.3f} | {q.low:.3f} to {q.high:.3f} |" for q in facts.quality),
    ]
    if content.new_models:
        lines += ["", "New since the last snapshot, with their nearest neighbours:", ""]
        for model in content.new_models:
            near = nearest.filter((pl.col("model_id") == model) & (pl.col("rank") <= 3))
            names = ", ".join(near.sort("rank")["neighbour_id"])
            lines.append(f"- {model}: {names}")
    return "\n".join(lines) + "\n"
