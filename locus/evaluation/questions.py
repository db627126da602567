"""lm-eval's tasks: loading them, their documents as queries, and what is said of a whole task."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from locus.ids import QueryId, query_id
from locus.names import hint


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
        place: where it stands among the task's documents; None where nobody looked.
    """

    query_id: QueryId
    document: Any
    prompt: str
    choices: list[str] | None
    target: str | None
    place: int | None = None


def load_tasks(names: Sequence[str], folders: Sequence[Path]) -> dict[str, Any]:
    """Load tasks, groups or tags by name, as ``{task name: lm-eval task}``.

    A task that is reached in several ways is there once, as the first name has it. The harness' own
    index is read (seconds) only if the given folders don't have all names.

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
        near = hint(unknown[0], manager.all_tasks, "`lm_eval ls tasks` lists the installed ones")
        raise HarnessError(
            f"no task, group or tag is called {', '.join(map(repr, unknown))}: check `tasks` and "
            f"`task_folders` in locus.toml ({near})"
        )
    tasks: dict[str, Any] = {}
    for name in dict.fromkeys(names):
        # One by one: lm-eval refuses names that have a task in common.
        tasks = {**manager.load([name])["tasks"], **tasks}
    return dict(sorted(tasks.items()))


def task_version(task: Any) -> str:
    """Version of a task's definition."""
    return str(task.VERSION)


def primary_metric(task: Any, wanted: str | None = None) -> tuple[str, str]:
    """(metric, filter) whose value is the score.

    Args:
        task: a loaded task.
        wanted: ``metric`` or ``metric,filter``; without it, the first metric that the task lists,
            and without a filter, the first of those.

    Raises:
        HarnessError: the task has no such metric or filter.
    """
    metrics = list(task.aggregation())
    filters = [one.name for one in getattr(task, "_filters", [])] or ["none"]
    metric, _, filter_name = (wanted or metrics[0]).partition(",")
    filter_name = filter_name or filters[0]
    for kind, name, known in (("metric", metric, metrics), ("filter", filter_name, filters)):
        if name not in known:
            raise HarnessError(
                f"task {task.config.task!r} has no {kind} {name!r}: it has {', '.join(known)}; "
                "correct `metric` of the task in locus.toml"
            )
    return metric, filter_name


def effective_fewshot(task: Any, wanted: int | None = None) -> int:
    """How many examples stand before a question.

    What is wanted of this very task is done, also if the task says 0 itself; lm-eval's one number
    for all tasks passes such a task by.

    Args:
        task: a loaded task.
        wanted: the number; None for what the task says, which is 0 if it says nothing.

    Raises:
        HarnessError: the number is negative or none.
    """
    number = task.config.num_fewshot if wanted is None else wanted
    if number is None:
        return 0
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise HarnessError(
            f"task {task.config.task!r}: num_fewshot is a whole number, 0 or more, not {number!r}"
        )
    return number


def unsafe(task: Any) -> str | None:
    """Why a task is never asked; None if it may be."""
    if getattr(task, "UNSAFE_CODE", False):
        return "it runs code that the model wrote, and LOCUS runs none"
    return None


def unsuited(task: Any, lm: Any) -> str | None:
    """Why a loaded model can't be asked a task, whatever its backend; None if it can."""
    if getattr(task, "MULTIMODAL", False) and not getattr(lm, "MULTIMODAL", False):
        return "it shows images or plays sounds, and this model takes text only"
    return None


def question(task: Any, document: Any) -> Question:
    """Identify a document of a task, whatever the conditions under which it will be asked."""
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


class Identities:
    """Which of some questions a document is, by its content; whatever else it is, by its hash.

    Making a prompt of a document only to hash it takes about a millisecond; its content is enough
    to know one that was identified before.
    """

    def __init__(self, task: Any, asked: Iterable[Question]) -> None:
        self._task = task
        self._known = {content(q.document): q.query_id for q in asked}

    def of(self, document: Any) -> QueryId:
        """The identity of a document of the task."""
        known = self._known.get(content(document))
        return question(self._task, document).query_id if known is None else known


def content(document: Any) -> str:
    """A document's content as text: two are the same if it is."""
    return json.dumps(document, sort_keys=True, ensure_ascii=False, default=str)


def questions(task: Any) -> list[Question]:
    """All documents of a task's evaluation split; the same document twice counts once."""
    found: dict[QueryId, Question] = {}
    for place, document in enumerate(task.eval_docs):
        one = question(task, document)
        found.setdefault(one.query_id, replace(one, place=place))
    return list(found.values())


def some_questions(task: Any, places: Mapping[QueryId, int | None]) -> dict[QueryId, Question]:
    """Those of a task's questions that are wanted and there, by id.

    Args:
        task: a loaded task.
        places: wanted ids, and where each stood when the task was catalogued; None where that
            isn't known. A place is only where to look first: a document is known by its hash.
    """
    documents = task.eval_docs
    n = len(documents) if hasattr(documents, "__getitem__") else 0
    found: dict[QueryId, Question] = {}
    for wanted, place in places.items():
        if place is None or place >= n:
            break
        one = question(task, documents[place])
        if one.query_id != wanted:
            break
        found[wanted] = replace(one, place=place)
    if len(found) < len(places):
        return {q.query_id: q for q in questions(task) if q.query_id in places}
    return found
