"""Evaluation by a work pool: a model's questions are given to whatever machine takes them.

docs/design/scale.md says why this is sound. In short: a job lies in shared storage, Prefect only
carries its address; whoever takes it brings each finished part to storage, and from there it is
fetched while the job goes on. The pipeline stays the only one that opens the warehouse.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import polars as pl

from locus.budget import Purse
from locus.durable import remove_leftovers, whole_file
from locus.evaluation.failure import Failure
from locus.evaluation.jobs import JOBS, Job, JobFolder, Limits, Parts, Report, Wanted
from locus.evaluation.launch import EvaluationFailedError, Progress
from locus.evaluation.remote import agreed_versions
from locus.evaluation.request import EvaluationRequest
from locus.storage import StorageAddressError, StorageError, open_storage
from tasks.pool_follow import End, Follow, pool_of
from tasks.pool_server import PoolError, close, submit
from tasks.settings import Settings
from warehouse.errors import ContractError
from warehouse.parts import read_part

log = logging.getLogger("locus.pipeline")

_MARK = "storage.txt"


def evaluate_in_pool(
    settings: Settings,
    request: EvaluationRequest,
    purse: Purse,
    on_progress: Callable[[Progress], None],
    go_on: Callable[[], None],
) -> list[Path]:
    """Run a request on a machine of the pool, as `locus.evaluation.launch.evaluate` does here.

    A job whose worker dies is given out again, without what was answered before; one that used up
    what was set aside for it is followed by another if there is more.

    Args:
        settings: the pipeline's settings.
        request: what to ask; its parts' folder is where they come to lie here.
        purse: what may be spent.
        on_progress: called whenever there is news.
        go_on: called now and then; raises to end it.

    Returns:
        Paths of the parts, also of earlier runs if they had been left in storage.

    Raises:
        EvaluationFailedError: the model failed, too many workers died over it, or nobody took it;
            what was answered is in the error's ``parts``.
        StorageAddressError: the storage can't be used.
    """
    work = settings.home / "runs" / request.run_id
    request.write(work / "request.json")
    # Heal finds by it what a killed run left there, whatever the settings say then.
    with whole_file(work / _MARK) as stream:
        stream.write(settings.storage.encode())
    run = _Run(settings, request, work, on_progress, go_on)

    def failed(reason: str, kind: Failure) -> EvaluationFailedError:
        log_path = work / "worker.log"
        return EvaluationFailedError(request.model_id, reason, log_path, list(run.parts), kind)

    deaths, reason = 0, ""
    left = run.left()
    try:
        while left.n_queries and (allowed := purse.allow(left.n_queries)):
            if deaths >= settings.evaluation.pool_attempts:
                raise failed(
                    f"it was given out {deaths} times (`pool_attempts`); the last time: {reason}; "
                    "look at the pool's workers",
                    Failure.MACHINES,
                )
            if deaths:
                log.warning("%s: %s; it is given out again", request.model_id, reason)
            end = run.job(left, allowed, purse)
            purse.settle(end.spent)
            if end.error:
                raise failed(end.error, end.kind or Failure.SAID)
            reason = end.died or end.stopped or ""
            if not reason:
                break
            before, left = left, run.left()
            if end.died or left.n_queries == before.n_queries:
                deaths += 1
    finally:
        purse.close()
    return list(run.parts)


def fetch_left(settings: Settings, run_id: str, request: EvaluationRequest) -> None:
    """Take back what an interrupted run gave out, and fetch what was answered; for `heal`.

    Raises:
        StorageError: storage can't be reached.
        StorageAddressError: it can't be used.
    """
    mark = settings.home / "runs" / run_id / _MARK
    remove_leftovers(mark)
    if not mark.exists():
        return
    storage = open_storage(mark.read_text(encoding="utf-8"))
    for name in storage.names(JOBS):
        if name.startswith(f"{JOBS}/{run_id}-"):
            storage.remove(name)
    Parts(storage, _folder(request)).fetch(Path(request.parts))


def forget(settings: Settings, run_id: str, request: EvaluationRequest) -> None:
    """Remove parts of a run from storage: they lie here, and in the warehouse."""
    mark = settings.home / "runs" / run_id / _MARK
    if not mark.exists():
        return
    try:
        storage = open_storage(mark.read_text(encoding="utf-8"))
        # Refused ones too; a person looks at them here.
        here = [p.with_name(p.name.split(".")[0]) for p in Path(request.parts).glob("*.parquet*")]
        Parts(storage, _folder(request)).remove(here)
    except (StorageError, StorageAddressError) as error:
        log.warning("recorded parts stay in storage: %s", error)


def _folder(request: EvaluationRequest) -> str:
    """Where the parts of a request lie in storage: as under home."""
    return "/".join(Path(request.parts).parts[-2:])


class _Run:
    """One evaluation: its jobs, one after the other, and the parts that came of them.

    Attributes:
        parts: parts that lie here, in the order they came.
    """

    def __init__(
        self,
        settings: Settings,
        request: EvaluationRequest,
        work: Path,
        on_progress: Callable[[Progress], None],
        go_on: Callable[[], None],
    ) -> None:
        self.parts: dict[Path, None] = {}
        self._ask = settings.evaluation
        self._request = request
        self._work = work
        self._on_progress = on_progress
        self._go_on = go_on
        self._storage = open_storage(settings.storage)
        self._stored = Parts(self._storage, _folder(request))
        self._n_jobs = 0
        self._told = -1
        self._pool = pool_of(settings.evaluation.pool or "")

    def left(self) -> EvaluationRequest:
        """The request without what parts in storage answer, once they are here."""
        self._fetch_if_possible()
        asked = {query for path in self.parts for query in _queries(path)}
        if not asked:
            return self._request
        queries = {
            task: kept
            for task, ids in self._request.queries.items()
            if (kept := [query for query in ids if query not in asked])
        }
        return replace(self._request, queries=queries)

    def job(self, request: EvaluationRequest, allowed: int, purse: Purse) -> End:
        """Give a request out as one job and follow it to its end."""
        self._n_jobs += 1
        budget, estimate = purse.lent()
        limits = Limits(
            timeout_s=60 * self._ask.timeout_minutes,
            silence_s=self._ask.pool_silence_seconds,
            budget=budget,
            estimate=estimate,
            memory_gb=self._ask.memory_gb,
        )
        folder = JobFolder(self._storage, f"{request.run_id}-{self._n_jobs}")
        base = self._request.n_queries - request.n_queries
        # As `EvaluationRequest.write` writes it; the file stays what the whole run was to ask.
        path = self._work / f"job-{self._n_jobs}.json"
        request.write(path)
        given = Job(
            json.loads(path.read_text(encoding="utf-8")),
            limits,
            _folder(request),
            agreed_versions(),
        )
        try:
            folder.give(given)
            folder.want(Wanted(0))
            flow_run = submit(folder.address, f"{request.model_id} {self._n_jobs}", folder.name)
        except (StorageError, PoolError) as error:
            self._take_back(folder)
            return End(died=str(error))
        log.info("%s: %d queries are given to pool %s", request.model_id, allowed, self._pool.name)
        end = None
        try:
            end = Follow(
                request.model_id,
                self._pool,
                folder,
                limits,
                flow_run,
                self._ask.pool_start_seconds,
                lambda report: self._news(base, report),
                self._go_on,
            ).to_its_end()
            return end
        finally:
            self._clear(folder, flow_run, end)

    def _news(self, base: int, report: Report) -> None:
        """Fetch what is new, and tell of it.

        Raises:
            StorageError: storage can't be reached.
        """
        self._fetch()
        done = base + report.done
        if done != self._told:
            self._told = done
            self._on_progress(Progress(done, base + report.of, report.remaining_s))

    def _fetch(self) -> None:
        self.parts.update(dict.fromkeys(self._stored.fetch(Path(self._request.parts))))

    def _fetch_if_possible(self) -> None:
        try:
            self._fetch()
        except StorageError as error:
            log.warning("%s: %s", self._request.model_id, error)

    def _clear(self, folder: JobFolder, flow_run: UUID, end: End | None) -> None:
        """Take the job back, with its log; whoever is at it still ends after its chunk."""
        self._take_back(folder)
        if end is None or end.died or end.stopped:
            why = "its pipeline has ended" if end is None else end.died or end.stopped
            close(flow_run, str(why))
        self._fetch_if_possible()

    def _take_back(self, folder: JobFolder) -> None:
        try:
            if (said := folder.log()) is not None:
                with (self._work / "worker.log").open("ab") as stream:
                    stream.write(said)
            folder.take_back()
        except StorageError as error:
            log.warning("%s: the job couldn't be taken back: %s", self._request.model_id, error)


def _queries(path: Path) -> list[str]:
    """Queries that a part is about; none if it can't be read, which `record_parts` refuses."""
    try:
        return list(read_part(path.read_bytes(), path)["query_id"])
    except (ContractError, pl.exceptions.PolarsError, OSError) as error:
        log.warning("%s can't be read: %s", path, error)
        return []
