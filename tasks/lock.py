"""One pipeline run at a time, over processes and machines: the lease, its heartbeat, its loss.

docs/design/lease.md says why this is sound. In short: a row of the warehouse says whose turn it
is; a thread renews it while the run goes on; whoever lost it can't open the warehouse any more.
"""

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from locus.durable import whole_file
from tasks.logs import keep_log
from tasks.owner import gone, this_run
from tasks.settings import Settings
from warehouse.errors import WarehouseBusyError
from warehouse.leases import LeaseLostError, Owner, fence, fenced
from warehouse.store import Warehouse

if TYPE_CHECKING:
    from filelock import FileLock

log = logging.getLogger("locus.pipeline")

_POLL_S = 1.0  # the longest between two looks of whoever is next
_LOOK_S = 10.0  # the longest between two looks of those behind
_BUSY_S = 2.0  # a file that can't be opened for so long is somebody's for longer
_SAY_S = 30.0

# Two threads of one process have the file open together; only one at a time may ask for the lease.
_ASKING = threading.Lock()
_beats: dict[Path, "_Heartbeat"] = {}


class PipelineBusyError(RuntimeError):
    """Another run holds the pipeline; the message says who, since when, and what to do."""


@contextmanager
def pipeline_lock(settings: Settings, wait_s: float = 0, what: str | None = None) -> Iterator[None]:
    """Hold the pipeline: nobody else does, in whatever process, on whatever machine.

    While it is held, a thread gives a sign of life every third of `lease_seconds`. A run that was
    paused for longer than that and taken for dead can open the warehouse no more.

    Args:
        settings: the pipeline's settings.
        wait_s: how long to wait for another run to end; 0 gives up at once, unless the other
            looks dead: then it is watched for the length of its lease.
        what: what this run does; by default the flow run or the command that it is.

    Raises:
        PipelineBusyError: another run is still going on.
        LeaseLostError: this run was taken for dead, and another one goes on since.
    """
    from filelock import FileLock  # `locus status` asks about the lease and takes none

    settings.home.mkdir(parents=True, exist_ok=True)
    keep_log(settings)
    seconds = settings.lease_seconds
    # Runs on one machine queue up here, and whoever is next starts at once. It's a courtesy only:
    # a stopped process keeps it, so those behind look for themselves now and then.
    gate = FileLock(settings.lock)
    try:
        token = _wait(settings, gate, wait_s, _Candidate(settings, this_run(what), seconds))
        with fenced(settings.warehouse, token):
            beat = _Heartbeat(settings, token, seconds)
            beat.start()
            try:
                yield
            except BaseException:
                beat.stop()
                _give_back(settings, token, quietly=True)
                raise
            beat.stop()
            _give_back(settings, token, quietly=False)
    finally:
        gate.release()


@contextmanager
def while_held(settings: Settings) -> Iterator[None]:
    """Do something outside of the warehouse that only the holder of the pipeline may do.

    The warehouse stays open meanwhile, so nobody can take the lease over before the block ends;
    keep it short. Without a lease in this process nothing is refused.

    Raises:
        LeaseLostError: this process lost the lease; the block isn't entered.
    """
    with Warehouse.open(settings.warehouse):
        yield


def ensure_held(settings: Settings) -> None:
    """Refuse to go on without the lease; for a single act to be refused, see `while_held`.

    Raises:
        LeaseLostError: this process lost the lease.
    """
    with while_held(settings):
        pass


def raise_if_lost(settings: Settings) -> None:
    """Refuse to go on if the heartbeat found the lease lost; costs nothing, for use in loops.

    Raises:
        LeaseLostError: this process lost the lease.
    """
    beat = _beats.get(settings.warehouse.resolve())
    if beat is not None and beat.lost is not None:
        raise LeaseLostError(str(beat.lost))


def lease_status(settings: Settings) -> dict[str, Any] | None:
    """Who holds the pipeline, without disturbing them: the warehouse is not opened.

    Returns:
        ``what``, ``flow_run_id``, ``host``, ``pid``, ``taken_at``, ``heartbeat_at``,
        ``expires_at`` (UTC) and ``state``: running, silent (no sign of life for the length of its
        lease) or dead (its process, on this machine, is gone). None if nobody does.
    """
    try:
        row = json.loads(note_file(settings).read_text(encoding="utf-8"))
        for name in ("taken_at", "heartbeat_at", "expires_at"):
            row[name] = datetime.fromisoformat(row[name])
        dead = gone(row["machine"], row["pid"], row["process_start"])
        silent = row["expires_at"] < datetime.now(UTC)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s can't be read: %s", note_file(settings), error)
        return None
    shown = ("what", "flow_run_id", "host", "pid", "taken_at", "heartbeat_at", "expires_at")
    state = "dead" if dead else "silent" if silent else "running"
    return {**{name: row.get(name) for name in shown}, "state": state}


# --- taking it -----------------------------------------------------------------------------------


class _Candidate:
    """A run that wants the lease, and what it has seen of the one that has it.

    Attributes:
        why: why it can't have it yet.
        until: on the monotonic clock, when an owner that looks dead will have been watched enough.
        look_s: seconds after which it looks again if it isn't next.
    """

    def __init__(self, settings: Settings, owner: Owner, seconds: float) -> None:
        self.why = ""
        self.until = 0.0
        self.look_s = min(_POLL_S, seconds / 6)
        self._settings = settings
        self._owner = owner
        self._seconds = seconds
        self._seen: tuple[int, datetime] | None = None
        self._lives = False
        self._since = 0.0

    def ask(self) -> int | None:
        """Take the lease if it is free or its owner dead.

        Returns:
            The lease's token; None if another run holds it.
        """
        before = time.monotonic()
        try:
            with _ASKING, Warehouse.open(self._settings.warehouse, wait_s=_BUSY_S) as warehouse:
                row = warehouse.leases.get()
                died = None if row["released_at"] is not None else self._died(row, before)
                if row["released_at"] is None and died is None:
                    self._watch(row)
                    return None
                with warehouse.transaction():
                    token = warehouse.leases.take(self._owner, self._seconds, row["token"])
                    if died and token is not None:
                        detail = {"from": _said(row), "why": died, "token": token}
                        warehouse.audit("take over", "lease", detail)
                _note(self._settings, warehouse)
        except WarehouseBusyError as error:
            # Nobody could give a sign of life meanwhile, so nobody is dead for having given none.
            self._seen = None
            self.until = 0.0
            held = lease_status(self._settings)
            self.why = f"{_said(held)}; {error}" if held else str(error)
            return None
        if died and token is not None:
            log.warning("taking over from %s: %s", _said(row), died)
            _close_flow_run(row, died)
        return token

    def _died(self, row: dict[str, Any], before: float) -> str | None:
        """Why an owner counts as dead; None if it doesn't."""
        if gone(row["machine"], row["pid"], row["process_start"]):
            return "its process is gone"
        me = (self._owner.machine, self._owner.pid, self._owner.process_start)
        if (row["machine"], row["pid"], row["process_start"]) == me:
            # Another thread of ours; or a lease that couldn't be given back at its end.
            left = fence(self._settings.warehouse) != row["token"]
            return "it ended without giving the lease back" if left else None
        # Watched with our own clock, and only while the warehouse could be opened: whatever the
        # owner's clock shows, a live one has given a sign of life in between.
        length = _length(row)
        if self._seen == _key(row) and before - self._since >= length:
            return f"it gave no sign of life for {length:g} s"
        return None

    def _watch(self, row: dict[str, Any]) -> None:
        if self._seen != _key(row):
            # A sign of life while it is watched: its clock is wrong, it isn't dead.
            self._lives = self._seen is not None and self._seen[0] == row["token"]
            self._seen, self._since = _key(row), time.monotonic()
        looks_dead = not self._lives and row["expires_at"] <= datetime.now(UTC)
        self.until = self._since + _length(row) + 2 * _POLL_S if looks_dead else 0.0
        self.look_s = min(_length(row) / 6, _LOOK_S)
        self.why = _said(row)


def _key(row: dict[str, Any]) -> tuple[int, datetime]:
    return row["token"], row["heartbeat_at"]


def _length(row: dict[str, Any]) -> float:
    """Seconds that the owner's lease lasts without a sign of life; the owner's own setting."""
    return float((row["expires_at"] - row["heartbeat_at"]).total_seconds())


def _wait(settings: Settings, gate: "FileLock", wait_s: float, candidate: _Candidate) -> int:
    """Wait for the lease.

    Returns:
        Its token.

    Raises:
        PipelineBusyError: another run still holds it.
    """
    from filelock import Timeout

    deadline = time.monotonic() + wait_s
    said = -_SAY_S
    pause = _POLL_S / 10
    while True:
        left = max(deadline, candidate.until) - time.monotonic()
        if not gate.is_locked:
            with suppress(Timeout):
                gate.acquire(timeout=min(max(left, 0.0), candidate.look_s))
        token = candidate.ask()
        if token is not None:
            return token
        at = time.monotonic()
        if at >= max(deadline, candidate.until):
            raise PipelineBusyError(
                f"another run holds the pipeline of {settings.home}: {candidate.why}; wait for it "
                "to end, then try again"
            )
        if at - said >= _SAY_S:
            log.info("waiting for another run to end: %s", candidate.why)
            said = at
        if gate.is_locked:
            time.sleep(pause)
            pause = min(1.5 * pause, _POLL_S, candidate.look_s)


def _said(row: dict[str, Any]) -> str:
    """Who holds it, in words; of a row of the lease, or of `lease_status`."""
    silent = (datetime.now(UTC) - row["heartbeat_at"]).total_seconds()
    return (
        f"{row['what']} on {row['host']}, process {row['pid']}, since "
        f"{row['taken_at']:%Y-%m-%d %H:%M:%S} UTC, last sign of life {max(silent, 0):.0f} s ago"
    )


def _close_flow_run(row: dict[str, Any], why: str) -> None:
    """Tell Prefect that the run of a dead owner is no longer running."""
    if row["flow_run_id"]:
        from tasks.heal import close_flow_run

        close_flow_run(row["flow_run_id"], f"{why}: {_said(row)}")


# --- keeping it and giving it back ---------------------------------------------------------------


class _Heartbeat(threading.Thread):
    """Gives signs of life until it is stopped, or finds the lease lost."""

    def __init__(self, settings: Settings, token: int, seconds: float) -> None:
        super().__init__(name="lease-heartbeat", daemon=True)
        self.lost: LeaseLostError | None = None
        self._settings = settings
        self._token = token
        self._seconds = seconds
        self._end = threading.Event()

    def start(self) -> None:
        _beats[self._settings.warehouse.resolve()] = self
        super().start()

    def stop(self) -> None:
        """End it, after what it is at."""
        self._end.set()
        self.join()
        del _beats[self._settings.warehouse.resolve()]

    def run(self) -> None:
        pause = self._seconds / 3
        while not self._end.wait(pause):
            try:
                with Warehouse.open(self._settings.warehouse, wait_s=_BUSY_S) as warehouse:
                    warehouse.leases.renew(self._token, self._seconds)
                    _note(self._settings, warehouse)
                pause = self._seconds / 3
            except LeaseLostError as error:
                self.lost = error
                log.error("%s", error)
                return
            except Exception as error:
                # A busy file, a full disk: the next one may come through, and must be tried.
                log.warning("no sign of life could be given, trying again: %s", error)
                pause = min(1.0, self._seconds / 3)


def _give_back(settings: Settings, token: int, *, quietly: bool) -> None:
    """Give the lease back.

    Args:
        settings: the pipeline's settings.
        token: the lease's.
        quietly: whether the run failed anyway: then a lost lease is no second error.

    Raises:
        LeaseLostError: it is another's by now.
    """
    try:
        with Warehouse.open(settings.warehouse) as warehouse:
            warehouse.leases.release(token)
            note_file(settings).unlink(missing_ok=True)
    except LeaseLostError as error:
        if not quietly:
            raise
        log.error("%s", error)
    except Exception as error:
        # What the run did is done. Here the next one sees that this process is gone.
        log.warning(
            "the lease couldn't be given back (%s); on another machine the next run waits for its "
            "end, %g s after the last sign of life", error, settings.lease_seconds,
        )  # fmt: skip


def note_file(settings: Settings) -> Path:
    """Where it lies who holds the pipeline, for those who only want to know."""
    return settings.lock.with_suffix(".json")


def _note(settings: Settings, warehouse: Warehouse) -> None:
    """Write who holds the lease beside the warehouse, for those who only want to know.

    The warehouse is open, so notes are written in the order of what they say.
    """
    row = warehouse.leases.get()
    try:
        with whole_file(note_file(settings)) as stream:
            stream.write((json.dumps(row, default=datetime.isoformat, indent=1) + "\n").encode())
    except OSError as error:
        log.warning("%s couldn't be written: %s", note_file(settings), error)
