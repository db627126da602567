"""Limits of a worker, on real processes: budgets, memory, time, and a pipeline that was killed."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import psutil
import pytest

from locus.budget import Budget, Estimate, Ledger
from locus.evaluation.failure import Failure
from locus.evaluation.launch import EvaluationFailedError, Progress, evaluate
from locus.evaluation.request import EvaluationRequest
from locus.evaluation.watch import Watch, memory_of

pytestmark = pytest.mark.slow

EACH = Estimate(tokens=40, usd=0.0)


def rows_of(parts: list[Path]) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(part) for part in parts])


def test_a_budget_ends_a_worker_in_good_order_and_the_rest_is_asked_later(
    request_: EvaluationRequest, tmp_path: Path, bank: pl.DataFrame
) -> None:
    seen: list[Progress] = []
    ledger = Ledger(Budget(queries=40))
    purse = ledger.purse("org/tiny", Budget(), EACH)
    first = evaluate(request_, tmp_path / "1", 120, on_progress=seen.append, purse=purse)
    rows = rows_of(first)
    assert rows["query_id"].n_unique() == rows.height == 40 == ledger.spent.queries
    assert purse.stopped == "the run's budget of 40 queries is spent"
    assert ledger.spent.tokens == (rows["tokens_in"] + rows["tokens_out"]).sum()
    # An evaluation that is cut short has asked some of every task.
    asked = rows.join(bank, on="query_id")["task"].value_counts()
    assert dict(asked.iter_rows())["tiny_copy"] > 10 < dict(asked.iter_rows())["tiny_choice"]
    assert [p.remaining_s is None for p in seen] == [True, False, False, False]
    # As the plan does: what has an answer is not asked again.
    done = set(rows["query_id"])
    rest = {task: [q for q in ids if q not in done] for task, ids in request_.queries.items()}
    # Memory that suffices ends nothing.
    ample = evaluate(replace(request_, queries=rest), tmp_path / "2", 120, memory_gb=32)
    second = rows_of(ample)
    assert done.isdisjoint(second["query_id"])
    assert len(done) + second.height == bank.height


def test_tokens_are_kept_to_about_what_a_probe_has_measured(
    request_: EvaluationRequest, tmp_path: Path
) -> None:
    ledger = Ledger(Budget())
    purse = ledger.purse("org/tiny", Budget(tokens=1500), replace(EACH, tokens=1))
    rows = rows_of(evaluate(request_, tmp_path / "1", 120, purse=purse))
    spent = (rows["tokens_in"] + rows["tokens_out"]).sum()
    assert rows.height < 80
    longest = (rows["tokens_in"] + rows["tokens_out"]).max()
    assert 1500 - 2 * longest < spent < 1500 + 16 * longest  # type: ignore[operator]
    assert purse.stopped == "the model's budget of 1500 tokens is spent"


def test_a_worker_that_needs_too_much_memory_is_named(
    request_: EvaluationRequest, tmp_path: Path
) -> None:
    with pytest.raises(EvaluationFailedError, match=r"than 0\.1 GB \(`memory_gb`\)") as failure:
        evaluate(request_, tmp_path / "1", 120, memory_gb=0.1)
    assert failure.value.kind is Failure.MEMORY


def test_a_worker_ends_with_the_pipeline_that_started_it(
    request_: EvaluationRequest, tmp_path: Path
) -> None:
    request_.write(tmp_path / "request.json")
    code = (
        "import sys; from pathlib import Path; from dataclasses import replace;"
        "from locus.evaluation.launch import evaluate;"
        "from locus.evaluation.request import EvaluationRequest;"
        "request = EvaluationRequest.read(Path(sys.argv[1]));"
        "evaluate(replace(request, chunk_size=1), Path(sys.argv[2]), 120,"
        " on_progress=lambda p: print(p.done, flush=True))"
    )
    pipeline = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "request.json"), str(tmp_path / "work")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert pipeline.stdout is not None
    assert pipeline.stdout.readline() == "0\n"  # loaded
    assert pipeline.stdout.readline() == "1\n"
    (worker,) = psutil.Process(pipeline.pid).children()
    pipeline.kill()
    pipeline.communicate()
    worker.wait(timeout=30)
    left = set((tmp_path / "parts").glob("*.parquet"))
    assert 1 <= len(left) < 80
    time.sleep(0.5)
    assert set((tmp_path / "parts").glob("*.parquet")) == left


def test_children_that_outlive_a_worker_are_ended() -> None:
    process = subprocess.Popen(
        ["sh", "-c", "sleep 300 >/dev/null & echo $!"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    watch = Watch(process, timeout_s=60)
    assert process.stdout is not None
    child = psutil.Process(int(process.stdout.readline()))
    process.wait()
    assert child.is_running()
    watch.end()
    # Its parent is dead, so nobody but init may be there to bury it.
    deadline = time.monotonic() + 20
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert watch.reason is None


def test_memory_is_that_of_the_whole_family() -> None:
    code = "import subprocess, sys; x = bytearray(60_000_000); print(flush=True); {}; input()"
    child = "c = subprocess.Popen([sys.executable, '-c', 'x = bytearray(90_000_000); input()'])"
    process = subprocess.Popen(
        [sys.executable, "-c", code.format(child)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 20
        while memory_of(process.pid) < 150_000_000:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert memory_of(process.pid) == 0
