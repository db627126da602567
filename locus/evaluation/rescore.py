"""Having stored answers scored anew, in a worker process; no model is asked."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from locus.evaluation.child import WorkerFailedError, started
from locus.evaluation.launch import worker_environment

# Tells the worker that standard input is the pipe that it ends with.
PIPED = "--piped"


class RescoreFailedError(RuntimeError):
    """The worker ended before it was done; what it has told until then is whole."""


@dataclass(frozen=True)
class RescoreRequest:
    """Score stored answers anew.

    Attributes:
        tasks: tasks, groups or tags to load.
        metrics: metric that is wanted, by task, as ``metric`` or ``metric,filter``, instead of the
            first that the task lists.
        task_folders: folders of task configurations.
        parts: folder that scores are written to.
        answers: Parquet file of answers by task, with at least ``model_id``, ``revision``,
            ``query_id``, ``task_version``, ``score``, ``response``, ``doc_hash``, ``prompt_hash``,
            ``scored_at``. Empty: only say which metrics are wanted.
    """

    tasks: list[str]
    parts: str
    metrics: dict[str, str] = field(default_factory=dict)
    task_folders: list[str] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)


def launch(
    request: RescoreRequest,
    work: Path,
    timeout_s: float,
    on_event: Callable[[dict[str, Any]], None],
) -> None:
    """Run a request in a process of its own, without any key.

    Args:
        request: what to score.
        work: folder for the request and the worker's log.
        timeout_s: wall time after which the worker is killed.
        on_event: gets each event as it comes.

    Raises:
        RescoreFailedError: the worker failed, was killed, or ran out of time; events that came
            before hold.
    """
    work.mkdir(parents=True, exist_ok=True)
    # Not request.json: that is an evaluation's, and would be healed as one.
    request_path, log_path = work / "rescore.json", work / "worker.log"
    request_path.write_text(json.dumps(asdict(request), indent=1) + "\n", encoding="utf-8")
    try:
        with started(
            "locus.evaluation.rescore_worker",
            [str(request_path), PIPED],
            log_path,
            worker_environment(),
            timeout_s,
        ) as worker:
            for event in worker.events():
                on_event(event)
    except WorkerFailedError as error:
        raise RescoreFailedError(str(error)) from error
