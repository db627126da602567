"""Running methods: what is missing is measured, in this process or in several."""

import logging
import os
import platform
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from typing import Any

import numpy as np

from locus.bank import Array, Embeds, KnowsBank, Method, Uncertain
from locus.benchmark.data import BenchmarkData
from locus.benchmark.methods import caps_of, makers_by_name
from locus.benchmark.protocols import Job, bank_of, situation_of
from locus.benchmark.store import Arrays, Store

log = logging.getLogger("locus.benchmark")

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Bench:
    """What a process needs to measure; it travels to workers whole."""

    data: BenchmarkData
    store: Store
    quick: bool
    caps: Mapping[str, int]

    def run(self, job: Job) -> float:
        """Measure the cells of a job; those that are there already stay. Returns seconds."""
        started = time.perf_counter()
        missing = [cell for cell in job.cells if not self.store.has(cell)]
        if not missing:
            return 0.0
        method = makers_by_name(self.quick, caps_of(job.protocol, self.caps))[job.method]()
        bank = bank_of(self.data, job.protocol, missing[0].budget, job.seed)
        method.fit(bank, job.seed)
        fit_s = time.perf_counter() - started
        for cell in missing:
            situation = situation_of(self.data, cell)
            begun = time.perf_counter()
            placed = method.place(situation.scores_Bn)
            place_s = time.perf_counter() - begun
            begun = time.perf_counter()
            test = _checked(method.predict(placed, self.data.queries["test"]), job.method)
            predict_s = time.perf_counter() - begun
            asked = ~np.isnan(situation.scores_Bn)
            arrays: Arrays = {
                "test": test.astype(np.float32),
                "asked": asked,
                "bank_columns": situation.bank_columns,
            }
            left = ~asked & ~np.isnan(situation.models.scores["train"][:, situation.columns])
            # Where a method knows the bank, its disagreement there is its distance of two models.
            if isinstance(method, KnowsBank):
                arrays["knows_bank"] = np.array(True)
            if isinstance(method, KnowsBank) or left[:, situation.bank_columns].any():
                columns = situation.bank_columns
                bank_p = (
                    method.predict_bank(placed, columns)
                    if isinstance(method, KnowsBank)
                    else method.predict(placed, bank.queries.take(columns))
                )
                arrays["bank"] = _checked(bank_p, job.method).astype(np.float16)
            arrays |= _of_embedding(method, placed, situation.again_Bn)
            if isinstance(method, Uncertain):
                spread = method.spread(placed, self.data.queries["test"])
                arrays["spread"] = np.asarray(spread, dtype=np.float16)
            facts = {
                "protocol": cell.protocol,
                "method": cell.method,
                "budget": cell.budget,
                "seed": cell.seed,
                "labels_learned": bank.n_labels,
                "labels_placed": int(asked.sum()),
                "fit_s": fit_s,
                "place_s": place_s,
                "predict_s": predict_s,
                "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "machine": machine(),
            }
            self.store.put(cell, arrays, facts)
        return time.perf_counter() - started


def machine() -> str:
    """What measured, in words: processor architecture, cores, threads, Python."""
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    return (
        f"{platform.machine()}, {os.cpu_count()} cores (threads a process: {threads}), "
        f"{platform.system()}, Python {platform.python_version()}"
    )


def _checked(p: Array, name: str) -> Array:
    if not np.isfinite(p).all() or p.min() < 0 or p.max() > 1:
        raise ValueError(f"{name}: predictions must be probabilities in [0, 1]")
    return p


def _of_embedding(method: Method, placed: Any, again_Bn: Array | None) -> Arrays:
    if not isinstance(method, Embeds):
        return {}
    arrays: Arrays = {"vectors": np.asarray(method.vectors(placed), dtype=np.float32)}
    if again_Bn is not None:
        second = np.asarray(method.vectors(method.place(again_Bn)), dtype=np.float32)
        second[np.isnan(again_Bn).all(axis=1)] = np.nan
        arrays["vectors_again"] = second
    return arrays


@dataclass(frozen=True)
class Failure:
    """Why a job failed; plain text, because not every exception can travel between processes."""

    reason: str
    traceback: str


def measure(bench: Bench, jobs: Sequence[Job], workers: int = 1) -> dict[Job, str]:
    """Run jobs, log progress, and go on where one fails.

    Args:
        bench: what to measure with.
        jobs: what to measure.
        workers: processes; each has its share of the cores as threads.

    Returns:
        The jobs that failed, and why. What they lack is tried again by the next run.
    """
    failed: dict[Job, str] = {}
    progress = _Progress(jobs, workers)
    for job, outcome in _outcomes(bench, jobs, workers):
        if isinstance(outcome, Failure):
            failed[job] = outcome.reason
            log.error(
                "%s with %s, seed %d, failed: %s\n%s",
                job.protocol, job.method, job.seed, outcome.reason, outcome.traceback,
            )  # fmt: skip
        progress.done(job, outcome if isinstance(outcome, float) else 0.0)
    return failed


def _outcomes(
    bench: Bench, jobs: Sequence[Job], workers: int
) -> Iterator[tuple[Job, float | Failure]]:
    if workers <= 1 or len(jobs) <= 1:
        for job in jobs:
            yield job, _attempt(bench, job)
        return
    with (
        _threads(max((os.cpu_count() or 1) // workers, 1)),
        ProcessPoolExecutor(workers, get_context("spawn"), _begin, (bench,)) as pool,
    ):
        futures = {pool.submit(_in_worker, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _attempt(bench: Bench, job: Job) -> float | Failure:
    # Whatever a method raises is that method's fault; it is reported, and the others go on.
    try:
        return bench.run(job)
    except Exception as error:
        return Failure(f"{type(error).__name__}: {error}", traceback.format_exc())


_here: list[Bench] = []
"""The bench of a worker process."""


def _begin(bench: Bench) -> None:
    _here[:] = [bench]


def _in_worker(job: Job) -> float | Failure:
    return _attempt(_here[0], job)


@contextmanager
def _threads(n: int) -> Iterator[None]:
    """Let processes that start now have ``n`` threads each: they read it when they import."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, str(n)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _Progress:
    """Lines with done, total and the time left, by what each method has taken so far."""

    def __init__(self, jobs: Sequence[Job], workers: int) -> None:
        self.left = list(jobs)
        self.total = len(jobs)
        self.workers = max(workers, 1)
        self.seconds: dict[tuple[str, str], list[float]] = {}

    def done(self, job: Job, seconds: float) -> None:
        self.left.remove(job)
        self.seconds.setdefault((job.protocol, job.method), []).append(seconds)
        means = {key: sum(taken) / len(taken) for key, taken in self.seconds.items()}
        typical = sum(means.values()) / len(means)
        eta = sum(means.get((j.protocol, j.method), typical) for j in self.left) / self.workers
        log.info(
            "measured %d of %d: %s with %s, seed %d, %d cells in %.1f s; about %s left",
            self.total - len(self.left), self.total, job.protocol, job.method, job.seed,
            len(job.cells), seconds, duration(eta),
        )  # fmt: skip


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
