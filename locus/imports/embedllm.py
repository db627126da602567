"""The released EmbedLLM data: train.csv, val.csv, test.csv and model_order.csv.

One row of a csv file is one answer of one model. The same prompt can be listed under several
variants of a benchmark, so that a model may have several labels for it; what becomes of them is
said in docs/imports.md. The training file has gigabytes: it is streamed, twice, and only ids and
labels of its rows are held in memory.
"""

import csv
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from locus import ids
from locus.imports.bundle import (
    SPLITS,
    TASK_RULE,
    ImportBundle,
    ProblemLog,
    ReadResult,
    build_frame,
    is_task_name,
    model_id_reasons,
    now_utc,
    org_of,
)
from locus.imports.tables import READ_ERRORS

COLUMNS = ("prompt_id", "model_id", "model_name", "label", "prompt", "category")
MODEL_ORDER = "model_order.csv"
# Categories are finer than benchmarks: mmlu_<subject>, gpqa_<subset>_<prompting>.
_FAMILY = r"^(mmlu|gpqa)_"


@dataclass
class _Reading:
    """What one call of `read_embedllm` gathers on its way."""

    folder: Path
    log: ProblemLog = field(default_factory=ProblemLog)
    notes: list[str] = field(default_factory=list)


def read_embedllm(
    folder: Path,
    run_id: str,
    *,
    task_version: str = "1",
    scored_at: datetime | None = None,
    now: datetime | None = None,
    skip_bad: bool = False,
) -> ReadResult:
    """Read a folder in the format of the released EmbedLLM data.

    The line of a problem is the number of the record with the header as number 1, as a spreadsheet
    counts: a prompt may run over several lines of the file.

    Args:
        folder: holds train.csv, val.csv and test.csv, and perhaps model_order.csv.
        run_id: the evaluation run that the scores are booked under.
        task_version: version of the benchmarks; part of every query's id.
        scored_at: when the scores were made, if known; default: the time of the import.
        now: the time of the import; default: the present.
        skip_bad: leave out what is wrong and import the rest, instead of importing nothing.

    Returns:
        The frames and everything that was wrong. Nothing is raised for bad content.
    """
    run = _Reading(folder)
    parts = [part for split in SPLITS if (part := _load(run, split)) is not None]
    if len(parts) < len(SPLITS):
        return run.log.result(None, run.notes, skip_bad)
    answers = pl.concat([answer for answer, _ in parts])
    texts = pl.concat([text for _, text in parts])
    prompts = _check_prompts(run, texts)
    names = _check_models(run, answers)
    cells = _one_label_a_cell(run, answers.join(names, on=["model_id", "model_name"], how="semi"))
    known = cells.join(prompts, on="prompt_id", how="semi")
    if known.height < cells.height:
        run.notes.append(
            f"{cells.height - known.height} labels belong to prompts that were refused"
        )
    if run.log.total:
        run.notes.append("the line of a problem counts records, the header being number 1")
        if not skip_bad:
            return run.log.result(None, run.notes, skip_bad)
    moment = now_utc(now)
    queries = _query_frame(prompts, task_version, moment)
    bundle = ImportBundle(
        models=_model_frame(names, moment),
        revisions=build_frame(
            "revisions",
            names.select(
                model_id=pl.col("model_name"),
                revision=pl.lit("import"),
                backend=pl.lit("import"),
                backend_args=pl.lit("{}"),
                seen_at=pl.lit(moment),
            ),
        ),
        tasks=build_frame(
            "tasks",
            queries.select("task", "task_version")
            .unique()
            .sort("task")
            .with_columns(source=pl.lit("embedllm"), added_at=pl.lit(moment)),
        ),
        queries=queries,
        scores=build_frame(
            "scores",
            known.join(
                queries.select("query_id", prompt_id=pl.col("source_id")),
                on="prompt_id",
                maintain_order="left",
            ).select(
                "query_id",
                "score",
                run_id=pl.lit(run_id),
                model_id=pl.col("model_name"),
                revision=pl.lit("import"),
                status=pl.lit("ok"),
                scored_at=pl.lit(now_utc(scored_at) if scored_at else moment),
            ),
        ),
        settings={"format": "embedllm", "task_version": task_version},
    )
    return run.log.result(bundle, run.notes, skip_bad)


def _load(run: _Reading, split: str) -> tuple[pl.DataFrame, pl.DataFrame] | None:
    """One csv file as (answers, texts); None if it can't be used as a whole.

    answers: line, split, prompt_id, model_id, model_name, score (0 or 1), one row a sound record.
    texts: line (the first), split, prompt_id, prompt, category; one row a distinct combination.
    """
    name = f"{split}.csv"
    expected = f"expected csv with the columns {', '.join(COLUMNS)}"
    path = run.folder / name
    if not path.is_file():
        run.log.add(name, name, f"the file is missing: {expected}")
        return None
    try:
        # Everything is read as text: a value of a wrong type is then reported by its row.
        scan = pl.scan_csv(
            path, infer_schema=False, row_index_name="__line", row_index_offset=2, glob=False
        )
        header = [name for name in scan.collect_schema().names() if name != "__line"]
    except READ_ERRORS as error:
        run.log.add(name, name, f"it can't be read: {expected} ({error})")
        return None
    missing = [column for column in COLUMNS if column not in header]
    for column in missing:
        run.log.add(name, column, f"the column is missing: {expected}", 1)
    if missing:
        return None
    scan = scan.filter(~pl.all_horizontal(pl.col(COLUMNS).is_null())).with_columns(
        line=pl.col("__line").cast(pl.Int64), split=pl.lit(split)
    )
    label = pl.col("label").str.strip_chars().cast(pl.Float64, strict=False)
    try:
        texts = (
            scan.group_by("split", "prompt_id", "prompt", "category")
            .agg(pl.col("line").min())
            .sort("line")
            # Without all columns read, a record with too many fields would go unnoticed.
            .collect(engine="streaming", optimizations=pl.QueryOptFlags(projection_pushdown=False))
        )
        answers = (
            scan.select(
                "line", "split", "prompt_id", "model_id", "model_name", "label", score=label
            )
            .with_columns(pl.col("prompt_id", "model_id").str.strip_chars())
            .collect(engine="streaming")
            .sort("line")
        )
    except READ_ERRORS as error:
        line, why = _first_broken_record(path, len(header))
        run.log.add(name, name, f"{why or error}: {expected}", line)
        return None
    texts = texts.with_columns(pl.col("prompt_id").str.strip_chars())
    return _check_answers(run, name, answers), texts


def _first_broken_record(path: Path, n_columns: int) -> tuple[int | None, str | None]:
    """Find the record that makes a csv file unreadable: (record number, what is wrong with it)."""
    number = 0
    try:
        # Surrogates stand for bytes that are not UTF-8, so that they can be found.
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            for record in csv.reader(stream, strict=True):
                number += 1
                if len(record) > n_columns:
                    return number, f"{len(record)} fields where the header has {n_columns}"
                if any("\udc80" <= c <= "\udcff" for text in record for c in text):
                    return number, "bytes that are not UTF-8"
    except csv.Error as error:
        return number + 1, f"broken quoting or field ({error})"
    return None, None


def _check_answers(run: _Reading, name: str, answers: pl.DataFrame) -> pl.DataFrame:
    """Report the records whose ids or label are no good; return the others."""
    number = r"^\d{1,18}$"
    reason = (
        pl.when(~pl.col("prompt_id").fill_null("").str.contains(number))
        .then(pl.lit("prompt_id: expected a whole number"))
        .when(~pl.col("model_id").fill_null("").str.contains(number))
        .then(pl.lit("model_id: expected a whole number"))
        .when(pl.col("model_name").is_null())
        .then(pl.lit("model_name is empty"))
        .when(~pl.col("score").is_in([0.0, 1.0]).fill_null(False))
        .then(pl.format("label {}: expected 0 or 1", pl.col("label").fill_null("(empty)")))
    )
    judged = answers.with_columns(reason=reason)
    bad = judged.filter(pl.col("reason").is_not_null())
    if not bad.is_empty():
        item = pl.format("prompt {}", pl.col("prompt_id").fill_null("(empty)"))
        run.log.add_rows(name, bad.select("line", "reason", item=item))
    return judged.filter(pl.col("reason").is_null()).drop("reason", "label")


def _report(run: _Reading, bad: pl.DataFrame) -> None:
    """Report rows with the columns split, line, item, reason under the file of their split."""
    for split in SPLITS:
        run.log.add_rows(f"{split}.csv", bad.filter(pl.col("split") == split).sort("line"))


def _check_prompts(run: _Reading, texts: pl.DataFrame) -> pl.DataFrame:
    """The sound prompts: prompt_id, split, prompt, task, category (variants joined by ``|``)."""
    number = pl.col("prompt_id").fill_null("").str.contains(r"^\d{1,18}$")
    texts = texts.filter(number).with_columns(
        task=pl.coalesce(pl.col("category").str.extract(_FAMILY), "category")
    )
    by_prompt = {
        "prompt": "has another text here than before",
        "split": "is also in another split: a query belongs to one",
        "task": "is also in another benchmark: a query belongs to one",
    }
    empty = pl.col("prompt").is_null() | (pl.col("prompt").str.strip_chars() == "")
    reason: Any = pl.when(empty).then(pl.lit("prompt is empty: there is nothing to ask"))
    reason = reason.when(pl.col("category").is_null()).then(pl.lit("category is empty"))
    reason = reason.when(~is_task_name(pl.col("category"))).then(pl.lit(f"category: {TASK_RULE}"))
    for column, why in by_prompt.items():
        differs = pl.col(column) != pl.col(column).first().over("prompt_id")
        reason = reason.when(differs).then(pl.lit(f"the prompt_id {why}"))
    judged = texts.with_columns(reason=reason, item=pl.format("prompt {}", "prompt_id"))
    bad = judged.filter(pl.col("reason").is_not_null())
    _report(run, bad)
    # A prompt with a contradiction is left out as a whole: nobody can say which side is right.
    good = judged.join(bad.select("prompt_id"), on="prompt_id", how="anti")
    return good.group_by("prompt_id", maintain_order=True).agg(
        pl.col("split", "prompt", "task").first(),
        pl.col("category").unique().sort().str.join("|"),
    )


def _check_models(run: _Reading, answers: pl.DataFrame) -> pl.DataFrame:
    """The sound models: model_id (their number), model_name (their id here)."""
    pairs = (
        answers.group_by("model_id", "model_name")
        .agg(pl.col("line", "split").first())
        .sort(pl.col("model_id").cast(pl.Int64), "line")
    )
    order = _model_order(run)
    refused = model_id_reasons(pairs.get_column("model_name").unique())
    name = pl.col("model_name")
    listed = pl.col("model_id").replace_strict(order, default=None, return_dtype=pl.String)
    judged = pairs.with_columns(listed=listed).with_columns(
        item=pl.format("model {}: {}", "model_id", "model_name"),
        reason=pl.when(name.is_in(list(refused)))
        .then(name.replace_strict(refused, default=None, return_dtype=pl.String))
        .when(name.n_unique().over("model_id") > 1)
        .then(pl.lit("the model_id has more than one name"))
        .when(pl.col("model_id").n_unique().over("model_name") > 1)
        .then(pl.lit("the model_name has more than one model_id"))
        .when(pl.col("listed") != name)
        .then(pl.format(f"the model_id has another name in {MODEL_ORDER}: {{}}", "listed")),
    )
    _report(run, judged.filter(pl.col("reason").is_not_null()))
    good = judged.filter(pl.col("reason").is_null()).select("model_id", "model_name")
    silent = len(set(order) - set(pairs.get_column("model_id")))
    if silent:
        run.notes.append(f"{silent} models of {MODEL_ORDER} have no label and are not imported")
    return good


def _model_order(run: _Reading) -> dict[str, str]:
    """Model number -> name, by model_order.csv; empty if it is absent or not understood."""
    path = run.folder / MODEL_ORDER
    if not path.is_file():
        run.notes.append(f"{MODEL_ORDER} is not there: names are those of the labels")
        return {}
    try:
        frame = pl.read_csv(path, infer_schema=False, glob=False)
    except READ_ERRORS as error:
        run.log.add(MODEL_ORDER, MODEL_ORDER, f"it can't be read: {error}")
        return {}
    names = [c for c in ("model_name", "name", "model") if c in frame.columns]
    numbers = [c for c in ("model_id", "id", "index", "") if c in frame.columns]
    if not names:
        run.notes.append(f"{MODEL_ORDER} has no column model_name and is not used")
        return {}
    if not numbers:
        return {str(row): name for row, name in enumerate(frame.get_column(names[0]))}
    pairs = frame.select(pl.col(numbers[0]).str.strip_chars(), names[0]).drop_nulls()
    return dict(pairs.iter_rows())


def _one_label_a_cell(run: _Reading, answers: pl.DataFrame) -> pl.DataFrame:
    """One score for every (model, prompt): equal labels collapse, others go by majority.

    Returns:
        Columns model_name, prompt_id, score, in the order of first appearance; ties are not in it.
    """
    cells = answers.group_by("model_name", "prompt_id", maintain_order=True).agg(
        n=pl.len(), right=pl.col("score").sum()
    )
    several = cells.filter(pl.col("n") > 1)
    if several.is_empty():
        return cells.select("model_name", "prompt_id", score=pl.col("right"))
    tie = pl.col("right") * 2 == pl.col("n")
    agree = (pl.col("right") == 0) | (pl.col("right") == pl.col("n"))
    n_agree, n_ties = several.select(agree.sum(), tie.sum().alias("ties")).row(0)
    run.notes.append(
        f"{several.height} (model, prompt) pairs have several labels: {n_agree} agree and are "
        f"collapsed, {several.height - n_agree - n_ties} are decided by majority, {n_ties} are "
        "ties and stay missing"
    )
    return cells.filter(~tie).select(
        "model_name",
        "prompt_id",
        score=(pl.col("right") * 2 > pl.col("n")).cast(pl.Float64),
    )


def _model_frame(names: pl.DataFrame, moment: datetime) -> pl.DataFrame:
    orgs = [org_of(name) for name in names.get_column("model_name")]
    return build_frame(
        "models",
        names.select(
            model_id=pl.col("model_name"),
            org=pl.Series(orgs, dtype=pl.String),
            source=pl.lit("import"),
            metadata=pl.format('{{"embedllm_model_id": {}}}', "model_id"),
            added_at=pl.lit(moment),
        ),
    )


def _query_frame(prompts: pl.DataFrame, version: str, moment: datetime) -> pl.DataFrame:
    query_ids = [
        ids.query_id(task, version, {"source_id": prompt_id}, prompt)
        for task, prompt_id, prompt in prompts.select("task", "prompt_id", "prompt").iter_rows()
    ]
    return build_frame(
        "queries",
        prompts.select(
            "task",
            "category",
            "split",
            query_id=pl.Series(query_ids, dtype=pl.String),
            task_version=pl.lit(version),
            text=pl.col("prompt"),
            source_id=pl.col("prompt_id"),
            added_at=pl.lit(moment),
        ),
    )
