"""Watching a worker process: limits of time and memory, and nothing of it left behind."""

import logging
import os
import signal
import subprocess
import threading
import time

from locus.evaluation.failure import Failure

log = logging.getLogger(__name__)

INTERVAL_S = 0.5


class Watch:
    """Kills a worker and its children when they pass a limit.

    Memory is measured, not limited by the operating system: limits on address space
    (``RLIMIT_AS``) count what is mapped, and a GPU's driver maps far more than anybody uses.

    Attributes:
        reason: why the worker was killed, one line; None if it was not.
        kind: the limit that it went past; None if it went past none.
    """

    def __init__(
        self, process: "subprocess.Popen[str]", timeout_s: float, memory_gb: float | None = None
    ) -> None:
        self.reason: str | None = None
        self.kind: Failure | None = None
        self._process = process
        self._timeout_s = timeout_s
        self._memory_gb = memory_gb
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop watching and kill what is left of the worker's process group.

        A child that outlived its worker would keep a GPU's memory.
        """
        self._over.set()
        self._thread.join()
        self._kill()
        self._process.wait()

    def _watch(self) -> None:
        deadline = time.monotonic() + self._timeout_s
        interval = INTERVAL_S if self._memory_gb is not None else self._timeout_s
        while not self._over.wait(max(0.0, min(interval, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                self._end_for(
                    Failure.TIME, f"no end within {self._timeout_s:.0f} s (`timeout_minutes`)"
                )
                return
            if self._memory_gb is not None and (used := memory_of(self._process.pid)) > (
                self._memory_gb * 1e9
            ):
                self._end_for(
                    Failure.MEMORY,
                    f"it used {used / 1e9:.2f} GB of memory, more than {self._memory_gb:g} GB "
                    "(`memory_gb`); raise the limit or lower `batch_size`",
                )
                return

    def _end_for(self, kind: Failure, reason: str) -> None:
        self.kind, self.reason = kind, reason
        self._kill()

    def _kill(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            log.debug("nothing is left of worker %d", self._process.pid)


def memory_of(pid: int) -> int:
    """Main memory of a process and its children, in bytes; 0 once it has ended.

    What they share is counted once for each: more than is used, never less.
    """
    import psutil

    total = 0
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for one in family:
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            log.debug("process %d has ended meanwhile", one.pid)
    return total
