"""The lm-eval side: tasks and their documents as queries, and a run on exactly the chosen ones.

lm-eval's own sampling by position mislabels documents when positions are not sorted, so nothing
here works by position: a task is handed just the chosen documents, and every row that comes back
is identified by its document again.
"""

import json
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from locus.evaluation.service import SEVERITY, Outcome
from locus.ids import QueryId, query_id

log = logging.getLogger(__name__)


class HarnessError(RuntimeError):
    """lm-eval could not do what was asked, or answered something else; names task and query."""


@dataclass(frozen=True)
class Question:
    """A document of a task, as a query.

    Attributes:
        query_id: its identity.
        document: the document as the task sees it.
        prompt: what a model is shown, without few-shot examples.
        choices: the options of a multiple-choice task.
        target: the expected answer, as text.
    """

    query_id: QueryId
    document: Any
    prompt: str
    choices: list[str] | None
    target: str | None


def versions() -> dict[str, str]:
    """Versions that a score depends on."""
    from importlib.metadata import version

    return {name: version(name) for name in ("lm_eval", "torch", "transformers")}


def load_tasks(names: Sequence[str], folders: Sequence[Path]) -> dict[str, Any]:
    """Load tasks, groups or tags by name, as ``{task name: lm-eval task}``.

    The harness' own index is read (seconds) only if the given folders don't have all names.

    Raises:
        HarnessError: a name that nothing is known by.
    """
    from lm_eval.tasks import TaskManager

    paths: list[str | Path] = [str(folder) for folder in folders]
    manager = TaskManager(include_path=paths, include_defaults=False) if paths else None
    if manager is None or not set(names) <= set(manager.all_tasks):
        manager = TaskManager(include_path=paths or None)
    unknown = sorted(set(names) - set(manager.all_tasks))
    if unknown:
        raise HarnessError(
            f"no task, group or tag is called {', '.join(map(repr, unknown))}: check `tasks` and "
            "`task_folders` in locus.toml (`lm_eval ls tasks` lists the installed ones)"
        )
    tasks: dict[str, Any] = manager.load(list(names))["tasks"]
    return dict(sorted(tasks.items()))


def task_version(task: Any) -> str:
    """Version of a task's definition."""
    return str(task.VERSION)


def primary_metric(task: Any) -> tuple[str, str]:
    """(metric, filter) whose value is the score: the first of each that the task lists."""
    metric = next(iter(task.aggregation()))
    filters = [one.name for one in getattr(task, "_filters", [])]
    return metric, filters[0] if filters else "none"


def question(task: Any, document: Any) -> Question:
    """Identify a document of a task."""
    name = task.config.task
    prompt = task.fewshot_context(document, 0)
    choices = None
    if task.OUTPUT_TYPE == "multiple_choice":
        choices = [str(choice) for choice in task.doc_to_choice(document)]
    identity = query_id(name, task_version(task), document, [prompt, choices])
    target = task.doc_to_target(document)
    if choices is not None and isinstance(target, int) and 0 <= target < len(choices):
        target = choices[target]
    text = prompt if isinstance(prompt, str) else "\n".join(map(str, prompt))
    return Question(identity, document, text, choices, None if target is None else str(target))


def questions(task: Any) -> list[Question]:
    """All documents of a task's evaluation split; the same document twice counts once."""
    found = {q.query_id: q for q in (question(task, document) for document in task.eval_docs)}
    return list(found.values())


def _sampled(task: Any, documents: Sequence[Any]) -> Any:
    """Make a loaded task evaluate exactly these documents; few-shot splits are left alone."""
    base = getattr(task, "_locus_base", type(task))
    task._locus_base = base
    task.__class__ = type(base.__name__, (base,), {"eval_docs": property(lambda _: documents)})
    return task


def ask(
    lm: Any, tasks: Mapping[str, Any], asked: Mapping[str, Sequence[Question]]
) -> list[dict[str, Any]]:
    """Ask a model some questions through lm-eval.

    Args:
        lm: a loaded lm-eval model.
        tasks: loaded tasks by name.
        asked: the questions of each task.

    Returns:
        One dict a question, with the keys of `locus.frames.SCORES` that the harness knows:
        query_id, status, score, metric, filter, metrics, response, latency_ms (the mean of this
        call for a local model, the query's own for a service), tokens_in, tokens_out, hashes,
        scored_at. A service's failure has another status than ``ok`` and no score, with the
        reason under ``detail``.

    Raises:
        HarnessError: an answer to something that was not asked, a question left out, or a score
            outside [0, 1]. Nothing of such a call may be kept.
    """
    from lm_eval.evaluator import evaluate

    asked = {name: list(qs) for name, qs in asked.items() if qs}
    chosen = {name: _sampled(tasks[name], [q.document for q in qs]) for name, qs in asked.items()}
    started = time.perf_counter()
    result = evaluate(
        lm,
        {"tasks": chosen, "groups": {}, "group_map": {}},
        bootstrap_iters=0,
        log_samples=True,
        apply_chat_template=getattr(lm, "takes_messages", False),
    )
    n = sum(map(len, asked.values()))
    latency = 1000 * (time.perf_counter() - started) / n
    outcomes = _outcomes(lm, chosen)
    rows: list[dict[str, Any]] = []
    for name, qs in asked.items():
        by_query = _group(chosen[name], result["samples"][name], {q.query_id for q in qs})
        for identity, samples in by_query.items():
            known = {"query_id": identity, "latency_ms": latency}
            if outcomes is None:
                rows.append({**_row(lm, chosen[name], samples), **known})
            else:
                rows.append({**known, **_service_row(chosen[name], samples, outcomes[identity])})
    return rows


def _outcomes(lm: Any, tasks: Mapping[str, Any]) -> dict[QueryId, list[Outcome]] | None:
    """What came of each question's requests, by the document they were made of; None if local."""
    if not hasattr(lm, "take_outcomes"):
        return None
    found: dict[QueryId, list[Outcome]] = defaultdict(list)
    for instance, outcome in lm.take_outcomes():
        found[question(tasks[instance.task_name], instance.doc).query_id].append(outcome)
    return found


def _group(
    task: Any, samples: Iterable[Mapping[str, Any]], asked: set[QueryId]
) -> dict[QueryId, list[Mapping[str, Any]]]:
    """Rows of each question (one per filter), identified by their documents."""
    found: dict[QueryId, list[Mapping[str, Any]]] = defaultdict(list)
    for sample in samples:
        found[question(task, sample["doc"]).query_id].append(sample)
    if set(found) != asked:
        raise HarnessError(
            f"task {task.config.task!r}: asked {len(asked)} queries, {len(asked - set(found))} of "
            f"them were not answered and {len(set(found) - asked)} others were; nothing is kept"
        )
    return found


def _row(lm: Any, task: Any, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    tokens_in, tokens_out = _tokens(lm, task, samples[0])
    return {
        **_scored(task, samples),
        **_frame_of(task, samples[0]),
        "status": "ok",
        "response": _response(task, samples[0]),
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
    }


def _service_row(
    task: Any, samples: Sequence[Mapping[str, Any]], outcomes: Sequence[Outcome]
) -> dict[str, Any]:
    """A question that a service was asked: its status is the worst of its requests'."""
    worst = max(outcomes, key=lambda outcome: SEVERITY.index(outcome.status))
    read = [o.tokens_in for o in outcomes]
    written = [o.tokens_out for o in outcomes]
    row = {
        **_frame_of(task, samples[0]),
        "status": worst.status,
        "detail": worst.detail,
        "tokens_in": None if None in read else sum(n for n in read if n is not None),
        "tokens_out": None if None in written else sum(n for n in written if n is not None),
        "latency_ms": sum(o.latency_ms for o in outcomes),
    }
    if worst.status == "ok":
        return {**row, **_scored(task, samples), "response": _response(task, samples[0])}
    said = worst.value if isinstance(worst.value, str) else None
    return {**row, "score": None, "metrics": None, "response": said}


def _scored(task: Any, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The score and all metrics of a question."""
    metric, filter_name = primary_metric(task)
    metrics = {
        f"{name},{sample['filter']}": float(sample[name])
        for sample in samples
        for name in sample["metrics"]
        if isinstance(sample[name], int | float)
    }
    score = metrics.get(f"{metric},{filter_name}")
    if score is None or not 0 <= score <= 1:
        raise HarnessError(
            f"task {task.config.task!r}: metric {metric!r} gave {score!r}, and a score is a number "
            "from 0 to 1; list another metric first in the task's metric_list"
        )
    return {"score": score, "metrics": json.dumps(metrics, sort_keys=True)}


def _frame_of(task: Any, sample: Mapping[str, Any]) -> dict[str, Any]:
    """What a row says whatever came of it."""
    metric, filter_name = primary_metric(task)
    return {
        "metric": metric,
        "filter": filter_name,
        "doc_hash": sample["doc_hash"],
        "prompt_hash": sample["prompt_hash"],
        "target_hash": sample["target_hash"],
        "scored_at": datetime.now(UTC),
    }


def _response(task: Any, sample: Mapping[str, Any]) -> str:
    """What the model answered: its text, or for multiple choice the log-likelihoods as JSON."""
    if task.OUTPUT_TYPE == "generate_until":
        return str(sample["resps"][0][0])
    return json.dumps(sample["resps"], default=str)


def _tokens(lm: Any, task: Any, sample: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Tokens read and written by the local tokenizer; None where there is none."""
    encode = getattr(lm, "tok_encode", None)
    if encode is None:
        return None, None
    generates = task.OUTPUT_TYPE == "generate_until"
    read = sum(
        len(encode(str(a[0]) if generates else str(a[0]) + str(a[1])))
        for a in sample["arguments"]
        if len(a) > 1
    )
    written = sum(len(encode(str(r[0]))) for r in sample["resps"]) if generates else 0
    return read, written
