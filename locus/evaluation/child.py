"""Worker processes and whoever starts them: events one way, lines the other, one end for both.

A worker prints one JSON line per event on standard output and listens on standard input, a pipe
that ends when its starter does. What a worker does is its own module's affair.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from locus.evaluation.failure import Failure
from locus.evaluation.questions import HarnessError
from locus.evaluation.watch import Watch

log = logging.getLogger(__name__)

# Exit statuses of a worker: it says why in its last line, or nobody was left to read it.
RAISED = 1
FAILED = 2
ABANDONED = 4


class WorkerFailedError(RuntimeError):
    """A worker ended before it was done, or was ended; what it has told until then holds.

    Attributes:
        reason: one line.
        kind: what kind of failure it was.
    """

    def __init__(self, reason: str, kind: Failure, log_path: Path) -> None:
        super().__init__(f"{reason} (log: {log_path})")
        self.reason = reason
        self.kind = kind


class Worker:
    """A running worker, as its starter sees it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def events(self) -> Iterator[dict[str, Any]]:
        """Its events as they come, until it prints nothing any more."""
        for line in self._process.stdout or ():
            if (event := _read_event(line)) is not None:
                yield event

    def tell(self, line: str) -> None:
        """Send it a line; one that has ended hears nothing."""
        if self._process.stdin is None:
            raise RuntimeError("a worker was started without standard input")
        try:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            log.debug("worker %d has ended before it could be told to go on", self._process.pid)


@contextmanager
def started(
    module: str,
    arguments: Sequence[str],
    log_path: Path,
    environment: Mapping[str, str],
    timeout_s: float,
    memory_gb: float | None = None,
) -> Iterator[Worker]:
    """A worker that runs until it is done, but not past its limits and not past an error here.

    Args:
        module: what is run, as after ``python -m``.
        arguments: its command line.
        log_path: file that gets what it says on standard error, after what is there.
        environment: all of its environment.
        timeout_s: wall time after which it and its children are killed.
        memory_gb: see `Watch`.

    Yields:
        The worker. Read its events inside the block; at the end of it the worker is waited for.

    Raises:
        WorkerFailedError: it failed, was killed, or ran out of time or memory.
    """
    with log_path.open("ab") as worker_log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdout=subprocess.PIPE,
            stderr=worker_log,
            # It ends with this pipe, so that nobody goes on for a pipeline that was killed.
            stdin=subprocess.PIPE,
            env=environment,
            # A process group of its own: a limit ends its children too.
            start_new_session=True,
            text=True,
        )
        watch = Watch(process, timeout_s, memory_gb)
        try:
            yield Worker(process)
            status = process.wait()
        finally:
            watch.end()
    if watch.reason and watch.kind:
        raise WorkerFailedError(watch.reason, watch.kind, log_path)
    if status:
        raise WorkerFailedError(*_of_status(status, log_path), log_path)


def _of_status(status: int, log_path: Path) -> tuple[str, Failure]:
    """What an exit status other than 0 says of the end of a worker."""
    if status < 0:
        return f"killed by {signal.Signals(-status).name} (out of memory?)", Failure.KILLED
    kind = Failure.SAID if status == FAILED else Failure.CRASHED
    return _last_words(log_path) or f"exit status {status}", kind


def _read_event(line: str) -> dict[str, Any] | None:
    """A worker's event; None for a line that native code printed past the worker's own streams."""
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if isinstance(event, dict) and "event" in event:
        return event
    log.debug("a worker printed %r", line[:200])
    return None


def _last_words(log_path: Path) -> str:
    """The last line of a log that says something, without control characters."""
    text = log_path.read_bytes()[-8192:].decode("utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    return "".join(c for c in last if c.isprintable()).removeprefix("error: ")[:500]


# --- In the worker -------------------------------------------------------------------------------


def listen(heard: Callable[[str], None]) -> None:
    """Hand on each line that the starter sends; end this process when the starter has gone."""

    def read() -> None:
        # Not sys.stdin: a thread that waits in it can't be ended with the interpreter.
        rest = b""
        while more := os.read(0, 1024):
            *lines, rest = (rest + more).split(b"\n")
            for line in lines:
                heard(line.decode())
        # At once and from this thread: the other may be in the middle of a long computation. What
        # it is writing is under another name until it is whole.
        os._exit(ABANDONED)

    threading.Thread(target=read, daemon=True).start()


def work(run: Callable[[TextIO], None]) -> int:
    """Do a worker's work, telling events; its exit status.

    Args:
        run: gets the stream for events.
    """
    # lm-eval prints on standard output now and then; events must stay alone there.
    events, sys.stdout = sys.stdout, sys.stderr
    try:
        run(events)
    except HarnessError as error:
        sys.stderr.write(f"\nerror: {error}\n")
        return FAILED
    except Exception as error:
        # Libraries say what is wrong first and advice after it: the last line is all of it.
        traceback.print_exc()
        words = " ".join(str(error).split())
        sys.stderr.write(f"\nerror: {type(error).__name__}: {words}\n")
        return RAISED
    return 0
