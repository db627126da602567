"""Score matrices: a folder with models.parquet, queries.parquet and scores.parquet.

The rules (which columns, what is refused, how ids are made) are in docs/imports.md. A matrix may
have many millions of cells, so that everything here works on columns, never cell by cell.
"""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import polars as pl

from locus import ids
from locus.imports.bundle import (
    SPLITS,
    TASK_RULE,
    ImportBundle,
    ProblemLog,
    ReadResult,
    build_frame,
    is_revision,
    is_task_name,
    model_id_reasons,
    now_utc,
    org_of,
)
from locus.imports.tables import ROW, because, is_blank, json_of_others, load_parquet, reject

MODELS, QUERIES, SCORES = "models.parquet", "queries.parquet", "scores.parquet"

_COLUMNS: dict[str, dict[str, str]] = {
    MODELS: {
        "model_id": "text",
        "org": "text",
        "family": "text",
        "params_b": "number",
        "released": "when",
        "license": "text",
        "price": "number",
        "sha": "text",
    },
    QUERIES: {
        "query_id": "text",
        "benchmark": "text",
        "text": "text",
        "category": "label",
        "choices": "list",
        "answer": "label",
        "split": "text",
    },
    SCORES: {"model_id": "text", "query_id": "text", "score": "number"},
}
_REQUIRED = {
    MODELS: ("model_id",),
    QUERIES: ("query_id", "benchmark", "text"),
    SCORES: ("model_id", "query_id", "score"),
}


@dataclass
class _Reading:
    """What one call of `read_matrix` gathers on its way."""

    log: ProblemLog = field(default_factory=ProblemLog)
    notes: list[str] = field(default_factory=list)


def read_matrix(
    folder: Path,
    run_id: str,
    *,
    task_version: str = "1",
    scored_at: datetime | None = None,
    now: datetime | None = None,
    skip_bad: bool = False,
) -> ReadResult:
    """Read a score matrix.

    Args:
        folder: holds models.parquet, queries.parquet and scores.parquet.
        run_id: the evaluation run that the scores are booked under.
        task_version: version of the benchmarks; part of every query's id.
        scored_at: when the scores were made, if known; default: the time of the import.
        now: the time of the import; default: the present.
        skip_bad: leave out what is wrong and import the rest, instead of importing nothing.

    Returns:
        The frames and everything that was wrong. Nothing is raised for bad content.
    """
    run = _Reading()
    tables = {
        name: load_parquet(folder, name, columns, _REQUIRED[name], run.log)
        for name, columns in _COLUMNS.items()
    }
    models, queries, scores = tables[MODELS], tables[QUERIES], tables[SCORES]
    if models is None or queries is None or scores is None:
        return run.log.result(None, run.notes, skip_bad)
    moment = now_utc(now)
    good_models = _check_models(run, models)
    good_queries = _check_queries(run, queries)
    cells = _check_scores(run, scores, models, queries, good_models, good_queries)
    if run.log.total and not skip_bad:
        return run.log.result(None, run.notes, skip_bad)
    query_frame = _query_frame(good_queries, task_version, moment)
    bundle = ImportBundle(
        models=_model_frame(good_models, moment),
        revisions=_revision_frame(good_models, moment),
        tasks=build_frame(
            "tasks",
            query_frame.select("task", "task_version")
            .unique()
            .sort("task")
            .with_columns(source=pl.lit("matrix"), added_at=pl.lit(moment)),
        ),
        queries=query_frame,
        scores=_score_frame(
            cells,
            good_models.get_column("__revision"),
            query_frame.get_column("query_id"),
            run_id,
            now_utc(scored_at) if scored_at else moment,
        ),
        settings={"format": "matrix", "task_version": task_version},
    )
    return run.log.result(bundle, run.notes, skip_bad)


def _check_models(run: _Reading, models: pl.DataFrame) -> pl.DataFrame:
    """The models that are sound, in order, with `__revision` and with NaN taken for missing."""
    refused = model_id_reasons(models.get_column("model_id").drop_nulls().unique())
    shas = models.get_column("sha").drop_nulls().unique().to_list()
    numbers = ("params_b", "price")
    models = models.with_columns(pl.col(numbers).fill_nan(None))
    first = pl.col(ROW).min().over("model_id")
    reason = because(
        (pl.col("model_id").is_null(), "model_id is empty"),
        (
            pl.col("model_id").is_in(list(refused)),
            pl.col("model_id").replace_strict(refused, default=None, return_dtype=pl.String),
        ),
        (
            pl.col(ROW) != first,
            pl.format("model_id is not unique: row {} has it too; keep one of them", first),
        ),
        *(
            (
                (pl.col(name) < 0) | pl.col(name).is_infinite(),
                pl.format(f"{name} is {{}}: expected a number that is not negative", pl.col(name)),
            )
            for name in numbers
        ),
        (
            pl.col("sha").is_in([sha for sha in shas if not is_revision(sha)]),
            pl.format(
                "sha {} is no revision: expected up to 100 letters, digits and . _ / + -",
                pl.col("sha"),
            ),
        ),
    )
    good = reject(run.log, MODELS, models, "model_id", reason)
    return good.with_columns(__revision=pl.col("sha").fill_null("import"))


def _check_queries(run: _Reading, queries: pl.DataFrame) -> pl.DataFrame:
    """The queries that are sound, in order."""
    first = pl.col(ROW).min().over("query_id")
    reason = because(
        (is_blank("query_id"), "query_id is empty"),
        (
            pl.col(ROW) != first,
            pl.format("query_id is not unique: row {} has it too; keep one of them", first),
        ),
        (is_blank("benchmark"), "benchmark is empty: every query belongs to one"),
        (~is_task_name(pl.col("benchmark")), f"benchmark: {TASK_RULE}"),
        (is_blank("text"), "text is empty: there is nothing to ask"),
        (
            pl.col("split").is_not_null() & ~pl.col("split").is_in(SPLITS),
            pl.format("split {} is unknown: expected train, val, test or nothing", pl.col("split")),
        ),
    )
    return reject(run.log, QUERIES, queries, "query_id", reason)


def _check_scores(
    run: _Reading,
    scores: pl.DataFrame,
    models: pl.DataFrame,
    queries: pl.DataFrame,
    good_models: pl.DataFrame,
    good_queries: pl.DataFrame,
) -> pl.DataFrame:
    """The sound cells: columns model_id, score, and `m` and `q`, places in the sound tables."""
    cells = scores.select(ROW, "model_id", "query_id", "score")
    for table, good, key, place in (
        (models, good_models, "model_id", "m"),
        (queries, good_queries, "query_id", "q"),
    ):
        # Place of the row in the sound table; -1 for one that is known but was refused.
        places = (
            table.select(key)
            .drop_nulls()
            .unique()
            .join(good.select(key).with_row_index(place), on=key, how="left")
            .with_columns(pl.col(place).cast(pl.Int64).fill_null(-1))
        )
        cells = cells.join(places, on=key, how="left", maintain_order="left")
    reason = because(
        (pl.col("model_id").is_null() | pl.col("query_id").is_null(), "model_id or query_id empty"),
        (pl.col("m").is_null(), f"the model is not in {MODELS}"),
        (
            pl.col("q").is_null(),
            pl.format(f"query {{}} is not in {QUERIES}", pl.col("query_id")),
        ),
        (
            ~pl.col("score").is_between(0, 1) | pl.col("score").is_nan(),
            pl.format(
                "score {} of query {}: expected a number within [0, 1]",
                pl.col("score"),
                pl.col("query_id"),
            ),
        ),
    )
    cells = reject(run.log, SCORES, cells, "model_id", reason)
    missing = cells.get_column("score").null_count()
    if missing:
        run.notes.append(f"{missing} cells have no score: they stay missing")
        cells = cells.filter(pl.col("score").is_not_null())
    orphans = cells.filter((pl.col("m") < 0) | (pl.col("q") < 0)).height
    if orphans:
        run.notes.append(f"{orphans} scores belong to models or queries that were refused")
        cells = cells.filter((pl.col("m") >= 0) & (pl.col("q") >= 0))
    return _one_score_a_cell(run, cells, good_queries.height)


def _one_score_a_cell(run: _Reading, cells: pl.DataFrame, n_queries: int) -> pl.DataFrame:
    """Collapse equal duplicates; report contradicting ones and leave all of them out."""
    cells = cells.with_columns(pair=pl.col("m") * n_queries + pl.col("q"))
    if cells.get_column("pair").n_unique() == cells.height:
        return cells.drop("pair")
    twice = cells.filter(pl.col("pair").is_duplicated()).with_columns(
        differ=pl.col("score").n_unique().over("pair") > 1,
        first=pl.col(ROW).min().over("pair"),
    )
    conflicts = twice.filter("differ")
    run.log.add_rows(
        SCORES,
        conflicts.select(
            line=pl.col(ROW),
            item=pl.col("model_id"),
            reason=pl.format(
                "query {} has different scores for this model (here {}, first in row {}): "
                "keep one of them",
                pl.col("query_id"),
                pl.col("score"),
                pl.col("first"),
            ),
        ),
    )
    kept = cells.join(conflicts.select("pair").unique(), on="pair", how="anti")
    unique = kept.unique("pair", keep="first", maintain_order=True)
    if unique.height < kept.height:
        run.notes.append(f"{kept.height - unique.height} repeated rows with equal score collapsed")
    return unique.drop("pair")


def _model_frame(models: pl.DataFrame, moment: datetime) -> pl.DataFrame:
    orgs = [org_of(model) for model in models.get_column("model_id")]
    known = [name for name in _COLUMNS[MODELS] if name != "sha"]
    return build_frame(
        "models",
        models.select(*known).with_columns(
            org=pl.col("org").fill_null(pl.Series(orgs, dtype=pl.String)),
            price_in_usd_per_mtok=pl.col("price"),
            price_out_usd_per_mtok=pl.col("price"),
            source=pl.lit("import"),
            metadata=json_of_others(models, [*known, ROW, "__revision"]),
            added_at=pl.lit(moment),
        ),
    )


def _revision_frame(models: pl.DataFrame, moment: datetime) -> pl.DataFrame:
    return build_frame(
        "revisions",
        models.select(
            "model_id",
            revision=pl.col("__revision"),
            backend=pl.lit("import"),
            backend_args=pl.lit("{}"),
            seen_at=pl.lit(moment),
        ),
    )


def _query_frame(queries: pl.DataFrame, version: str, moment: datetime) -> pl.DataFrame:
    """The queries under the ids of this project; the source's own id becomes `source_id`."""
    columns = ("query_id", "benchmark", "text", "choices", "answer")
    query_ids = [
        ids.query_id(
            benchmark, version, {"source_id": source, "choices": choices, "answer": answer}, text
        )
        for source, benchmark, text, choices, answer in queries.select(columns).iter_rows()
    ]
    splits = [
        given or ids.split_of(query)
        for given, query in zip(queries.get_column("split"), query_ids, strict=True)
    ]
    return build_frame(
        "queries",
        queries.select(
            "category",
            "text",
            "choices",
            query_id=pl.Series(query_ids, dtype=pl.String),
            task=pl.col("benchmark"),
            task_version=pl.lit(version),
            split=pl.Series(splits, dtype=pl.String),
            target=pl.col("answer"),
            doc=json_of_others(queries, [*_COLUMNS[QUERIES], ROW]),
            source_id=pl.col("query_id"),
            added_at=pl.lit(moment),
        ),
    )


def _score_frame(
    cells: pl.DataFrame,
    revisions: pl.Series,
    query_ids: pl.Series,
    run_id: str,
    moment: datetime,
) -> pl.DataFrame:
    return build_frame(
        "scores",
        cells.select(
            "model_id",
            "score",
            run_id=pl.lit(run_id),
            revision=revisions.gather(cells.get_column("m")),
            query_id=query_ids.gather(cells.get_column("q")),
            status=pl.lit("ok"),
            scored_at=pl.lit(moment),
        ),
    )
