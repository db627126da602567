"""Models asked by two machines that share no disk; one of them dies in the middle.

One is a tiny one with weights, which its machine loads; the others are behind a service, whose
questions are counted. Each job starts two processes that import for seconds: four models by
default, ``LOCUS_POOL_MODELS=16`` (`make test-kills`) asks sixteen.
"""

import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import polars as pl
import psutil
import pytest
from bucket import bucket
from conftest import BIN, environment
from openai_server import MODEL, OpenAIServer, serving
from prefect import flow
from tiny import write_model, write_tasks

from flows.outcome import Outcome
from flows.pipeline import _evaluate, _plan
from locus.budget import Ledger
from locus.evaluation.launch import evaluate
from locus.evaluation.request import EvaluationRequest
from locus.storage import open_storage
from tasks.discover import discover_models, sync_catalogue
from tasks.evaluate import Evaluated
from tasks.lock import pipeline_lock
from tasks.settings import Settings, load_settings
from warehouse.store import Warehouse

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

N_LOCAL = 1
N_SERVED = int(os.environ.get("LOCUS_POOL_MODELS", "4")) - N_LOCAL
CHUNK = 2
PIPELINE = """\
tasks = ["tiny_choice", "tiny_copy"]
task_folders = ["tasks"]

[evaluation]
pool = "{pool}"
storage = "s3://locus-pool/answers"
pool_silence_seconds = 15
# A machine that is busy beyond measure may be taken for dead now and then; that does no harm.
pool_attempts = 9
bootstrap_queries = 6
test_queries = 3
chunk_size = {chunk}
device = "cpu"
"""
MACHINE = """\
task_folders = ["tasks"]

[evaluation]
device = "cpu"
"""


@pytest.fixture
def service() -> Iterator[OpenAIServer]:
    with serving() as running:
        running.delay_s = 0.5
        yield running


@pytest.fixture
def settings(
    tmp_path: Path, prefect_api: str, service: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """A pipeline of models whose evaluations go to a pool of its own."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.workers.process import ProcessWorker

    pool = f"pool-{uuid.uuid4().hex[:8]}"
    template = ProcessWorker.get_default_base_job_template()
    with get_client(sync_client=True) as client:
        client.create_work_pool(
            WorkPoolCreate(name=pool, type="process", base_job_template=template)
        )
    (tmp_path / "locus.toml").write_text(PIPELINE.format(pool=pool, chunk=CHUNK))
    write_tasks(tmp_path / "tasks")
    models = [write_model(tmp_path / "models" / str(n), n) for n in range(N_LOCAL)]
    lines = [f"- {{id: org/local-{m.name}, args: {{pretrained: {m}}}}}\n" for m in models]
    lines += [
        f"- {{id: org/served-{n}, backend: local-chat-completions, args: {{model: {MODEL}, "
        f'base_url: "{service.root}/chat/completions", num_concurrent: 1}}}}\n'
        for n in range(N_SERVED)
    ]
    (tmp_path / "models.yaml").write_text("models:\n" + "".join(lines))
    monkeypatch.setenv("LOCUS_CONFIG", str(tmp_path / "locus.toml"))
    with bucket("locus-pool") as s3:
        for name, value in s3.items():
            monkeypatch.setenv(name, value)
        yield load_settings()
        # Its address is another one next time.
        open_storage.cache_clear()


@contextmanager
def machine(folder: Path, pool: str, api: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker with its own home, settings and tasks, and all that it starts."""
    write_tasks(folder / "tasks")
    (folder / "locus.toml").write_text(MACHINE)
    with (folder / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [str(BIN / "prefect"), "worker", "start", "--pool", pool, "--name", folder.name,
             "--limit", "2"],
            cwd=folder,
            env={
                **environment(folder, api),
                "LOCUS_CONFIG": str(folder / "locus.toml"),
                "PREFECT_WORKER_QUERY_SECONDS": "1",
            },
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield worker
    finally:
        kill(worker)


def kill(worker: "subprocess.Popen[bytes]") -> None:
    """Kill a worker and everything that it started, as when its machine falls away."""
    family = [psutil.Process(worker.pid)] if worker.poll() is None else []
    family += [child for one in family for child in one.children(recursive=True)]
    for one in family:
        with suppress(psutil.NoSuchProcess):
            os.kill(one.pid, signal.SIGKILL)
    worker.wait()


def evaluations(worker: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """Processes of a machine that ask a model."""
    found = []
    for one in psutil.Process(worker.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "locus.evaluation.worker" in one.cmdline():
                found.append(one)
    return found


def kill_while_it_asks(worker: "subprocess.Popen[bytes]", settings: Settings) -> None:
    """Kill a machine once it asks, and some answers of the pool have come already."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if evaluations(worker) and open_storage(settings.storage).names("parts"):
            kill(worker)
            return
        time.sleep(0.2)


@flow
def evaluation(settings: Settings) -> list[Evaluated]:
    """The pipeline as far as the answers."""
    with pipeline_lock(settings):
        sync_catalogue(settings)
        planned, expected = _plan(settings, discover_models(settings, None), {}, Outcome())
        return _evaluate(settings, planned, expected, Ledger(settings.evaluation.budget))


def test_a_machine_dies_and_the_other_one_does_its_work(
    settings: Settings,
    service: OpenAIServer,
    tmp_path: Path,
    prefect_api: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = str(settings.evaluation.pool)
    with ExitStack() as machines:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
        dying, _ = (
            machines.enter_context(machine(tmp_path / name, pool, prefect_api))
            for name in ("one", "two")
        )
        killer = threading.Thread(target=kill_while_it_asks, args=(dying, settings))
        killer.start()
        results = evaluation(settings)
        killer.join()
        assert dying.returncode == -signal.SIGKILL
    assert len(results) == N_LOCAL + N_SERVED
    assert {result.error for result in results} == {None}
    again = [line for line in caplog.messages if "it is given out again" in line]
    assert again
    with Warehouse.open(settings.warehouse) as warehouse:
        held = warehouse.read("SELECT * FROM score")
        runs = warehouse.scores.runs()
    # Every model was asked everything, and nothing is there twice.
    assert set(runs["status"]) == {"finished"}
    assert held.height == held.unique(["model_id", "query_id"]).height == runs["n_planned"].sum()
    assert set(held["status"]) == {"ok"}
    # What the dead machine had finished isn't asked again, but for a chunk on its way and the one
    # that it was at.
    n_served = held.filter(pl.col("model_id").str.starts_with("org/served")).height
    assert n_served <= len(service.asked) <= n_served + 2 * CHUNK * len(again)
    # What was handed over is handed over.
    assert open_storage(settings.storage).names("") == []

    # The same answers as here, by one process that nobody disturbs.
    for model_id in {"org/local-0", again[0].split(":")[0]}:
        (run_id,) = runs.filter(pl.col("model_id") == model_id)["run_id"]
        request = EvaluationRequest.read(settings.home / "runs" / run_id / "request.json")
        alone = replace(request, parts=str(tmp_path / "alone" / run_id))
        parts = evaluate(alone, tmp_path / "work" / run_id, 300, 1)
        answer = ["query_id", "status", "score", "metric", "response", "tokens_in", "tokens_out"]
        undisturbed = pl.concat([pl.read_parquet(part) for part in parts]).select(answer)
        ours = held.filter(pl.col("model_id") == model_id).select(answer)
        assert ours.sort("query_id").equals(undisturbed.sort("query_id"))
