"""The log of runs for programs: a JSON object per line, with the ids of what it is about.

One file per day (UTC) under `logs/` of the home, to which any number of processes append whole
lines: nothing is ever renamed under a writer, and days that are over are removed in time. What a
terminal or Prefect shows is not touched.

Text of others (a model's answer, an error) is escaped by JSON; values of environment variables
that are named like secrets, and credentials in addresses, never get into the file.
"""

import json
import logging
import os
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tasks.hidden import HIDDEN, without_logins
from tasks.settings import Settings

LOGGERS = ("locus", "warehouse")
KEEP_DAYS = 30
# A traceback or an answer that a message quotes may be of any length.
LONGEST = 20_000
EMPTY: Mapping[str, str] = MappingProxyType({})

_NAME = re.compile(r"pipeline-(\d{4}-\d{2}-\d{2})\.jsonl")
_SECRET_NAME = re.compile(
    r"(key|token|secret|passw[a-z]*|credential|auth_string)s?(_|$)", re.IGNORECASE
)
_SECRET_LEAST = 8  # characters; what is shorter is a word like "true"

_ids: ContextVar[Mapping[str, str]] = ContextVar("locus_log_ids")


@contextmanager
def log_ids(**ids: str | None) -> Iterator[None]:
    """Every record of this block, in this thread or task, carries these ids; None takes one away.

    Example: `with log_ids(run_id=run_id, model_id=spec.id): ...`
    """
    both = {**_ids.get(EMPTY), **ids}
    token = _ids.set({name: value for name, value in both.items() if value is not None})
    try:
        yield
    finally:
        _ids.reset(token)


def keep_log(settings: Settings) -> None:
    """From now on this process writes what it logs to the file of the day.

    Called at the start of every flow; a second call changes the home and the flow run that records
    of threads without a context of their own, such as the lease's heartbeat, belong to.

    Args:
        settings: the pipeline's settings.
    """
    folder = (settings.home / "logs").resolve()
    kept = {h for name in LOGGERS for h in logging.getLogger(name).handlers}
    for handler in (h for h in kept if isinstance(h, _DayFile)):
        if handler.folder == folder:
            handler.base = _flow_run()
            return
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(handler)
        handler.close()
    made = _DayFile(folder, _flow_run())
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if logger.getEffectiveLevel() > logging.INFO:
            logger.setLevel(logging.INFO)
        logger.addHandler(made)


def _said(record: logging.LogRecord) -> dict[str, Any]:
    """A record as a JSON object, without ids."""
    row: dict[str, Any] = {
        "logged_at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
        "level": record.levelname,
        "logger": record.name,
        "message": record.getMessage(),
    }
    if record.exc_info:
        row["traceback"] = logging.Formatter().formatException(record.exc_info)
    return row


class _DayFile(logging.Handler):
    """Appends each record to the file of the day in one write, which no other can come between.

    Attributes:
        folder: where the files lie; made with the first record.
        base: ids of the process.
    """

    def __init__(self, folder: Path, base: Mapping[str, str]) -> None:
        super().__init__()
        self.folder = folder
        self.base = base
        self._host = socket.gethostname()
        self._day: date | None = None
        self._file = -1

    def emit(self, record: logging.LogRecord) -> None:
        try:
            ids = {**self.base, **_prefect_context(), **_ids.get(EMPTY)}
            row = {**_said(record), **ids, "host": self._host, "pid": os.getpid()}
            self._turn(datetime.fromtimestamp(record.created, UTC).date())
            os.write(self._file, (json.dumps(_clean(row)) + "\n").encode())
        except Exception:  # as every handler of the standard library: a log ends no run
            self.handleError(record)

    def close(self) -> None:
        self.acquire()
        try:
            if self._file >= 0:
                os.close(self._file)
            self._file, self._day = -1, None
        finally:
            self.release()
        super().close()

    def _turn(self, day: date) -> None:
        """Open the file of a day and remove those that are too old."""
        if day == self._day:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"pipeline-{day.isoformat()}.jsonl"
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        if self._file >= 0:
            os.close(self._file)
        self._file, self._day = file, day
        for old in self.folder.iterdir():
            found = _NAME.fullmatch(old.name)
            if found and found[1] < (day - timedelta(days=KEEP_DAYS)).isoformat():
                old.unlink(missing_ok=True)


def _clean(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose texts are of bounded length and without secrets."""
    secrets = [
        value
        for name, value in os.environ.items()
        if len(value) >= _SECRET_LEAST and _SECRET_NAME.search(name)
    ]
    return {k: _hide(v, secrets)[:LONGEST] if isinstance(v, str) else v for k, v in row.items()}


def _hide(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return without_logins(text)[0]


def _flow_run() -> dict[str, str]:
    """The flow run of this process; empty outside of one."""
    if "prefect" not in sys.modules:  # else this is no flow run, and importing it takes seconds
        return {}
    found = _prefect_context()
    return {name: found[name] for name in ("flow", "flow_run", "flow_run_id") if name in found}


def _prefect_context() -> dict[str, str]:
    """Flow run and step of this thread, as Prefect's context has them: no server is asked."""
    if "prefect.context" not in sys.modules:
        return {}
    from prefect.context import FlowRunContext, TaskRunContext

    found = {}
    flow, task = FlowRunContext.get(), TaskRunContext.get()
    if flow is not None and flow.flow_run is not None:
        found = {
            "flow": flow.flow.name if flow.flow else flow.flow_run.name,
            "flow_run": flow.flow_run.name,
            "flow_run_id": str(flow.flow_run.id),
        }
    if task is not None:
        found |= {"step": task.task.name, "task_run_id": str(task.task_run.id)}
        if task.task_run.flow_run_id is not None:
            found["flow_run_id"] = str(task.task_run.flow_run_id)
    return found
