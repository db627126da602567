"""Following one job of a pool: signs of life both ways, and what it is when it says no more."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from locus.budget import Spent
from locus.evaluation.failure import Failure
from locus.evaluation.jobs import NOTHING, JobFolder, Limits, Report, Wanted
from locus.storage import StorageError
from tasks.pool_server import plain, start_command, state_of

log = logging.getLogger("locus.pipeline")

POLL_S = 5.0  # the longest between two looks at a job
STATE_S = 10.0  # between two questions to Prefect's server about one job
UNTAKEN_S = 60.0  # after so long without a worker people are told, and again after as long
# What a process that has begun may need to load what the first sign of life takes.
FIRST_SIGN_S = 60.0
# What a job that has run out of time may take to say so itself.
GRACE_S = 60.0


class Pool:
    """What all jobs of this process know of one pool."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._sign = self._told = time.monotonic()

    def lives(self) -> None:
        """Note that one of its workers gave a sign of life."""
        with self._lock:
            self._sign = time.monotonic()

    def silent_s(self, since: float) -> float:
        """Seconds since a sign of life of any worker, or since then if that is later."""
        with self._lock:
            return time.monotonic() - max(self._sign, since)

    def tell(self, silent_s: float) -> None:
        """Tell people that nobody takes jobs, once a while for all jobs."""
        with self._lock:
            now = time.monotonic()
            if silent_s < UNTAKEN_S or now - self._told < UNTAKEN_S:
                return
            self._told = now
        log.warning("no worker of pool %s has taken a job for %.0f s: %s", self.name, silent_s,
                    start_command(self.name))  # fmt: skip


_POOLS: dict[str, Pool] = {}
_POOLS_LOCK = threading.Lock()


def pool_of(name: str) -> Pool:
    """What this process knows of a pool."""
    with _POOLS_LOCK:
        return _POOLS.setdefault(name, Pool(name))


@dataclass(frozen=True)
class End:
    """How a job ended.

    Attributes:
        spent: what was spent, as far as it was told.
        error: why the model failed.
        kind: what kind of failure that was.
        stopped: why it ended early, in good order.
        died: what makes it count as dead.
    """

    spent: Spent = NOTHING
    error: str | None = None
    kind: Failure | None = None
    stopped: str | None = None
    died: str | None = None


class Follow:
    """Follows one job: gives signs of life, fetches parts, and finds out if its worker is dead."""

    def __init__(
        self,
        model_id: str,
        pool: Pool,
        folder: JobFolder,
        limits: Limits,
        flow_run: UUID,
        start_s: float,
        on_news: Callable[[Report], None],
        go_on: Callable[[], None],
    ) -> None:
        """Follow a job that was just given out.

        Args:
            model_id: the model, for messages.
            pool: where it was given.
            folder: the job's.
            limits: the job's.
            flow_run: what carries its address.
            start_s: seconds that it may take from being taken to its first sign of life.
            on_news: called with each new report; may raise `StorageError`, and is called again.
            go_on: called now and then; raises to end it.
        """
        self._model = model_id
        self._pool = pool
        self._folder = folder
        self._limits = limits
        self._flow_run = flow_run
        self._start_s = start_s
        self._on_news = on_news
        self._go_on = go_on
        self._report: Report | None = None
        self._given = time.monotonic()
        self._taken: float | None = None
        self._began: float | None = None
        self._heard: float | None = None
        self._beat = 0
        self._beaten = -limits.beat_s
        self._stated = self._given
        self._state: tuple[str, str] | None = None

    def to_its_end(self) -> End:
        """Look again and again until it has ended, or counts as dead."""
        poll_s = min(POLL_S, self._limits.beat_s)
        while True:
            self._go_on()
            # First the state: whoever has ended well has reported before.
            self._ask_for_state()
            try:
                self._want()
                if (report := self._look()) is not None and report.ended:
                    return self._end(
                        error=report.error and plain(report.error),
                        kind=report.kind,
                        stopped=report.stopped,
                    )
                end = self._dead()
            except StorageError as error:
                # Nobody could give a sign of life meanwhile, so nobody is dead for giving none.
                log.warning("%s: %s", self._model, error)
                if self._heard is not None:
                    self._heard = time.monotonic()
                gone = time.monotonic() - self._given > self._limits.timeout_s
                end = self._end(died=str(error)) if gone else None
            if end is not None:
                return end
            # A job that lies in the queue has nothing to tell; many of them must not cost much.
            time.sleep(poll_s if self._taken is not None else self._limits.beat_s)

    def _want(self) -> None:
        now = time.monotonic()
        if now - self._beaten < self._limits.beat_s:
            return
        self._beat += 1
        self._folder.want(Wanted(self._beat, ask=not self._over()))
        self._beaten = now

    def _over(self) -> bool:
        """Whether the minutes of a budget are over."""
        minutes = self._limits.budget.minutes
        return minutes is not None and time.monotonic() - self._given >= 60 * minutes

    def _look(self) -> Report | None:
        """The worker's report if it is a new one; what it tells of is fetched."""
        report = self._folder.report()
        if report is None or (self._report and report.beat == self._report.beat):
            return None
        self._on_news(report)
        self._pool.lives()
        now = self._heard = time.monotonic()
        if self._report is None:
            log.info("%s: %s has taken it", self._model, plain(report.host))
            self._taken = self._taken or now
            self._beaten = -self._limits.beat_s  # it waits for a sign of life
        self._report = report
        return report

    def _end(
        self,
        *,
        error: str | None = None,
        kind: Failure | None = None,
        stopped: str | None = None,
        died: str | None = None,
    ) -> End:
        return End(self._report.spent if self._report else NOTHING, error, kind, stopped, died)

    def _ask_for_state(self) -> None:
        now = time.monotonic()
        if now - self._stated >= min(STATE_S, self._limits.silence_s / 2):
            self._stated = now
            self._state = state_of(self._flow_run) or self._state

    def _dead(self) -> End | None:
        """How it ended without a word, if it did."""
        now = time.monotonic()
        kind, said = self._state or ("SCHEDULED", "")
        if kind in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
            where = f" on {plain(self._report.host)}" if self._report else ""
            return self._end(died=f"its flow run{where} is {kind.lower()}: {plain(said)}")
        if self._heard is not None:
            if now - self._heard >= self._limits.silence_s:
                host = plain(self._report.host) if self._report else ""
                return self._end(
                    died=f"its worker on {host} gave no sign of life for "
                    f"{self._limits.silence_s:g} s"
                )
            longest = self._limits.timeout_s + self._limits.silence_s + GRACE_S
            if now - (self._taken or now) >= longest:
                return self._end(died=f"its worker didn't end within {longest:.0f} s")
            return None
        if self._over():
            return self._end(stopped="the budget of time was spent before a worker took it")
        if kind != "SCHEDULED":
            self._taken = self._taken or now
            if now - self._taken >= self._start_s:
                return self._end(
                    died=f"a worker took it and didn't begin within {self._start_s:g} s "
                    "(`pool_start_seconds`)"
                )
            if kind == "RUNNING":
                # No image is pulled any more, and the first sign of life is the first thing done.
                self._began = self._began or now
                longest = max(self._limits.silence_s, FIRST_SIGN_S)
                if now - self._began >= longest:
                    return self._end(
                        died=f"a worker began it and gave no sign of life for {longest:g} s"
                    )
            return None
        pool = self._pool
        silent_s = pool.silent_s(self._given)
        pool.tell(silent_s)
        if silent_s >= self._limits.timeout_s:
            return self._end(
                error=f"no worker of pool {pool.name} took it within {silent_s / 60:.0f} min "
                f"(`timeout_minutes`): {start_command(pool.name)}",
                kind=Failure.NOBODY,
            )
        return None
