"""A job at work: a machine far from the pipeline asks one model and brings the parts to storage.

The evaluation itself is that of `launch`, in a scratch folder of this machine. Beside it a courier
gives signs of life, brings each part as soon as it is finished, and looks whether the pipeline
still wants the answers: if it gives no sign of life for the silence limit, has taken the job back,
or storage can't be reached for as long, no further chunk is asked. The first question waits for a
sign of life too, so that a job that lay in a queue until its pipeline was long dead asks nothing.
"""

import logging
import socket
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from locus.budget import Budget, Estimate, Ledger, Purse
from locus.evaluation.failure import Failure
from locus.evaluation.jobs import NOTHING, Job, JobFolder, Parts, Report
from locus.evaluation.launch import EvaluationFailedError, Progress, evaluate
from locus.evaluation.request import EvaluationRequest
from locus.storage import StorageError

log = logging.getLogger(__name__)

# Other versions would find other questions, or put them otherwise.
MUST_AGREE = ("locus-map", "lm_eval")
_LEAST_S = 0.2


class WrongMachineError(RuntimeError):
    """A machine that can't do the job as it is meant; another one may."""


@dataclass(frozen=True)
class Machine:
    """What this machine says of itself; None leaves it to the job.

    Attributes:
        threads: CPU threads of the evaluation.
        task_folders: folders of task configurations.
        batch_size: sequences of one forward pass.
        device: torch device.
        memory_gb: main memory of the evaluation (GB, of 1e9 bytes).
    """

    threads: int | None = None
    task_folders: list[str] | None = None
    batch_size: int | None = None
    device: str | None = None
    memory_gb: float | None = None

    def own(self, request: EvaluationRequest) -> EvaluationRequest:
        """The request as it is asked here; nothing that decides an answer is changed."""
        said = {name: getattr(self, name) for name in ("task_folders", "batch_size", "device")}
        return replace(request, **{name: what for name, what in said.items() if what is not None})


def agreed_versions() -> dict[str, str]:
    """Versions here of what must be the same at both ends."""
    found = {}
    for package in MUST_AGREE:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found


def run_job(address: str, machine: Machine) -> Report:
    """Do a job to its end.

    Args:
        address: of the job's folder.
        machine: what this machine says of itself.

    Returns:
        What was brought last. A model that failed is told in it, and no exception.

    Raises:
        StorageAddressError: the address is none of a job, or can't be used here.
        StorageError: storage can't be reached, and what was finished can't be brought.
        WrongMachineError: versions here are not those of the pipeline.
    """
    folder = JobFolder.at(address)
    job = folder.job()
    host = socket.gethostname()
    if job is None:
        return Report(0, host, ended=True, stopped="the job was taken back before it began")
    if (here := agreed_versions()) != job.versions:
        raise WrongMachineError(
            f"{host} has {_said(here)}, the pipeline {_said(job.versions)}: install the same there"
        )
    with tempfile.TemporaryDirectory(prefix="locus-job-") as scratch:
        work = Path(scratch)
        request = machine.own(job.read_request(work))
        courier = _Courier(folder, job, work, request.n_queries)
        courier.start()
        purse = _LentPurse(job.limits.budget, job.limits.estimate, courier)
        error = kind = None
        try:
            evaluate(
                request,
                work,
                job.limits.timeout_s,
                machine.threads,
                courier.note,
                purse=purse,
                memory_gb=machine.memory_gb or job.limits.memory_gb,
            )
        except EvaluationFailedError as failure:
            error, kind = failure.reason, failure.kind
        except BaseException:
            courier.stop()
            raise
        stopped = None if error else courier.unwanted or purse.stopped
        return courier.finish(error, kind, stopped)


def _said(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())


class _LentPurse(Purse):
    """What the pipeline set aside for this job, given only as long as it is wanted."""

    def __init__(self, budget: Budget, estimate: Estimate, courier: "_Courier") -> None:
        super().__init__(Ledger(Budget()), budget, estimate)
        self._courier = courier
        courier.purse = self

    def allow(self, n: int) -> int:
        return super().allow(n) if self._courier.is_wanted() else 0


class _Courier(threading.Thread):
    """Carries parts and signs of life between the evaluation and storage.

    Attributes:
        unwanted: why nothing more is to be asked; None as long as it is.
        purse: what the evaluation spends from.
    """

    def __init__(self, folder: JobFolder, job: Job, work: Path, of: int) -> None:
        super().__init__(name="job-courier", daemon=True)
        self.unwanted: str | None = None
        self.purse: Purse | None = None
        self._folder = folder
        self._limits = job.limits
        self._work = work
        self._parts = Parts(folder.storage, job.parts)
        # Finished by an attempt before this one: not asked again, and not brought again.
        self._brought = set(self._parts.fetch(work / "parts"))
        self._beat = 0
        self._host = socket.gethostname()
        self._progress = Progress(0, of)
        self._decided = threading.Event()
        self._wake = threading.Event()
        self._over = threading.Event()
        self._seen: int | None = None
        self._since = time.monotonic()

    def note(self, progress: Progress) -> None:
        """Take down how far the evaluation is, and wake up."""
        self._progress = progress
        self._wake.set()

    def is_wanted(self) -> bool:
        """Whether to ask on; before the first sign of life of the pipeline it is waited for."""
        self._decided.wait()
        return self.unwanted is None

    def run(self) -> None:
        """Go to and fro until stopped."""
        while not self._over.is_set():
            try:
                self._look()
                self._bring()
            except StorageError as error:
                log.warning("%s", error)
                self._if_silent("storage can't be reached")
            # A pipeline that was just told of this job answers soon.
            pause = self._limits.beat_s if self._decided.is_set() else min(1, self._limits.beat_s)
            self._wake.wait(pause)
            self._wake.clear()
            self._over.wait(_LEAST_S)

    def stop(self) -> None:
        """End it, after what it is at."""
        self._over.set()
        self._wake.set()
        self.join()

    def finish(self, error: str | None, kind: Failure | None, stopped: str | None) -> Report:
        """Bring what is left and the last report.

        Raises:
            StorageError: that wasn't possible within the silence limit.
        """
        self.stop()
        deadline = time.monotonic() + self._limits.silence_s
        while True:
            try:
                self._folder.bring_log(self._work / "worker.log")
                return self._bring(ended=True, error=error, kind=kind, stopped=stopped)
            except StorageError as failure:
                if time.monotonic() >= deadline:
                    raise
                log.warning("%s; trying again", failure)
                time.sleep(self._limits.beat_s)

    def _look(self) -> None:
        """Look for a sign of life of the pipeline."""
        wanted = self._folder.wanted()
        if wanted is None:
            self._end("the job was taken back")
        elif not wanted.ask:
            self._end("the pipeline's budget of time is spent")
        elif wanted.beat != self._seen:
            if self._seen is not None:
                self._decided.set()
            self._seen, self._since = wanted.beat, time.monotonic()
        else:
            self._if_silent("the pipeline is silent")

    def _if_silent(self, why: str) -> None:
        if time.monotonic() - self._since >= self._limits.silence_s:
            self._end(f"{why} for {self._limits.silence_s:g} s")

    def _end(self, why: str) -> None:
        if self.unwanted is None:
            log.warning("job %s: %s; no further chunk is asked", self._folder.name, why)
            self.unwanted = why
            self._decided.set()

    def _bring(
        self,
        *,
        ended: bool = False,
        error: str | None = None,
        kind: Failure | None = None,
        stopped: str | None = None,
    ) -> Report:
        """Bring new parts, then say so."""
        progress = self._progress
        for path in sorted((self._work / "parts").glob("*.parquet")):
            if path not in self._brought:
                self._parts.bring(path)
                self._brought.add(path)
        self._beat += 1
        report = Report(
            self._beat,
            self._host,
            progress.done,
            progress.of,
            progress.remaining_s,
            self.purse.spent if self.purse else NOTHING,
            ended,
            error,
            kind,
            stopped,
        )
        # Where the job was taken back nobody reads it, and nobody would remove it.
        if self._folder.wanted() is not None:
            self._folder.tell(report)
        return report
