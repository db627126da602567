"""Every Eval Ever, schema 0.2.2: for each model and evaluation a file of answers and one about it.

The format: https://github.com/evaleval/every_eval_ever. Fields of unknown content are left out, or
``unknown`` where the schema demands a text. The rules are in docs/exports.md.
"""

import hashlib
import json
import math
import statistics
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

import polars as pl

from locus.exports.answers import UNKNOWN_VERSION, ExportFile, Group, groups
from locus.exports.lm_eval import json_line
from locus.exports.names import harness_name, task_names

SCHEMA = "0.2.2"
UNKNOWN = "unknown"
_HARNESS = ("lm-eval", "lm-eval-log")
_RIGHT = 0.5  # as in the warehouse's views: from here on an answer counts as right
_NAMESPACE = uuid.UUID("6f2d1c1e-6a52-4d53-9d0e-5d1b6a3c0f57")


def every_eval_ever_files(
    answers: pl.DataFrame,
    about: Mapping[str, Any],
    folder: str,
    organization: str,
    now: datetime,
    notes: dict[str, int],
) -> Iterator[ExportFile]:
    """The files of one model, answers before the file that tells their checksum.

    Args:
        answers: columns of `locus.exports.answers.ANSWERS`, of one model.
        about: the model: ``org`` and ``params_b``, each may be None.
        folder: the model's name in paths (`names.model_folders`).
        organization: who provides the data.
        now: the time of the export.
        notes: gets, by reason, how many answers or groups could not be told.
    """
    found = list(groups(answers))
    names = task_names({group.task for group in found})
    for group in found:
        scored = [row for row in group.rows if row["score"] is not None]
        left = len(group.rows) - len(scored)
        if left:
            reason = "answers have no score, and the format has no place for such"
            notes[reason] = notes.get(reason, 0) + left
        if not scored:
            continue
        # The same group is the same file in every export, so that a second one replaces it.
        identity = uuid.uuid5(_NAMESPACE, json.dumps(_identity(group)))
        evaluation = f"{group.task}/{group.model_id}/{now.timestamp()}"
        place = PurePosixPath("data", names[group.task], *_developer(group.model_id, folder))
        lines = b"".join(
            json_line(_instance(group, row, evaluation, str(identity))) for row in scored
        )
        details = {
            "format": "jsonl",
            "file_path": f"{identity}.jsonl",
            "hash_algorithm": "sha256",
            "checksum": hashlib.sha256(lines).hexdigest(),
            "total_rows": len(scored),
        }
        whole = {
            "schema_version": SCHEMA,
            "evaluation_id": evaluation,
            "evaluation_timestamp": str(group.start.timestamp()),
            "retrieved_timestamp": str(now.timestamp()),
            "source_metadata": {
                "source_name": "LOCUS",
                "source_type": _source_type(group),
                "source_organization_name": organization,
                # Who evaluated stands in what relation to the model's maker: nobody has said.
                "evaluator_relationship": "other",
            },
            "eval_library": {
                "name": "lm_eval" if group.first("source") in _HARNESS else UNKNOWN,
                "version": group.first("harness_version") or UNKNOWN,
            },
            "model_info": _model_info(group, about),
            "evaluation_results": [_result(group, str(identity), left)],
            "detailed_evaluation_results": details,
        }
        yield ExportFile(place / f"{identity}.jsonl", lines, len(scored), group.task)
        text = json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False)
        yield ExportFile(place / f"{identity}.json", text.encode(), 0, group.task)


def _developer(model_id: str, folder: str) -> tuple[str, str]:
    """The developer's folder and the model's in it; files have names that never meet there."""
    org, slash, _ = model_id.partition("/")
    if not slash:
        return UNKNOWN, folder
    developer = harness_name(org)
    # A name with a hash is left as it is; a plain one says its developer already.
    return developer, folder if "@" in folder else folder.removeprefix(f"{developer}__")


def _identity(group: Group) -> list[str]:
    names = [group.model_id, group.revision, group.task, group.task_version]
    return [*names, group.metric, group.filter]


def _source_type(group: Group) -> str:
    """Scores of a matrix were read from a table of results, all others come from a run."""
    return "evaluation_run" if group.first("source") in _HARNESS else "documentation"


def _model_info(group: Group, about: Mapping[str, Any]) -> dict[str, Any]:
    more = {"revision": group.revision, "backend": group.first("backend")}
    if about.get("params_b") is not None:
        more["params_b"] = str(about["params_b"])
    info = {"name": group.model_id, "id": group.model_id, "developer": about.get("org")}
    known = {key: value for key, value in info.items() if value is not None}
    return known | {"additional_details": {k: v for k, v in more.items() if v is not None}}


def _result(group: Group, identity: str, left: int) -> dict[str, Any]:
    scores = group.scores
    n = len(scores)
    uncertainty: dict[str, Any] = {"num_samples": n}
    if n > 1:
        deviation = statistics.stdev(scores)
        uncertainty |= {
            "standard_deviation": deviation,
            "standard_error": {"value": deviation / math.sqrt(n), "method": "analytic"},
        }
    source = {"dataset_name": group.task, "source_type": "other"}
    if group.task_version != UNKNOWN_VERSION:
        source["source_version"] = group.task_version
    return {
        "evaluation_result_id": identity,
        "evaluation_name": group.task,
        "source_data": source,
        "evaluation_timestamp": str(group.start.timestamp()),
        "metric_config": {
            "metric_name": group.metric,
            "metric_parameters": {"filter": group.filter},
            "lower_is_better": False,
            "score_type": "continuous",
            "min_score": 0,
            "max_score": 1,
        },
        "score_details": {
            "score": math.fsum(scores) / n,
            "details": {"answers_without_score": str(left)},
            "uncertainty": uncertainty,
        },
    }


def _instance(
    group: Group, row: Mapping[str, Any], evaluation: str, identity: str
) -> dict[str, Any]:
    reference = [] if row["target"] is None else [row["target"]]
    told = {
        "schema_version": f"instance_level_eval_{SCHEMA}",
        "evaluation_id": evaluation,
        "model_id": group.model_id,
        "evaluation_name": group.task,
        "evaluation_result_id": identity,
        "sample_id": row["source_id"] or row["query_id"],
        "sample_hash": hashlib.sha256("".join([row["text"], *reference]).encode()).hexdigest(),
        "interaction_type": "single_turn",
        "input": {"raw": row["text"], "reference": reference, "choices": row["choices"]},
        "output": {"raw": [] if row["response"] is None else [row["response"]]},
        # How the answer was found in the output is not kept.
        "answer_attribution": [],
        "evaluation": {"score": row["score"], "is_correct": row["score"] >= _RIGHT},
        "metadata": {
            key: row[key]
            for key in ("query_id", "category", "split", "revision", "filter")
            if row[key] is not None
        },
    }
    if row["latency_ms"] is not None:
        told["performance"] = {"latency_ms": row["latency_ms"]}
    if row["tokens_in"] is not None and row["tokens_out"] is not None:
        told["token_usage"] = {
            "input_tokens": row["tokens_in"],
            "output_tokens": row["tokens_out"],
            "total_tokens": row["tokens_in"] + row["tokens_out"],
        }
    return told
