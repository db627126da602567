"""Processes that `locus serve` starts and ends, with all that they started."""

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from flows.cli.terminal import safe
from tasks.settings import Settings

log = logging.getLogger("locus.serve")

# A process that doesn't end when it is told to is killed after so long.
GRACE_S = 15.0
_NOISE = (
    "nanobind: ",
    "- leaked ",
    "- ... skipped",
    "See https://nanobind",
    # What Prefect's server says after the reason why it can't start.
    "ERROR:    Application startup failed",
    "Server stopped!",
)


class ServeError(RuntimeError):
    """What keeps `locus serve` from going on; the message says what to do."""


@dataclass
class Child:
    """A process of ours: it ends when its standard input does, which is when this process ends."""

    name: str
    process: "subprocess.Popen[bytes]"
    log_file: Path

    @classmethod
    def start(
        cls,
        name: str,
        arguments: list[str],
        environment: Mapping[str, str],
        log_file: Path,
        keep: tuple[int, ...] = (),
    ) -> "Child":
        """Start flows/serve_child.py; ``keep`` are file descriptors that it is given."""
        with log_file.open("ab") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "flows.serve_child", *arguments],
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
                pass_fds=keep,
            )
        return cls(name, process, log_file)

    def must_live(self) -> None:
        """Check that it does.

        Raises:
            ServeError: it has ended.
        """
        status = self.process.poll()
        if status is not None:
            how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
            raise ServeError(
                f"the {self.name} has ended {how}: {self._last_words() or 'it said nothing'} "
                f"(log: {self.log_file}); start `locus serve` again, runs go on from where they "
                "were"
            )

    def stop(self) -> None:
        """End it and everything it started."""
        try:
            family = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            family = []
        self.process.terminate()
        try:
            self.process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            log.warning("the %s didn't end within %.0f s: killed", self.name, GRACE_S)
            self.process.kill()
            self.process.wait()
        # Whoever was orphaned on the way is still of its session.
        _sweep([*family, *_session(self.process.pid)])
        if self.process.stdin:
            self.process.stdin.close()

    def _last_words(self) -> str:
        """The last line of its log that says something."""
        text = self.log_file.read_bytes()[-4096:].decode("utf-8", errors="replace")
        lines = [safe(line).strip() for line in text.splitlines()]
        # The first four are what DuckDB's binding says whenever a process ends.
        lines = [line for line in lines if not line.startswith(_NOISE)]
        return next((line for line in reversed(lines) if line), "")[:300]


def _session(leader: int) -> list[psutil.Process]:
    """Processes of a session."""
    found = []
    for one in psutil.process_iter():
        with suppress(ProcessLookupError, PermissionError):
            if os.getsid(one.pid) == leader:
                found.append(one)
    return found


def _sweep(family: list[psutil.Process]) -> None:
    """End what is left of some processes: told first, killed after a while."""
    # A process id may have been given away since; psutil compares the time of birth.
    left = [one for one in family if one.is_running()]
    for one in left:
        with suppress(psutil.NoSuchProcess):
            one.terminate()
    for one in psutil.wait_procs(left, timeout=5)[1]:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(left, timeout=5)


@contextmanager
def only_one(settings: Settings) -> Iterator[None]:
    """One `locus serve` per home.

    Raises:
        ServeError: another one runs.
    """
    lock = FileLock(settings.home / "serve.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ServeError(
            f"another `locus serve` runs for {settings.home}: stop it first, or set LOCUS_HOME"
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def stop_signal() -> Iterator[threading.Event]:
    """An event that is set by SIGINT, SIGTERM or SIGHUP (unless `nohup` asked to ignore it)."""
    stop = threading.Event()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
