"""The second half of a night, over and over, in processes that are cheap to start and to kill.

Run as a program, this imports everything once; then, told so line by line, it forks a process that
records, embeds and publishes, and kills it at an instant. No model is asked: what the models answer
is known. Prefect's tasks are called as functions, so no server is there.
"""

import importlib
import itertools
import json
import mmap
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from locus.evaluation.parts import part_name, write_part
from locus.evaluation.request import EvaluationRequest
from locus.ids import short_hash
from tasks.embed import embed_models, train_if_needed
from tasks.heal import heal_interrupted
from tasks.lineage import git_sha
from tasks.lock import pipeline_lock
from tasks.publish import is_behind, publish_snapshot
from tasks.record import record_parts
from tasks.score import score_pool
from tasks.settings import Settings
from warehouse.connection import now
from warehouse.store import Warehouse

ENCODER = "some/encoder"
REVISION = "r"
ASKED = ("org/a", "org/b", "org/c", "org/d")
"""Models that are asked in parts; others were imported."""

PER_PART = 4
REFERENCE = 40
PHASES = ("starting", "healing", "recording", "embedding", "scoring", "publishing", "ending")
LONGEST_S = 120
_IMPORTED_LATE = (
    "pandas", "plotly.offline", "pyarrow.dataset", "scipy.cluster.hierarchy", "scipy.optimize",
    "scipy.spatial", "warehouse.parts",
)  # fmt: skip
_AT = struct.Struct("d")
_BEGAN = struct.Struct(f"{len(PHASES)}d")


def settings_of(home: Path) -> Settings:
    """Settings of a home of these loops."""
    return Settings(home=home, encoder=ENCODER, reference_queries=REFERENCE, keep_snapshots=2)


def answer(model: str, number: int) -> float:
    """What a model answers to query ``number``; 1 is right."""
    return float(int(short_hash(f"{model} {number}"), 16) % 5 < 2 + len(model) % 2)


def parts_of(warehouse: Warehouse) -> dict[str, list[list[str]]]:
    """Query ids of every part that there can be, by model."""
    ids = sorted(warehouse.catalogue.queries(columns=["query_id"])["query_id"])
    parts = [ids[i : i + PER_PART] for i in range(0, len(ids), PER_PART)]
    return dict.fromkeys(ASKED, parts)


@dataclass(frozen=True)
class Loop:
    """What a loop is told.

    Attributes:
        parts: how many new parts it records at most.
        phase: the phase in which it is killed; empty to let it end.
        share: so much of the time that this phase takes has passed then.
    """

    parts: int
    phase: str = ""
    share: float = 0.0


@dataclass(frozen=True)
class Ended:
    """How a loop ended.

    Attributes:
        killed: whether it was killed; else it ended by itself.
        phase: in which phase it ended.
        said: what went wrong; empty if nothing did.
    """

    killed: bool
    phase: str
    said: str = ""


def run_loop(settings: Settings, n_parts: int, begin: Callable[[str], None]) -> None:
    """Heal, record some parts, place, predict and publish: as in a night, in its order."""
    begin("starting")
    with pipeline_lock(settings, what="short loop"):
        begin("healing")
        recorded = heal_interrupted.fn(settings)
        begin("recording")
        recorded += _record(settings, n_parts)
        begin("embedding")
        checkpoint_id, _ = train_if_needed.fn(settings, may_train=False)
        placed = embed_models.fn(settings, checkpoint_id)
        if recorded or placed or is_behind(settings, checkpoint_id):
            begin("scoring")
            score_pool.fn(settings, checkpoint_id)
            begin("publishing")
            publish_snapshot.fn(settings, checkpoint_id)
        begin("ending")


def _record(settings: Settings, n_parts: int) -> int:
    """Write parts that the warehouse lacks and record them, a run for each model of them."""
    with Warehouse.open(settings.warehouse) as w:
        numbers = _numbers(w)
        left = {}
        for model, parts in parts_of(w).items():
            held = set(w.scores.answered(model, REVISION)["query_id"])
            left[model] = [part for part in parts if part[0] not in held]
    added = 0
    while n_parts and (model := max(left, key=lambda m: len(left[m]))) and left[model]:
        chosen, left[model] = left[model][:n_parts], left[model][n_parts:]
        n_parts -= len(chosen)
        added += _run(settings, model, chosen, numbers)
    return added


def _run(settings: Settings, model: str, parts: list[list[str]], numbers: dict[str, int]) -> int:
    request = EvaluationRequest(
        run_id=str(uuid.uuid4()),
        model_id=model,
        revision=REVISION,
        backend="hf",
        args={},
        queries={"any": [query for part in parts for query in part]},
        parts=str(settings.parts / short_hash(f"{model}@{REVISION}")),
        chunk_size=PER_PART,
    )
    run_id = request.run_id
    with Warehouse.open(settings.warehouse) as w:
        w.scores.start_run(
            run_id, "lm-eval", model, REVISION, request.settings(), {}, None, request.n_queries
        )
    request.write(settings.home / "runs" / run_id / "request.json")
    paths = []
    for part in parts:
        rows = [
            {"model_id": model, "revision": REVISION, "query_id": query, "status": "ok",
             "score": answer(model, numbers[query]), "metric": "acc", "filter": "none",
             "scored_at": now()}
            for query in part
        ]  # fmt: skip
        name = part_name(model, REVISION, request.settings(), part)
        paths.append(Path(request.parts) / name)
        write_part(rows, paths[-1])
    with Warehouse.open(settings.warehouse) as w:
        added, refused = record_parts(w, run_id, paths)
        assert refused is None, refused
        w.scores.finish_run(run_id, "finished")
    return added


def _numbers(warehouse: Warehouse) -> dict[str, int]:
    """Numbers of the queries, by id; the text of each says it."""
    bank = warehouse.catalogue.queries(columns=["query_id", "text"])
    return {query: int(text.split()[1]) for query, text in bank.iter_rows()}


class Smith:
    """The program, seen from a test."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(self, home: Path, loop: Loop) -> Ended:
        """Run a loop in a home until it ends or is killed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(home), asdict(loop)]) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))


@contextmanager
def smith() -> Iterator[Smith]:
    """The program, as long as the block."""
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    ) as process:
        yield Smith(process)
        assert process.stdin is not None
        process.stdin.close()


def main() -> None:
    """Fork a loop for every line."""
    # What a loop would import, or ask git, each loop would anew.
    for module in _IMPORTED_LATE:
        importlib.import_module(module)
    git_sha()
    # A lock that another thread held would never be released in a fork. Allocators have threads of
    # their own, which know of forks; no pool is started before somebody computes.
    assert threading.active_count() == 1
    lasted = dict.fromkeys(PHASES, 0.1)
    for line in sys.stdin:
        home, told = json.loads(line)
        ended = _fork(settings_of(Path(home)), Loop(**told), lasted)
        sys.stdout.write(json.dumps(asdict(ended)) + "\n")
        sys.stdout.flush()


def _fork(settings: Settings, loop: Loop, lasted: dict[str, float]) -> Ended:
    """Fork a loop, kill it when it is time, and bury it; ``lasted`` learns how long phases take."""
    with mmap.mmap(-1, _BEGAN.size) as board:
        said_r, said_w = os.pipe()
        pid = os.fork()
        if pid == 0:
            _be_loop(settings, loop.parts, board, said_w)
        os.close(said_w)
        deadline = time.monotonic() + LONGEST_S
        hung = False
        while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
            at = _began(board).get(loop.phase)
            hung = time.monotonic() > deadline
            if hung or (at and time.monotonic() - at >= loop.share * lasted[loop.phase]):
                os.kill(pid, signal.SIGKILL)
                ended = os.waitpid(pid, 0)
                break
            time.sleep(0.0005)
        began = _began(board)
    for phase, following in itertools.pairwise(began):
        lasted[phase] = began[following] - began[phase]
    with os.fdopen(said_r, encoding="utf-8") as stream:
        said = f"hung for {LONGEST_S} s" if hung else stream.read()
    killed = os.WIFSIGNALED(ended[1])
    if not (said or killed) and ended[1]:
        said = f"exit status {ended[1]}"
    return Ended(killed, list(began)[-1] if began else PHASES[0], said)


def _began(board: mmap.mmap) -> dict[str, float]:
    """When phases began, in their order, on the monotonic clock; those that have."""
    times = zip(PHASES, _BEGAN.unpack(board[:]), strict=True)
    return {phase: at for phase, at in times if at}


def _be_loop(settings: Settings, n_parts: int, board: mmap.mmap, said: int) -> NoReturn:
    """What a fork does, to its end."""

    def begin(phase: str) -> None:
        _AT.pack_into(board, PHASES.index(phase) * _AT.size, time.monotonic())

    status = 1
    try:
        os.dup2(2, 1)
        run_loop(settings, n_parts, begin)
        status = 0
    except BaseException:
        os.write(said, traceback.format_exc()[-4000:].encode())
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
