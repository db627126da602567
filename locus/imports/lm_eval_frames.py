"""Frames of an import of lm-eval logs, built from files that were read and judged."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from locus import ids
from locus.imports.bundle import SCHEMAS, ImportBundle, build_frame, org_of
from locus.imports.lm_eval_metrics import Choice
from locus.imports.lm_eval_results import ResultsFile
from locus.imports.lm_eval_samples import SamplesFile


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


def build_bundle(
    logs: list[Log],
    choices: dict[str, Choice | None],
    scores: list[dict[str, Any]],
    moment: datetime,
) -> ImportBundle:
    """The frames of an import.

    Args:
        logs: the samples files that were read.
        choices: task -> its metric; a task without one is left out.
        scores: rows of the frame `scores`; queries without one are left out.
        moment: the time of the import.
    """
    scored = {row["query_id"] for row in scores}
    used = [log for log in logs if choices[log.task] is not None]
    return ImportBundle(
        models=_frame("models", _model_rows(used, moment), ["model_id"]),
        revisions=_frame("revisions", _revision_rows(used, moment), ["model_id", "revision"]),
        tasks=_frame("tasks", _task_rows(used, choices, moment), ["task", "task_version"]),
        queries=_frame("queries", _query_rows(used, scored, moment), ["query_id"]),
        scores=_frame("scores", scores, None),
        settings={"format": "lm-eval", "runs": _settings(used)},
    )


def _frame(name: str, rows: list[dict[str, Any]], key: list[str] | None) -> pl.DataFrame:
    """Rows as a frame; of several with the same key, the first."""
    names = list(rows[0]) if rows else []
    schema = {column: SCHEMAS[name][column] for column in names if column in SCHEMAS[name]}
    frame = build_frame(name, pl.DataFrame(rows, schema=schema))
    return frame if key is None else frame.unique(key, keep="first", maintain_order=True)


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


def _query_rows(logs: list[Log], scored: set[str], moment: datetime) -> list[dict[str, Any]]:
    return [
        {
            "query_id": document.query_id,
            "task": log.task,
            "task_version": log.version,
            "category": document.category,
            "split": ids.split_of(document.query_id),
            "text": document.text,
            "choices": document.options,
            "target": document.target,
            "doc": document.doc,
            "source_id": document.source_id,
            "added_at": moment,
        }
        for log in logs
        for document in log.samples.documents
        if document.query_id in scored
    ]


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
