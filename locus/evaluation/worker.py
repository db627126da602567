"""The worker process: load one model, ask it chunk by chunk, write each chunk as one part.

``python -m locus.evaluation.worker REQUEST.json`` prints one JSON line per event on standard
output (``{"event": "chunk", "done": 256, "of": 960, "part": "<file>"}``); everything that
libraries say goes to standard error. Chunks whose part is there already are not asked again, so a
killed worker goes on where it was. A chunk with queries that got no answer is kept under a name
that no later run looks for: they may be asked again then, and what was answered isn't planned.

With ``--granted`` it says ``{"event": "ready", "next": 256}`` before each chunk and waits for a
line on standard input with the number of queries that it may ask; 0 ends it in good order. If the
input ends, whoever started it is dead, and so is the worker: nobody would record its answers, and
the next run may ask the same queries already.
"""

import argparse
import json
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TextIO

from locus.evaluation.backends import SERVICES, obstacle
from locus.evaluation.child import listen, work
from locus.evaluation.harness import (
    HarnessError,
    Question,
    ask,
    load_local,
    load_tasks,
    some_questions,
    unsafe,
    unsuited,
    versions,
)
from locus.evaluation.parts import PartNotWrittenError, part_name, write_part
from locus.evaluation.request import EvaluationRequest
from locus.evaluation.service import UNASKED
from locus.evaluation.service_model import load_service
from locus.frames import SCORES
from locus.ids import QueryId
from locus.loading import uncollected
from locus.prices import price_on


def _load_model(request: EvaluationRequest) -> Any:
    return load_service(request) if request.backend in SERVICES else load_local(request)


def _chunks(request: EvaluationRequest) -> Iterator[list[tuple[str, str]]]:
    """(task, query id) pairs in chunks, in one order for one set of queries.

    By id, which is a hash: an evaluation that ends early has asked some of every task.
    """
    pairs = sorted(
        ((task, query) for task, ids in request.queries.items() for query in ids),
        key=lambda pair: pair[1],
    )
    for start in range(0, len(pairs), request.chunk_size):
        yield pairs[start : start + request.chunk_size]


def _cost(request: EvaluationRequest, row: dict[str, Any]) -> float | None:
    price = price_on(request.prices, row["scored_at"].date())
    if price is None or row["tokens_in"] is None or row["tokens_out"] is None:
        return None
    return price.of(row["tokens_in"], row["tokens_out"])


def run(request: EvaluationRequest, out: TextIO, allowed: Callable[[], int] | None = None) -> None:
    """Answer a request; see the module.

    Args:
        request: what to ask.
        out: where events go.
        allowed: gives the number of queries that may be asked next, 0 to end; None allows all.

    Raises:
        HarnessError: a query that the installed tasks don't have, a chunk that came back wrong, or
            one that can't be written.
    """
    settings = {**request.settings(), **versions()}
    todo: deque[list[tuple[str, str]]] = deque()
    done = 0

    def path_of(chunk: list[tuple[str, str]], **more: str) -> Path:
        ids = [query for _, query in chunk]
        name = part_name(request.model_id, request.revision, {**settings, **more}, ids)
        return Path(request.parts) / name

    def tell(event: str, **values: Any) -> None:
        out.write(json.dumps({"event": event, "of": request.n_queries, **values}) + "\n")
        out.flush()

    for chunk in _chunks(request):
        if (path := path_of(chunk)).exists():
            done += len(chunk)
            tell("chunk", done=done, part=path.name)
        else:
            todo.append(chunk)
    if not todo:
        return
    with uncollected():
        tasks = load_tasks(sorted(request.queries), [Path(f) for f in request.task_folders])
        known = _known(request, tasks)
        lm = _load_model(request)
    tell("loaded", done=done)
    left_out = _left_out(request, tasks, lm)
    while todo:
        chunk = todo.popleft()
        if allowed is not None:
            tell("ready", done=done, next=len(chunk))
            if (n := allowed()) < 1:
                return
            if n < len(chunk):
                todo.appendleft(chunk[n:])
                chunk = chunk[:n]
        asked: dict[str, list[Question]] = {}
        for task, query in chunk:
            if task not in left_out:
                asked.setdefault(task, []).append(known[QueryId(query)])
        rows = [
            {
                **row,
                "model_id": request.model_id,
                "revision": request.revision,
                "cost_usd": _cost(request, row),
            }
            for row in (ask(lm, tasks, asked, request.conditions) if asked else [])
        ]
        stopped = getattr(lm, "stopped", None)
        kept = [row for row in rows if _says_something(row, stopped)]
        _tell_failures(kept)
        answered = sum(row["status"] == "ok" for row in kept)
        whole = answered == len(chunk)
        path = path_of(chunk) if whole else path_of(chunk, run=request.run_id)
        if kept:
            try:
                write_part([{name: row[name] for name in SCORES} for row in kept], path)
            except PartNotWrittenError as error:
                raise HarnessError(f"{error}; {_kept(request, done)}") from error
            done += answered
            tell("chunk", done=done, part=path.name, **_spent(rows))
        if stopped:
            raise HarnessError(f"{stopped}; {_kept(request, done)}")
    if left_out:
        reasons = "; ".join(f"task {task!r}: {why}" for task, why in left_out.items())
        raise HarnessError(
            f"{request.model_id!r} can't be asked everything: {reasons}; all else is done and "
            f"kept ({done} of {request.n_queries}). Ask the model by another backend or "
            "take the task out of `tasks`"
        )


def _kept(request: EvaluationRequest, done: int) -> str:
    return (
        f"{done} of {request.n_queries} queries of {request.model_id!r} are done and kept, the "
        "next run asks the others"
    )


def _says_something(row: dict[str, Any], stopped: str | None) -> bool:
    """Whether a row says something of its query.

    A request that was not sent doesn't; nor does one that failed in the row of failures for which
    the service was given up: that tells of the service, and must not count against the query.
    """
    return row["status"] != UNASKED and not (stopped and row["status"] == "error")


def _spent(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What a chunk has cost, as far as it is known."""
    return {
        "asked": sum(row["status"] != UNASKED for row in rows),
        "tokens": sum((row["tokens_in"] or 0) + (row["tokens_out"] or 0) for row in rows),
        "usd": sum(row["cost_usd"] or 0.0 for row in rows),
    }


def _left_out(request: EvaluationRequest, tasks: dict[str, Any], lm: Any) -> dict[str, str]:
    """Tasks that the model can't be asked, with the reason; a plan leaves out what it can."""
    reasons = {
        name: obstacle(request.backend, request.args, task.OUTPUT_TYPE)
        or unsafe(task)
        or unsuited(task, lm)
        for name, task in tasks.items()
    }
    return {name: why for name, why in reasons.items() if why is not None}


def _tell_failures(rows: list[dict[str, Any]]) -> None:
    """Log what is not an answer."""
    for row in rows:
        if row["status"] != "ok":
            sys.stderr.write(f"query {row['query_id']}: {row['status']}: {row['detail']}\n")


def _known(request: EvaluationRequest, tasks: dict[str, Any]) -> dict[QueryId, Question]:
    """The questions that are asked, by id."""
    known: dict[QueryId, Question] = {}
    for task, ids in request.queries.items():
        places = {QueryId(query): request.places.get(query) for query in ids}
        found = some_questions(tasks[task], places)
        missing = [query for query in ids if query not in found]
        if missing:
            raise HarnessError(
                f"task {task!r} has no query {missing[0]!r} ({len(missing)} missing): the "
                "installed task differs from the one that was catalogued; `locus run nightly` "
                "catalogues it anew"
            )
        known.update(found)
    return known


def _grants() -> Callable[[], int]:
    """Numbers of queries that may be asked, as they come in; the process ends with the input."""
    granted: SimpleQueue[int] = SimpleQueue()
    listen(lambda line: granted.put(int(line)))
    return granted.get


def main() -> int:
    """Run the request named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m locus.evaluation.worker")
    parser.add_argument("request", type=Path, help="the request, as JSON")
    parser.add_argument("--granted", action="store_true", help="wait for leave before each chunk")
    options = parser.parse_args()
    request = EvaluationRequest.read(options.request)
    return work(lambda events: run(request, events, _grants() if options.granted else None))


if __name__ == "__main__":
    sys.exit(main())
