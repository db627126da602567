"""A worker that is killed while it answers: no answer lost, none double, none other.

Kills (SIGKILL) fall between two parts, or into the writing of one. After each death the parts go
into the warehouse as in the pipeline, and the worker is started again. Whole nights are killed at
any instant, imports included, in tests/promises. ``LOCUS_KILLS=20`` kills twenty times, and a fifth
of these anywhere in a worker's life.
"""

import hashlib
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pytest
from tiny import write_model, write_tasks

from locus.durable import remove_leftovers, whole_file
from locus.evaluation.catalogue import read_catalogue
from locus.evaluation.request import EvaluationRequest
from tasks.record import record_parts
from warehouse import contracts
from warehouse.store import Warehouse

# A minute on a machine of its own; far more where others use its cores.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MODEL, REVISION = "org/tiny", "r1"
# What an answer is, whenever and in whatever company it was given.
ANSWER = ["query_id", "status", "score", "metric", "metrics", "tokens_in", "tokens_out"]
PER_SCENARIO = 10
N_KILLS = min(int(os.environ.get("LOCUS_KILLS", "2")), 2 * PER_SCENARIO)
# A worker that is to be killed is killed after so many new parts at the latest: ten kills must not
# find the work done.
MOST_PARTS = 5


class Worker:
    """A worker process and what it has told."""

    def __init__(self, request: EvaluationRequest, folder: Path) -> None:
        path = folder / f"{request.run_id}.json"
        request.write(path)
        self.log_path = path.with_suffix(".log")
        self.parts = Path(request.parts)
        self._left_by_others = _half_written(self.parts)
        self.started = time.monotonic()
        self.loaded_after: float | None = None
        self.n_new = 0
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "locus.evaluation.worker", str(path)],
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            if '"loaded"' in line:
                self.loaded_after = self.age()
            elif '"part"' in line and self.loaded_after is not None:
                self.n_new += 1

    def age(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.started

    def writes(self) -> bool:
        """Whether a part is being written, by this worker and not by one that is dead."""
        return not _half_written(self.parts) <= self._left_by_others

    def end(self) -> int:
        """Wait for its end; its exit status."""
        status = self.process.wait()
        self._reader.join()
        return status

    def kill_when(self, reached: Callable[["Worker"], bool]) -> None:
        """Kill it once something is so; it must be alive until then."""
        while not reached(self) and self.n_new < MOST_PARTS:
            assert self.process.poll() is None, f"ended by itself: {self.log_path.read_text()}"
            time.sleep(0.0002)
        os.killpg(self.process.pid, signal.SIGKILL)
        assert self.end() == -signal.SIGKILL, f"ended by itself: {self.log_path.read_text()}"


def _half_written(parts: Path) -> set[str]:
    """Temporary files beside the parts."""
    return {path.name for path in parts.glob(".*")}


@dataclass(frozen=True)
class World:
    """What both evaluations share.

    Attributes:
        request: one query a part, eighty in all.
        bank: the queries.
        answers: those of an evaluation that nobody disturbed.
        loaded_s: seconds that it took until its model was loaded.
        part_s: seconds for one part after that.
    """

    request: EvaluationRequest
    bank: pl.DataFrame
    answers: pl.DataFrame
    loaded_s: float
    part_s: float


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("kills")
    tasks = write_tasks(folder / "tasks")
    bank = read_catalogue(["tiny_choice", "tiny_copy"], [tasks])[1]
    by_task = bank.group_by("task", maintain_order=True)
    request = EvaluationRequest(
        run_id="undisturbed",
        model_id=MODEL,
        revision=REVISION,
        backend="hf",
        args={"pretrained": str(write_model(folder / "model"))},
        queries={str(task): rows["query_id"].to_list() for (task,), rows in by_task},
        parts=str(folder / "parts"),
        task_folders=[str(tasks)],
        chunk_size=1,
        device="cpu",
    )
    worker = Worker(request, folder)
    assert worker.end() == 0, worker.log_path.read_text()
    assert worker.loaded_after is not None
    rows = rows_of(request)
    assert rows.height == worker.n_new == bank.height
    part_s = (worker.age() - worker.loaded_after) / rows.height
    return World(request, bank, rows.select(ANSWER), worker.loaded_after, part_s)


def rows_of(request: EvaluationRequest) -> pl.DataFrame:
    """The rows of all files that count as parts."""
    files = sorted(Path(request.parts).glob("*.parquet"))
    return pl.concat([pl.read_parquet(f) for f in files]).sort("query_id")


def hashes(request: EvaluationRequest) -> dict[str, str]:
    """SHA-256 of every part, by name."""
    files = Path(request.parts).glob("*.parquet")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def instants(world: World, n: int, draw: random.Random) -> list[Callable[[Worker], bool]]:
    """Instants, in random order; each tells whether it has come."""

    def anywhere(seconds: float) -> Callable[[Worker], bool]:
        return lambda worker: worker.age() >= seconds

    def between_parts(n_new: int, seconds: float) -> Callable[[Worker], bool]:
        since: list[float] = []

        def reached(worker: Worker) -> bool:
            if worker.loaded_after is None or worker.n_new < n_new:
                return False
            since.append(worker.age())
            return since[-1] - since[0] >= seconds

        return reached

    def in_writing(n_new: int) -> Callable[[Worker], bool]:
        return lambda worker: worker.n_new >= n_new and worker.writes()

    def drawn(i: int) -> Callable[[Worker], bool]:
        if i % 5 == 4:
            return anywhere(draw.uniform(0, world.loaded_s + MOST_PARTS * world.part_s))
        n_new = draw.randrange(MOST_PARTS)
        return in_writing(n_new) if i % 2 else between_parts(n_new, draw.uniform(0, world.part_s))

    chosen = [drawn(i) for i in range(n)]
    draw.shuffle(chosen)
    return chosen


@pytest.mark.parametrize("seed", range(math.ceil(N_KILLS / PER_SCENARIO)))
def test_kills(seed: int, world: World, tmp_path: Path) -> None:
    request = replace(world.request, parts=str(tmp_path / "parts"))
    database = tmp_path / "warehouse.duckdb"
    with Warehouse.open(database) as warehouse:
        known = [{"model_id": MODEL, "source": "registry"}]
        warehouse.catalogue.add_models(contracts.build(contracts.ModelFrame, known))
        warehouse.catalogue.add_queries(world.bank)
    n_recorded = 0

    def recorded(run: EvaluationRequest, work: Callable[[Worker], object]) -> None:
        """A run from its start in the warehouse to its end there; its rows are those of parts."""
        nonlocal n_recorded
        before = hashes(run)
        with Warehouse.open(database) as warehouse:
            warehouse.scores.start_run(
                run.run_id, "lm-eval", MODEL, REVISION, run.settings(), {}, None, run.n_queries
            )
        worker = Worker(run, tmp_path)
        work(worker)
        after = hashes(run)
        assert {name: after.get(name) for name in before} == before, "an old part has changed"
        parts = sorted(Path(run.parts).glob("*.parquet"))
        with Warehouse.open(database) as warehouse:
            added, refused = record_parts(warehouse, run.run_id, parts)
            warehouse.scores.finish_run(run.run_id, "failed", "killed")
            held = warehouse.read("SELECT query_id FROM score")["query_id"]
        assert refused is None
        n_recorded += added
        assert n_recorded == held.len() == held.n_unique() == len(after)

    n = min(PER_SCENARIO, N_KILLS - seed * PER_SCENARIO)
    for i, instant in enumerate(instants(world, n, random.Random(seed))):  # noqa: S311
        recorded(
            replace(request, run_id=f"run-{i}"),
            lambda worker, instant=instant: worker.kill_when(instant),  # type: ignore[misc]
        )
    assert 0 < n_recorded < world.bank.height
    ends: list[int] = []
    recorded(replace(request, run_id="last"), lambda worker: ends.append(worker.end()))
    assert ends == [0]
    # Nothing lost, nothing double, the same answers as if nothing had happened.
    assert rows_of(request).select(ANSWER).equals(world.answers)
    with Warehouse.open(database) as warehouse:
        held = warehouse.read(f"SELECT {', '.join(ANSWER)} FROM score")  # noqa: S608
    compared = ["query_id", "status", "score", "metric", "tokens_in", "tokens_out"]
    assert held.select(compared).sort("query_id").equals(world.answers.select(compared))
    # What was half-written when the worker died is gone with the part that took its place.
    assert {path.suffix for path in Path(request.parts).iterdir()} == {".parquet"}


def test_only_what_a_dead_writer_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    writer = (
        "import sys, pathlib, locus.durable\n"
        "with locus.durable.whole_file(pathlib.Path(sys.argv[1])) as stream:\n"
        "    stream.write(b'half')\n"
        "    stream.flush()\n"
        "    print('written', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", writer, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        (half,) = tmp_path.iterdir()
        assert half.read_bytes() == b"half"
        assert remove_leftovers(path) == 0
        assert half.exists()
        process.kill()
    # Another file's leftovers are its own matter.
    assert remove_leftovers(tmp_path / "other.parquet") == 0
    assert remove_leftovers(path) == 1
    assert list(tmp_path.iterdir()) == []
    with whole_file(path) as stream:
        stream.write(b"whole")
    assert [p.name for p in tmp_path.iterdir()] == ["part.parquet"]
