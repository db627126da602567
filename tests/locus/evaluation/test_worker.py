"""The worker as a real process: parts, resuming, kills, timeouts, and no secrets in its hands."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from locus.evaluation.child import WorkerFailedError, started
from locus.evaluation.failure import Failure
from locus.evaluation.launch import EvaluationFailedError, Progress, evaluate, worker_environment
from locus.evaluation.parts import part_name, write_part
from locus.evaluation.request import EvaluationRequest
from locus.frames import SCORES
from locus.prices import Price


@pytest.fixture
def request_(request_: EvaluationRequest) -> EvaluationRequest:
    """Ten queries of each task, at a price."""
    queries = {task: ids[:10] for task, ids in request_.queries.items()}
    return replace(request_, queries=queries, chunk_size=8, prices=(Price(1.0, 2.0),))


def test_parts_hold_every_answer_once(request_: EvaluationRequest, tmp_path: Path) -> None:
    seen: list[Progress] = []
    parts = evaluate(request_, tmp_path / "work", 120, on_progress=seen.append)
    rows = pl.concat([pl.read_parquet(p) for p in parts])
    assert dict(rows.schema) == SCORES
    assert len(parts) == 3  # 20 queries in chunks of 8
    asked = {q for ids in request_.queries.values() for q in ids}
    assert set(rows["query_id"]) == asked
    assert rows.height == 20
    assert rows["status"].unique().to_list() == ["ok"]
    assert rows["cost_usd"].min() > 0  # type: ignore[operator]
    assert (seen[-1].done, seen[-1].of) == (20, 20)
    # Once more: every chunk is there, so no model is loaded and no part is written.
    before = [(p, p.stat().st_mtime_ns) for p in parts]
    started = time.monotonic()
    assert evaluate(request_, tmp_path / "again", 120) == parts
    assert [(p, p.stat().st_mtime_ns) for p in parts] == before
    assert time.monotonic() - started < 100
    assert "loaded" not in (tmp_path / "again" / "worker.log").read_text()


def test_a_killed_worker_loses_its_chunk_only(request_: EvaluationRequest, tmp_path: Path) -> None:
    request = replace(request_, chunk_size=2)
    request.write(tmp_path / "request.json")
    process = subprocess.Popen(
        [sys.executable, "-m", "locus.evaluation.worker", str(tmp_path / "request.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if '"chunk"' in line:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.communicate()
    done = list((tmp_path / "parts").glob("*.parquet"))
    assert 1 <= len(done) < 10
    kept = {p: p.stat().st_mtime_ns for p in done}
    for part in done:
        assert pl.read_parquet(part).height == 2
    parts = evaluate(request, tmp_path / "work", 120)
    assert len(parts) == 10
    assert pl.concat([pl.read_parquet(p) for p in parts])["query_id"].n_unique() == 20
    assert {p: p.stat().st_mtime_ns for p in done} == kept


def test_a_model_that_can_t_be_loaded_is_a_clear_failure(
    request_: EvaluationRequest, tmp_path: Path
) -> None:
    broken = replace(request_, args={"pretrained": str(tmp_path / "nowhere")})
    with pytest.raises(EvaluationFailedError) as failure:
        evaluate(broken, tmp_path / "work", 120)
    assert failure.value.model_id == "org/tiny"
    assert failure.value.parts == []
    assert "nowhere" in failure.value.reason
    assert failure.value.kind is Failure.CRASHED
    assert failure.value.log_path.exists()


def test_all_that_an_exception_says_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Advice in its last line alone would not say what can't be reached."""
    (tmp_path / "gone_hub.py").write_text(
        "import sys\nfrom locus.evaluation.child import work\n"
        "def run(events):\n    raise OSError('no hub at h\\nCheck the network')\n"
        "sys.exit(work(run))\n"
    )
    here = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])])
    monkeypatch.setenv("PYTHONPATH", here)
    log = tmp_path / "worker.log"
    with (
        pytest.raises(WorkerFailedError) as failure,
        started("gone_hub", [], log, worker_environment(), 60) as worker,
    ):
        assert list(worker.events()) == []
    assert failure.value.reason == "OSError: no hub at h Check the network"
    assert failure.value.kind is Failure.CRASHED
    assert "Traceback" in log.read_text()


def test_a_query_that_no_task_has_is_named(request_: EvaluationRequest, tmp_path: Path) -> None:
    odd = replace(request_, queries={"tiny_copy": ["q-unknown"]})
    with pytest.raises(EvaluationFailedError, match="q-unknown") as failure:
        evaluate(odd, tmp_path / "work", 120)
    assert failure.value.kind is Failure.SAID


def test_time_runs_out(request_: EvaluationRequest, tmp_path: Path) -> None:
    with pytest.raises(EvaluationFailedError, match="no end within 1 s") as failure:
        evaluate(request_, tmp_path / "work", 1)
    assert failure.value.kind is Failure.TIME


def test_a_worker_gets_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "PREFECT_API_KEY", "X"):
        monkeypatch.setenv(name, "marker-secret")
    assert "marker-secret" not in worker_environment().values()
    assert "PATH" in worker_environment()
    assert worker_environment(threads=3)["OMP_NUM_THREADS"] == "3"


def test_names_of_parts_depend_on_all_that_matters() -> None:
    base = part_name("m", "r", {"a": 1}, ["q1", "q2"])
    assert base == part_name("m", "r", {"a": 1}, ["q2", "q1"])
    assert len({base, part_name("n", "r", {"a": 1}, ["q1", "q2"]),
                part_name("m", "s", {"a": 1}, ["q1", "q2"]),
                part_name("m", "r", {"a": 2}, ["q1", "q2"]),
                part_name("m", "r", {"a": 1}, ["q1"])}) == 5  # fmt: skip


def test_a_part_that_can_t_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises((TypeError, pl.exceptions.ComputeError), match="not a number"):
        write_part([{"score": "not a number"}], tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []
