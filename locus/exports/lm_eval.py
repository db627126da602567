"""Logs of lm-evaluation-harness: per model a folder of results and samples files.

A record is made so that `locus.imports.lm_eval_logs` reads from it the same question, score and
status; where the format has no words for what is known, that is noted. The rules are in
docs/exports.md.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

import polars as pl

from locus.exports.answers import UNKNOWN_VERSION, UNNAMED_METRIC, ExportFile, Group, groups
from locus.exports.names import harness_name, task_names
from locus.imports.bundle import is_revision
from locus.imports.lm_eval_documents import SOURCE_ID_KEYS
from locus.imports.lm_eval_metrics import as_score
from locus.imports.lm_eval_records import RECORD_KEYS
from locus.imports.lm_eval_results import local_name, redacted_args
from locus.imports.lm_eval_text import options_of, question_text

_WROTE_NOTHING = (None, "", "None")


@dataclass
class _Batch:
    """What one results file is about: groups of one version of the model, each of another task."""

    start: datetime
    stamp: str
    groups: dict[str, Group] = field(default_factory=dict)  # task's name in files -> group


def lm_eval_files(
    answers: pl.DataFrame, params_b: float | None, folder: str, notes: dict[str, int]
) -> Iterator[ExportFile]:
    """The files of one model, samples before the results they belong to.

    Args:
        answers: columns of `locus.exports.answers.ANSWERS`, of one model.
        params_b: billions of parameters, if known.
        folder: the model's folder (`names.model_folders`).
        notes: gets, by reason, how many answers or files could not be told exactly.
    """
    for batch in _batches(list(groups(answers))):
        for name, group in batch.groups.items():
            records = [json_line(record) for record in _records(group, notes)]
            path = PurePosixPath(folder, f"samples_{name}_{batch.stamp}.jsonl")
            yield ExportFile(path, b"".join(records), len(group.rows), group.task)
        results = json.dumps(_results(batch, params_b, notes), indent=2, ensure_ascii=False)
        path = PurePosixPath(folder, f"results_{batch.stamp}.json")
        yield ExportFile(path, results.encode(), 0)


def json_line(value: Any) -> bytes:
    """``value`` as one line of JSON Lines."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _batches(found: list[Group]) -> list[_Batch]:
    """Groups that began together share a results file; a task is in each only once."""
    names = task_names({group.task for group in found})
    batches: dict[tuple[str, datetime, int], _Batch] = {}
    stamps: set[str] = set()
    for group in found:
        name, nth = names[group.task], 0
        while (key := (group.revision, group.start, nth)) in batches and (
            name in batches[key].groups
        ):
            nth += 1
        if key not in batches:
            moment = group.start
            while (stamp := moment.isoformat(timespec="microseconds")[:26]) in stamps:
                moment += timedelta(microseconds=1)
            stamps.add(stamp)
            batches[key] = _Batch(group.start, stamp.replace(":", "-"))
        batches[key].groups[name] = group
    return list(batches.values())


def _results(batch: _Batch, params_b: float | None, notes: dict[str, int]) -> dict[str, Any]:
    first = next(iter(batch.groups.values()))
    config: dict[str, Any] = {
        "model": first.first("backend"),
        # The warehouse holds no keys by its contract; what leaves the house is looked at again.
        "model_args": redacted_args(json.loads(first.first("backend_args") or "null")) or None,
    }
    if first.revision != "import":
        if not is_revision(first.revision):
            _count(notes, "files leave out a revision that the format can't hold")
        config["model_revision"] = first.revision
    if params_b is not None:
        config["model_num_parameters"] = round(params_b * 1e9)
    if local_name(first.model_id) not in (None, first.model_id):
        _count(notes, "files name a model that looks like a path: import them with --model")
    return {
        "results": {name: _aggregate(name, group) for name, group in batch.groups.items()},
        "configs": {name: _task_config(name, group) for name, group in batch.groups.items()},
        "versions": {
            name: group.task_version
            for name, group in batch.groups.items()
            if group.task_version != UNKNOWN_VERSION
        },
        "n-samples": {n: {"effective": len(group.rows)} for n, group in batch.groups.items()},
        "config": {key: value for key, value in config.items() if value is not None},
        "date": batch.start.timestamp(),
        "lm_eval_version": first.first("harness_version"),
        "model_source": first.first("backend"),
        "model_name": first.model_id,
        "model_name_sanitized": harness_name(first.model_id),
    }


def _aggregate(name: str, group: Group) -> dict[str, Any]:
    """The mean over the answers that have a score; null where none has."""
    scores = group.scores
    mean = sum(scores) / len(scores) if scores else None
    return {"alias": name, "sample_len": len(group.rows), f"{_metric(group)},{group.filter}": mean}


def _task_config(name: str, group: Group) -> dict[str, Any]:
    config: dict[str, Any] = {
        "task": name,
        "output_type": group.first("output_type"),
        "metric_list": [{"metric": _metric(group)}],
        "filter_list": [{"name": group.filter}],
    }
    if name != group.task:
        config["task_alias"] = group.task
    return {key: value for key, value in config.items() if value is not None}


def _metric(group: Group) -> str:
    return UNNAMED_METRIC if group.metric in RECORD_KEYS else group.metric


def _records(group: Group, notes: dict[str, int]) -> Iterator[dict[str, Any]]:
    """One record for every answer and filter, as the harness writes them."""
    documents: list[Any] = []
    told: set[str] = set()
    for row in group.rows:
        doc, is_own = _document(row)
        key = json.dumps([doc, row["text"]], sort_keys=True)
        if is_own and key in told:  # the reader takes one document asked twice for one question
            doc, is_own = _stand_in(row), False
        told.add(key)
        if not is_own:
            _count(notes, "answers have a stand-in for the document, which alone doesn't ask this")
            if row["text"].strip() != row["text"]:
                _count(notes, "answers lose white space around their question")
        documents.append(doc)
    for doc_id, doc, row in zip(_doc_ids(group, documents), documents, group.rows, strict=True):
        resps = _resps(row, notes)
        for name, metrics in _metrics(group, row, notes).items():
            yield {
                "doc_id": doc_id,
                "doc": doc,
                "target": row["target"],
                "resps": resps,
                "filter": name,
                "metrics": list(metrics),
                "doc_hash": row["doc_hash"],
                "prompt_hash": row["prompt_hash"],
                "target_hash": row["target_hash"],
                **metrics,
            }


def _document(row: Mapping[str, Any]) -> tuple[Any, bool]:
    """The document, if the question can be read from it alone; else a stand-in, and False.

    The prompt is not kept in the warehouse, so a record has no ``arguments``.
    """
    doc = json.loads(row["doc"]) if row["doc"] else None
    if doc is not None and question_text(doc, "", options_of(doc, [])) == row["text"]:
        return doc, True
    return _stand_in(row), False


def _stand_in(row: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a question, under keys by which a reader finds its text and no options."""
    known = {
        "id": row["source_id"],
        "question": row["text"],
        "category": row["category"],
        "offered": row["choices"],
        "answer": row["target"],
        "query_id": row["query_id"],
        "document": json.loads(row["doc"]) if row["doc"] else None,
    }
    return {key: value for key, value in known.items() if value is not None}


def _doc_ids(group: Group, documents: list[Any]) -> list[int]:
    """The documents' numbers in the task where they are known, else their places in the file.

    A query's name in its source is the number where the document has no name of its own.
    """
    sources = [row["source_id"] or "" for row in group.rows]
    named = any(isinstance(d, dict) and any(key in d for key in SOURCE_ID_KEYS) for d in documents)
    plain = all(s.isascii() and s.isdigit() and s == str(int(s)) for s in sources)
    if plain and not named and len(set(sources)) == len(sources):
        return [int(source) for source in sources]
    return list(range(len(sources)))


def _resps(row: Mapping[str, Any], notes: dict[str, int]) -> Any:
    """The answer in the form in which the harness keeps it; None where it isn't known."""
    said = row["response"]
    if row["output_type"] == "generate_until" or row["status"] == "empty":
        if row["status"] == "empty":
            return [_nothing(said)]
        if said in _WROTE_NOTHING and not row["score"]:
            if said is not None:
                _count(notes, "empty answers that count as wrong are left out (docs/exports.md)")
            return None
        return [[said]]
    if said is None:
        return None
    try:
        return json.loads(said, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return [[said]]


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _nothing(said: str | None) -> list[Any]:
    """An empty answer; of several, each: they were kept as a list in JSON."""
    if said in _WROTE_NOTHING:
        return [said]
    listed = json.loads(said) if said and said.startswith("[") else None
    if isinstance(listed, list) and all(item in _WROTE_NOTHING for item in listed):
        return listed
    return [""]


def _metrics(
    group: Group, row: Mapping[str, Any], notes: dict[str, int]
) -> dict[str, dict[str, Any]]:
    """Filter -> metric -> value; the filter and metric of the score come first."""
    metric, status = _metric(group), row["status"]
    told: dict[str, dict[str, Any]] = {group.filter: {metric: None}}
    logged = json.loads(row["metrics"]) if row["metrics"] else {}
    for key, value in (logged if isinstance(logged, dict) else {}).items():
        if key.startswith(f"{metric},"):
            name, filtered = metric, key[len(metric) + 1 :]
        else:
            name, _, filtered = key.partition(",")
        if name and name not in RECORD_KEYS:
            told.setdefault(filtered or group.filter, {})[name] = value
    value = told[group.filter][metric]
    if status == "ok":
        # The score is what counts; a logged value that says the same stays as it was logged.
        told[group.filter][metric] = value if as_score(value) == row["score"] else row["score"]
    elif not (status == "empty" and row["output_type"] == "generate_until" and value == 0):
        told[group.filter][metric] = None
        if status != "error":
            _count(notes, f"answers with status {status} are told as errors")
    return told


def _count(notes: dict[str, int], reason: str) -> None:
    notes[reason] = notes.get(reason, 0) + 1
