"""A job at work: a real worker asks a real service, storage lies between it and the pipeline."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
from openai_server import MODEL, serving

from locus.budget import Budget, Estimate
from locus.evaluation.jobs import Job, JobFolder, Limits, Parts, Report, Wanted
from locus.evaluation.remote import Machine, agreed_versions, run_job
from locus.evaluation.request import EvaluationRequest
from locus.storage import open_storage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

RUN = "0f0e0d0c-0000-4000-8000-000000000001"
SHELF = "parts/0123456789abcdef"


@contextmanager
def wanting(folder: JobFolder, until: Callable[[], bool]) -> Iterator[None]:
    """A pipeline that gives signs of life until something is so, or the block ends."""
    over = threading.Event()

    def beat() -> None:
        n = 0
        while not over.wait(0.2) and not until():
            folder.want(Wanted(n := n + 1))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_job_and_what_ends_it(
    tmp_path: Path, task_folder: Path, bank: pl.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    storage = open_storage(str(tmp_path / "shared"))
    ids = bank.filter(task="tiny_copy").head(8)["query_id"].to_list()
    budget = Budget(queries=6)

    with serving() as server:
        asked = EvaluationRequest(
            run_id=RUN,
            model_id="org/served",
            revision="unversioned",
            backend="local-chat-completions",
            args={"model": MODEL, "base_url": f"{server.root}/chat/completions"},
            queries={"tiny_copy": ids},
            parts="/nowhere/parts",
            # The machine says where tasks lie for it.
            task_folders=["/nowhere/tasks"],
            chunk_size=2,
        )

        def given(attempt: int, silence_s: float) -> JobFolder:
            folder = JobFolder(storage, f"{RUN}-{attempt}")
            asked.write(tmp_path / "request.json")
            content = json.loads((tmp_path / "request.json").read_text())
            limits = Limits(120, silence_s, budget, Estimate(tokens=9, usd=0.0))
            folder.give(Job(content, limits, SHELF, agreed_versions()))
            folder.want(Wanted(0))
            return folder

        def done(folder: JobFolder, until: Callable[[], bool] = lambda: False) -> Report:
            with wanting(folder, until):
                report = run_job(folder.address, Machine(1, [str(task_folder)]))
            assert folder.report() in (report, None)
            return report

        # Its pipeline died while it lay in the queue: nothing is asked.
        report = run_job(given(1, 2).address, Machine(1, [str(task_folder)]))
        assert report.stopped == "the pipeline is silent for 2 s"
        assert not server.asked

        # The pipeline dies when the first part has come; the next chunks are not asked.
        server.delay_s = 1.5
        folder = given(2, 2)
        report = done(folder, lambda: bool(storage.names(SHELF)))
        assert report.stopped == "the pipeline is silent for 2 s"
        assert report.error is None
        n = len(server.asked)
        assert 2 <= n < len(ids)
        assert n == report.spent.queries == 2 * len(storage.names(SHELF))
        assert b"worker" not in (folder.log() or b"")

        # The next one asks what is left, as far as was set aside for it.
        server.delay_s = 0.0
        budget = Budget(queries=len(ids) - n - 1)
        report = done(given(3, 60))
        assert report.stopped is not None
        assert "is spent" in report.stopped
        assert report.done == len(ids) - 1
        assert len(server.asked) == len(ids) - 1
        assert report.spent.queries == len(ids) - n - 1
        # And whoever is told of a failure is told which, with what was finished before it.
        server.fail("401")
        budget = Budget()
        folder = given(4, 60)
        report = done(folder)
        assert report.error is not None
        assert "401" in report.error
        assert "401" in (folder.log() or b"").decode()
        here = Parts(storage, SHELF).fetch(tmp_path / "here")
        answers = pl.concat([pl.read_parquet(path) for path in here])
        assert answers["query_id"].is_unique().all()
        assert answers.height == len(ids) - 1
        assert answers["status"].unique().to_list() == ["ok"]
