"""Frames of an import of lm-eval logs, built from files that were read and judged."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from locus.imports.bundle import SCHEMAS, ImportBundle, build_frame, org_of
from locus.imports.lm_eval_documents import Document
from locus.imports.lm_eval_metrics import Choice
from locus.imports.lm_eval_results import ResultsFile
from locus.imports.lm_eval_samples import SamplesFile, metrics_json


@dataclass(frozen=True)
class Run:
    """Which model a samples file is about, and when it was evaluated."""

    model_id: str
    revision: str
    backend: str
    time: datetime
    results: ResultsFile | None


@dataclass
class Log:
    """One samples file with its place: the task, its version and the run it belongs to."""

    task: str
    version: str
    run: Run
    samples: SamplesFile


class ScoreRows:
    """The rows of the frame `scores` that one samples file makes.

    Attributes:
        log: the file.
        run_id: the evaluation run that they are booked under.
        metric: the metric that is the score.
        filter: the filter that it is of.
        documents: whose scores they are.
        statuses, scores: of the same length.
    """

    def __init__(self, log: Log, run_id: str, metric: str, filter_name: str) -> None:
        self.log, self.run_id = log, run_id
        self.metric, self.filter = metric, filter_name
        self.documents: list[Document] = []
        self.statuses: list[str] = []
        self.scores: list[float | None] = []

    def add(self, document: Document, status: str, score: float | None) -> None:
        """Add a row."""
        self.documents.append(document)
        self.statuses.append(status)
        self.scores.append(score)


def build_bundle(
    logs: list[Log], choices: dict[str, Choice | None], scores: list[ScoreRows], moment: datetime
) -> ImportBundle:
    """The frames of an import.

    Args:
        logs: the samples files that were read.
        choices: task -> its metric; a task without one is left out.
        scores: rows of the frame `scores`; queries without one are left out.
        moment: the time of the import.
    """
    used = [log for log in logs if choices[log.task] is not None]
    return ImportBundle(
        models=_frame("models", _model_rows(used, moment), ["model_id"]),
        revisions=_frame("revisions", _revision_rows(used, moment), ["model_id", "revision"]),
        tasks=_frame("tasks", _task_rows(used, choices, moment), ["task", "task_version"]),
        queries=_query_frame(used, scores, moment),
        scores=pl.concat([_score_frame(rows) for rows in scores]),
        settings={"format": "lm-eval", "runs": _settings(used)},
    )


def _frame(name: str, rows: list[dict[str, Any]], key: list[str]) -> pl.DataFrame:
    """Rows as a frame; of several with the same key, the first."""
    names = list(rows[0]) if rows else []
    schema = {column: SCHEMAS[name][column] for column in names if column in SCHEMAS[name]}
    frame = build_frame(name, pl.DataFrame(rows, schema=schema))
    return frame.unique(key, keep="first", maintain_order=True)


def _model_rows(logs: list[Log], moment: datetime) -> list[dict[str, Any]]:
    rows = []
    for log in logs:
        model, said = log.run.model_id, log.run.results
        about = {"backend": log.run.backend}
        if said is not None and said.model_name and said.model_name != model:
            about["name_in_results"] = said.model_name
        rows.append(
            {
                "model_id": model,
                "org": org_of(model),
                "params_b": said.params_b if said else None,
                "source": "import",
                "metadata": json.dumps(about, ensure_ascii=False, sort_keys=True),
                "added_at": moment,
            }
        )
    return rows


def _revision_rows(logs: list[Log], moment: datetime) -> list[dict[str, Any]]:
    return [
        {
            "model_id": log.run.model_id,
            "revision": log.run.revision,
            "backend": log.run.backend,
            "backend_args": json.dumps(
                log.run.results.model_args if log.run.results else {},
                ensure_ascii=False,
                sort_keys=True,
            ),
            "seen_at": moment,
        }
        for log in logs
    ]


def _task_rows(
    logs: list[Log], choices: dict[str, Choice | None], moment: datetime
) -> list[dict[str, Any]]:
    rows = []
    for log in logs:
        choice = choices[log.task]
        types = [d.output_type for d in log.samples.documents if d.output_type]
        rows.append(
            {
                "task": log.task,
                "task_version": log.version,
                "source": "lm-eval-log",
                "output_type": types[0] if types else None,
                "primary_metric": choice.metric if choice else None,
                "added_at": moment,
            }
        )
    return rows


def _query_frame(logs: list[Log], scores: list[ScoreRows], moment: datetime) -> pl.DataFrame:
    """The questions that were scored, each by the first document that asks it."""
    left = {document.query_id for rows in scores for document in rows.documents}
    frames = []
    for log in logs:
        asked = []
        for document in log.samples.documents:
            if document.query_id in left:
                left.discard(document.query_id)
                asked.append(document)
        columns = _columns(asked, "queries")
        columns["choices"] = _lists([document.options for document in asked])
        frames.append(
            build_frame(
                "queries",
                pl.DataFrame(columns).with_columns(
                    task=pl.lit(log.task),
                    task_version=pl.lit(log.version),
                    added_at=pl.lit(moment),
                ),
            )
        )
    return pl.concat(frames)


def _score_frame(rows: ScoreRows) -> pl.DataFrame:
    columns = _columns(rows.documents, "scores")
    columns["status"] = pl.Series(rows.statuses, dtype=pl.String)
    columns["score"] = pl.Series(rows.scores, dtype=pl.Float64)
    columns["metrics"] = pl.Series(map(metrics_json, rows.documents), dtype=pl.String)
    return build_frame(
        "scores",
        pl.DataFrame(columns).with_columns(
            run_id=pl.lit(rows.run_id),
            model_id=pl.lit(rows.log.run.model_id),
            revision=pl.lit(rows.log.run.revision),
            metric=pl.lit(rows.metric),
            filter=pl.lit(rows.filter),
            scored_at=pl.lit(rows.log.run.time),
        ),
    )


def _columns(documents: list[Document], name: str) -> dict[str, pl.Series]:
    """What documents and a frame have in common and is text."""
    fields = list(zip(*documents, strict=True)) or [()] * len(Document._fields)
    return {
        field: pl.Series(values, dtype=pl.String)
        for field, values in zip(Document._fields, fields, strict=True)
        if field != "metrics" and SCHEMAS[name].get(field) == pl.String
    }


def _lists(values: list[list[str] | None]) -> pl.Series:
    """Lists of text, of which none is empty, as one column."""
    # Polars makes a column of each list first; pyarrow, asked for the same, loads pandas.
    flat = pl.DataFrame(
        {
            "row": [row for row, texts in enumerate(values) for _ in texts or ()],
            "texts": [text for texts in values for text in texts or ()],
        },
        schema={"row": pl.Int64, "texts": pl.String},
    )
    lists = flat.group_by("row", maintain_order=True).agg("texts")
    rows = pl.DataFrame({"row": pl.int_range(len(values), eager=True)})
    return rows.join(lists, on="row", how="left", maintain_order="left").get_column("texts")


def _settings(logs: list[Log]) -> list[dict[str, Any]]:
    """Per run, what its results file says about how it was made."""
    runs: dict[tuple[str, datetime], dict[str, Any]] = {}
    for log in logs:
        said = log.run.results
        known = runs.setdefault(
            (log.run.model_id, log.run.time),
            {
                "model_id": log.run.model_id,
                "revision": log.run.revision,
                "backend": log.run.backend,
                "started_at": log.run.time.isoformat(),
                "results_file": said.file if said else None,
                "files": [],
                **(said.settings if said else {}),
            },
        )
        known["files"].append(log.samples.file)
    return list(runs.values())
