"""Scoring stored answers anew by the installed tasks' own filters and metrics; no model is asked.

``python -m locus.evaluation.rescore_worker REQUEST.json`` prints one JSON line per task on standard
output, and on standard error which answers it left as they were. Without answers it only says by
which metric each task is scored now (``wanted``). With answers it scores them (``scored``), task by
task, and writes a part for each version of a model; a task that can't be scored (``refused``)
leaves no part at all.

A query is known by its id only: an answer is scored against the document that has the same id in
the installed task, or left as it was. What lm-eval does after the last answer came in happens here
again, by its own code: filters over requests that hold their responses, then `process_results`.
"""

import copy
import json
import math
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

import polars as pl

from locus.evaluation.answers import Scoring, check_metric, scored_fields
from locus.evaluation.asked import as_asked
from locus.evaluation.child import listen, work
from locus.evaluation.parts import write_part
from locus.evaluation.questions import (
    HarnessError,
    Question,
    load_tasks,
    questions,
    task_version,
    unsafe,
)
from locus.evaluation.rescore import PIPED, RescoreRequest
from locus.frames import SCORES
from locus.ids import short_hash

# Answers that go through a task's filters together.
BATCH = 256

Answer = Mapping[str, Any]


@dataclass
class Left:
    """Answers that are left as they were, for one reason.

    Attributes:
        n: how many.
        query_id: the query of the first.
        model_id: its model.
    """

    n: int
    query_id: str
    model_id: str


class _LeftError(Exception):
    """This answer can't be scored anew; the message is the reason."""


def obstacle(task: Any) -> str | None:
    """Why answers to a task can't be scored without asking again; None if they can."""
    if why := unsafe(task):
        return why
    if (task.config.repeats or 1) > 1:
        return f"it asks {task.config.repeats} times, and one answer is stored"
    return None


class Scorer:
    """A loaded task, scoring answers by its present filters and metrics."""

    def __init__(self, task: Any, wanted: str | None = None) -> None:
        """Take a task with all its documents.

        Args:
            task: a loaded lm-eval task; it stays as it is.
            wanted: see `primary_metric`.

        Raises:
            HarnessError: the task has no such metric or filter.
        """
        self.name = task.config.task
        self.scoring = Scoring.of(task, wanted)
        self._version = task_version(task)
        self._known: dict[str, Question] = {q.query_id: q for q in questions(task)}
        self._made: dict[str, list[Any]] = {}
        # Its filters and scoring lose the one answer that they raise on, as in an evaluation.
        self._task = as_asked(task, [])

    def score(self, answers: Sequence[Answer], left: dict[str, Left]) -> Iterator[dict[str, Any]]:
        """Score answers to the task.

        Args:
            answers: rows as in `RescoreRequest.answers`.
            left: gets, by reason, the answers that can't be scored.

        Yields:
            Rows of `locus.frames.SCORES`, in the order of the answers. They carry no latency,
            tokens and cost: nothing was asked, and the row of the run that asked has them.

        Raises:
            HarnessError: a metric that is no score. Nothing of the task may be kept.
        """
        for start in range(0, len(answers), BATCH):
            batch = []
            for number, answer in enumerate(answers[start : start + BATCH]):
                try:
                    batch.append((answer, self._requests(answer, number)))
                except _LeftError as reason:
                    _leave(left, answer, str(reason))
            if batch:
                yield from self._score(batch, left)

    def _requests(self, answer: Answer, number: int) -> list[Any]:
        """The requests that the task makes of the query, holding the stored responses.

        Raises:
            _LeftError: there is no such query, or the responses are not to these requests.
        """
        question = self._known.get(answer["query_id"])
        if question is None:
            if answer["task_version"] != self._version:
                raise _LeftError(
                    f"asked by version {answer['task_version']} of the task, and {self._version} "
                    "is installed"
                )
            raise _LeftError("the installed task has no such query")
        if question.query_id not in self._made:
            self._made[question.query_id] = self._make(question)
        # A copy: a task's code may change its document, and the next model gets the same one.
        requests: list[Any] = copy.deepcopy(self._made[question.query_id])
        for request in requests:
            request.doc_id = number
        responses = _responses(self._task.OUTPUT_TYPE, answer["response"])
        if len(responses) != len(requests):
            raise _LeftError(
                f"the response is to {len(responses)} requests, and the task makes "
                f"{len(requests)} now"
            )
        for request, response in zip(requests, responses, strict=True):
            request.resps = [response]
        return requests

    def _make(self, question: Question) -> list[Any]:
        """The requests that the task makes of a query; templates are slow, so once a query."""
        made = self._task.construct_requests(
            doc=question.document,
            ctx=self._task.fewshot_context(question.document, 0),
            metadata=(self.name, 0, 1),
            apply_chat_template=False,
            chat_template=None,
        )
        return made if isinstance(made, list) else [made]

    def _score(
        self, batch: list[tuple[Answer, list[Any]]], left: dict[str, Left]
    ) -> Iterator[dict[str, Any]]:
        self._task._instances = [one for _, requests in batch for one in requests]
        self._task.apply_filters()
        samples = [self._samples(requests) for _, requests in batch]
        check_metric(self.scoring, [one for of_answer in samples for one in of_answer])
        for (answer, _), of_answer in zip(batch, samples, strict=True):
            scored = scored_fields(self.scoring, of_answer)
            if scored["status"] == "ok":
                yield self._row(answer, scored)
            else:
                _leave(left, answer, scored["detail"])

    def _samples(self, requests: list[Any]) -> list[dict[str, Any]]:
        """One record for each filter, as lm-eval logs them."""
        samples = []
        for name in requests[0].filtered_resps:
            filtered = [one.filtered_resps[name] for one in requests]
            metrics = self._task.process_results(requests[0].doc, filtered)
            samples.append({"filter": name, "metrics": list(metrics), **metrics})
        return samples

    def _row(self, answer: Answer, scored: Mapping[str, Any]) -> dict[str, Any]:
        from lm_eval.utils import hash_string

        target = self._task.doc_to_target(self._known[answer["query_id"]].document)
        # Later than the row that it replaces, whatever the clock did in between.
        after = answer["scored_at"] + timedelta(microseconds=1)
        kept = ("model_id", "revision", "query_id", "response", "doc_hash", "prompt_hash")
        return {
            **dict.fromkeys(SCORES),
            **{name: answer[name] for name in kept},
            **scored,
            "metric": self.scoring.metric,
            "filter": self.scoring.filter,
            "target_hash": hash_string(str(target)),
            "scored_at": max(datetime.now(UTC), after),
        }


def _responses(output_type: str, response: str | None) -> list[Any]:
    """What lm-eval got for each request, from what is stored (`harness` writes it).

    Raises:
        _LeftError: it is not whole.
    """
    if response is None:
        raise _LeftError("no response is stored")
    if output_type == "generate_until":
        return [response]
    try:
        stored = json.loads(response)
    except (ValueError, RecursionError):
        stored = None
    if not isinstance(stored, list):
        raise _LeftError("the response is no list of log-likelihoods")
    return [_likelihood(output_type, one) for one in stored]


def _likelihood(output_type: str, stored: Any) -> Any:
    """(log-likelihood, whether greedy) of one request, or the number alone of a rolling one."""
    match stored:
        case [[float() | int() as value, bool() as greedy]] if output_type != (
            "loglikelihood_rolling"
        ):
            return (value, greedy)
        case [float() | int() as value] if output_type == "loglikelihood_rolling":
            return value
    raise _LeftError("the response holds something else than one log-likelihood a request")


def _leave(left: dict[str, Left], answer: Answer, reason: str) -> None:
    query, model = answer["query_id"], answer["model_id"]
    sys.stderr.write(f"query {query} of {model} is left as it was: {reason}\n")
    left.setdefault(reason, Left(0, query, model)).n += 1


def run(request: RescoreRequest, out: TextIO) -> None:
    """Answer a request; see the module.

    Raises:
        HarnessError: a name that nothing is known by.
    """

    def tell(event: str, **values: Any) -> None:
        out.write(json.dumps({"event": event, **values}) + "\n")
        out.flush()

    for name, task in load_tasks(request.tasks, [Path(f) for f in request.task_folders]).items():
        wanted = request.metrics.get(name)
        try:
            if not request.answers:
                chosen = Scoring.of(task, wanted)
                about = {"metric": chosen.metric, "filter": chosen.filter}
                tell("wanted", task=name, **about, obstacle=obstacle(task))
            elif name in request.answers:
                tell("scored", task=name, **_score_task(request, Scorer(task, wanted)))
        except HarnessError as error:
            tell("refused", task=name, why=str(error))


def _score_task(request: RescoreRequest, scorer: Scorer) -> dict[str, Any]:
    """Score the answers to a task and write its parts, all of them or none."""
    folder = Path(request.parts) / short_hash(scorer.name)
    left: dict[str, Left] = {}
    parts: list[dict[str, Any]] = []
    before: list[float] = []
    after: list[float] = []
    answers = pl.read_parquet(request.answers[scorer.name]).sort("model_id", "revision", "query_id")
    try:
        for (model, revision), own in answers.group_by("model_id", "revision", maintain_order=True):
            rows = list(scorer.score(own.to_dicts(), left))
            if rows:
                path = folder / f"{short_hash(f'{model}@{revision}')}.parquet"
                write_part(rows, path)
                parts.append({"part": str(path), "model_id": model, "revision": revision})
                was = dict(own.select("query_id", "score").iter_rows())
                before += [was[row["query_id"]] for row in rows]
                after += [row["score"] for row in rows]
    except HarnessError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    n = len(after)
    return {
        "n": n,
        "parts": parts,
        "before": math.fsum(before) / n if n else None,
        "after": math.fsum(after) / n if n else None,
        "left": [{"why": why, **asdict(one)} for why, one in left.items()],
    }


def main() -> int:
    """Run the request named on the command line."""
    if PIPED in sys.argv[2:]:
        listen(lambda line: None)
    request = RescoreRequest(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    return work(lambda events: run(request, events))


if __name__ == "__main__":
    sys.exit(main())
