"""The worker process: load one model, ask it chunk by chunk, write each chunk as one part.

``python -m locus.evaluation.worker REQUEST.json`` prints one JSON line per event on standard
output (``{"event": "chunk", "done": 256, "of": 960, "part": "<file>"}``); everything that
libraries say goes to standard error. Chunks whose part is there already are not asked again, so a
killed worker goes on where it was. A chunk in which a service failed is kept under a name that no
later run looks for: what failed is asked again then, what was answered is not planned again.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from locus.evaluation.backends import SERVICES, obstacle
from locus.evaluation.harness import HarnessError, Question, ask, load_tasks, questions, versions
from locus.evaluation.parts import part_name, write_part
from locus.evaluation.request import EvaluationRequest
from locus.evaluation.service import UNASKED
from locus.evaluation.service_model import load_service
from locus.frames import SCORES
from locus.prices import price_on

# Exit statuses that the launcher tells apart.
FAILED = 2


def _load_model(request: EvaluationRequest) -> Any:
    if request.backend in SERVICES:
        return load_service(request)
    from lm_eval.api.registry import get_model

    extra: dict[str, Any] = {"batch_size": request.batch_size}
    if request.device:
        extra["device"] = request.device
    elif request.backend == "hf":
        import torch

        extra["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    return get_model(request.backend).create_from_arg_obj(dict(request.args), extra)


def _chunks(request: EvaluationRequest) -> Iterator[list[tuple[str, str]]]:
    """(task, query id) pairs in chunks, in one order for one set of queries."""
    pairs = sorted((task, query) for task, ids in request.queries.items() for query in ids)
    for start in range(0, len(pairs), request.chunk_size):
        yield pairs[start : start + request.chunk_size]


def _cost(request: EvaluationRequest, row: dict[str, Any]) -> float | None:
    price = price_on(request.prices, row["scored_at"].date())
    if price is None or row["tokens_in"] is None or row["tokens_out"] is None:
        return None
    return price.of(row["tokens_in"], row["tokens_out"])


def run(request: EvaluationRequest, out: TextIO) -> None:
    """Answer a request; see the module.

    Raises:
        HarnessError: a query that the installed tasks don't have, or a chunk that came back wrong.
    """
    settings = {**request.settings(), **versions()}
    todo: list[tuple[Path, list[tuple[str, str]]]] = []
    done = 0

    def tell(event: str, **values: Any) -> None:
        out.write(json.dumps({"event": event, "of": request.n_queries, **values}) + "\n")
        out.flush()

    for chunk in _chunks(request):
        ids = [query for _, query in chunk]
        path = Path(request.parts) / part_name(request.model_id, request.revision, settings, ids)
        if path.exists():
            done += len(chunk)
            tell("chunk", done=done, part=path.name)
        else:
            todo.append((path, chunk))
    if not todo:
        return
    tasks = load_tasks(sorted(request.queries), [Path(f) for f in request.task_folders])
    known = _known(request, tasks)
    lm = _load_model(request)
    tell("loaded", done=done)
    left_out = _left_out(request, tasks)
    for path, chunk in todo:
        asked: dict[str, list[Question]] = {}
        for task, query in chunk:
            if task not in left_out:
                asked.setdefault(task, []).append(known[query])
        rows = [
            {
                **row,
                "model_id": request.model_id,
                "revision": request.revision,
                "cost_usd": _cost(request, row),
            }
            for row in (ask(lm, tasks, asked) if asked else [])
        ]
        kept = [row for row in rows if row["status"] != UNASKED]
        failed = _tell_failures(kept)
        whole = len(kept) == len(chunk) and not failed
        if not whole:
            salted = {**settings, "run": request.run_id}
            path = path.with_name(
                part_name(request.model_id, request.revision, salted, [q for _, q in chunk])
            )
        done += len(kept) - failed
        if kept:
            columns = [{name: row[name] for name in SCORES} for row in kept]
            write_part(columns, path)
            tell("chunk", done=done, part=path.name)
        if stopped := getattr(lm, "stopped", None):
            raise HarnessError(
                f"{stopped}; {done} of {request.n_queries} queries of {request.model_id!r} are "
                "done and kept, the next run asks the others"
            )
    if left_out:
        reasons = "; ".join(f"task {task!r}: {why}" for task, why in left_out.items())
        raise HarnessError(
            f"{request.model_id!r} can't be asked everything: {reasons}; all else is done and "
            f"kept ({done} of {request.n_queries}). Ask the model by another backend or "
            "take the task out of `tasks`"
        )


def _left_out(request: EvaluationRequest, tasks: dict[str, Any]) -> dict[str, str]:
    """Tasks that the model can't be asked, with the reason; a plan leaves them out beforehand."""
    reasons = {
        name: obstacle(request.backend, request.args, task.OUTPUT_TYPE)
        for name, task in tasks.items()
    }
    return {name: why for name, why in reasons.items() if why is not None}


def _tell_failures(rows: list[dict[str, Any]]) -> int:
    """Log what is not an answer; the number of those that are to be asked again."""
    for row in rows:
        if row["status"] != "ok":
            sys.stderr.write(f"query {row['query_id']}: {row['status']}: {row['detail']}\n")
    return sum(row["status"] == "error" for row in rows)


def _known(request: EvaluationRequest, tasks: dict[str, Any]) -> dict[str, Question]:
    """The questions of the request's tasks by id; every asked id must be among them."""
    known: dict[str, Question] = {q.query_id: q for t in tasks.values() for q in questions(t)}
    for task, ids in request.queries.items():
        missing = [query for query in ids if query not in known]
        if missing:
            raise HarnessError(
                f"task {task!r} has no query {missing[0]!r} ({len(missing)} missing): the "
                "installed task differs from the one that was catalogued; run nightly again"
            )
    return known


def main() -> int:
    """Run the request named on the command line."""
    # lm-eval prints on standard output now and then; events must stay alone there.
    events, sys.stdout = sys.stdout, sys.stderr
    request = EvaluationRequest.read(Path(sys.argv[1]))
    try:
        run(request, events)
    except HarnessError as error:
        sys.stderr.write(f"\nerror: {error}\n")
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
