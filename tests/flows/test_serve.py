"""`locus serve`, workers of a pool and announcements: real processes, real servers, real models."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pytest
from conftest import BIN, SETTINGS, Pipeline, environment
from shared_server import ask, copy_database
from tiny import write_tasks

from flows.backfill import backfill
from flows.deployments import silent_runs
from locus.ids import InvalidIdError
from locus.registry import RegistryError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
PATIENCE_S = 240

ANNOUNCE = """\
import sys
from tasks.announce import announce
from tasks.settings import load_settings
print(announce(load_settings(), *sys.argv[1:], "test"))
"""


def wait_for(done: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """What ``done`` gives, as soon as it is something."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        found = done()
        if found:
            return found
        time.sleep(0.5)
    return pytest.fail(f"waited {patience_s:.0f} s in vain for {what}")


@dataclass
class Served:
    """A running `locus serve`."""

    folder: Path
    process: "subprocess.Popen[bytes]"

    @property
    def said(self) -> str:
        return (self.folder / "serve.out").read_text()

    def until(self, text: str) -> None:
        def there() -> bool:
            if text not in self.said and self.process.poll() is not None:
                pytest.fail(f"serve has ended before it said {text!r}: {self.said}")
            return text in self.said

        wait_for(there, f"{text!r} of serve, which said: {self.said}")

    @property
    def url(self) -> str:
        return str(json.loads((self.folder / "state" / "serve.json").read_text())["api_url"])

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def ask(self, path: str, **body: Any) -> Any:
        return ask(self.url, path, **body)

    def runs(self, name: str, *states: str) -> list[dict[str, Any]]:
        which = {"state": {"type": {"any_": list(states)}}} if states else {}
        found: list[dict[str, Any]] = self.ask(
            "/flow_runs/filter", flows={"name": {"any_": [name]}}, flow_runs=which
        )
        return found


@contextmanager
def serving(pipeline: Pipeline, *options: str) -> Iterator[Served]:
    """Start `locus serve`; whatever is left of it at the end is killed."""
    with (pipeline.folder / "serve.out").open("wb") as out:
        process = subprocess.Popen(
            [str(BIN / "locus"), "serve", *options],
            cwd=pipeline.folder,
            env=pipeline.environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    served, family = Served(pipeline.folder, process), []
    try:
        yield served
    finally:
        if process.poll() is None:
            family = served.family()
            process.kill()
            process.wait()
        for one in family:
            if one.is_running():
                one.kill()


@pytest.fixture
def alone(tmp_path: Path, tiny_models: Path) -> Pipeline:
    """A pipeline with three models and no Prefect server."""
    (tmp_path / "locus.toml").write_text(SETTINGS)
    (tmp_path / "models").symlink_to(tiny_models)
    write_tasks(tmp_path / "tasks")
    variables = environment(tmp_path)
    # Unset, not empty; and no Prefect home, so that it is the pipeline's own.
    del variables["PREFECT_API_URL"], variables["PREFECT_HOME"]
    made = Pipeline(tmp_path, variables)
    made.register("a", "b", "c")
    return made


def announcing(
    pipeline: Pipeline, model_id: str, revision: str, **variables: str
) -> "subprocess.Popen[str]":
    """Another process that announces a model and ends at once."""
    return subprocess.Popen(
        [sys.executable, "-c", ANNOUNCE, model_id, revision],
        cwd=pipeline.folder,
        env={**pipeline.environment, **variables},
        stdout=subprocess.PIPE,
        text=True,
    )


def not_of_the_watch(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Runs but those for models as they really are: the scheduled watch may come by meanwhile."""
    return [one for one in runs if one["parameters"].get("revision") in (None, "r1")]


def _opened(file: str) -> duckdb.DuckDBPyConnection | None:
    try:
        return duckdb.connect(file, read_only=True)
    except duckdb.IOException:
        return None


def count(pipeline: Pipeline, model_id: str) -> int:
    """Scores of a model in the working warehouse, between two runs."""
    file = str(pipeline.folder / "state" / "warehouse.duckdb")
    # The scheduled watch has it open now and then.
    with wait_for(lambda: _opened(file), "the warehouse to be free") as con:
        [(n,)] = con.sql(
            "SELECT count(*) FROM score WHERE model_id = ?", params=[model_id]
        ).fetchall()
    return int(n)


def test_a_model_is_announced_elsewhere_and_added_here(alone: Pipeline) -> None:
    alone.register("a", "b")
    with serving(alone) as served:
        served.until("Ctrl-C stops everything")
        second = alone.locus("serve")
        assert second.returncode == 1
        assert "another `locus serve` runs" in second.stderr
        assert (alone.folder / "state" / "prefect").is_dir()

        # The first map, by the deployment that people trigger by hand.
        nightly = ask(served.url, "/deployments/name/nightly/nightly", "GET")
        served.ask(f"/deployments/{nightly['id']}/create_flow_run")
        ended = wait_for(
            lambda: served.runs("nightly", "COMPLETED", "FAILED", "CRASHED"), "nightly to end"
        )
        assert [run["state_type"] for run in ended] == ["COMPLETED"], ended
        assert count(alone, "org/a") == 80

        alone.register("a", "b", "late")
        both = [announcing(alone, "org/late", "r1") for _ in range(2)]
        assert sorted(one.communicate(timeout=120)[0].strip() for one in both) == ["False", "True"]
        ended = wait_for(
            lambda: not_of_the_watch(served.runs("add-model", "COMPLETED", "FAILED", "CRASHED")),
            "add-model to end",
        )
        assert [run["state_type"] for run in ended] == ["COMPLETED"], ended
        assert ended[0]["parameters"]["model_id"] == "org/late"
        # The deployment's own parameters hold beside those of the event.
        assert ended[0]["parameters"]["wait_s"] > 3600
        assert count(alone, "org/late") >= 20
        assert announcing(alone, "org/late", "r1").communicate(timeout=120)[0] == "False\n"
        served.until("add-model-org/late@r1: completed")

        family = served.family()
        assert len(family) >= 2
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(60) == 0
        assert psutil.wait_procs(family, timeout=1)[1] == []
        assert served.said.count("add-model-org/late@r1: running") == 1
    assert "Traceback" not in served.said
    assert served.said.rstrip().endswith("stopped")
    assert not (alone.folder / "state" / "serve.json").exists()
    runs_log = (alone.folder / "state" / "logs" / "runs.log").read_text()
    assert "locus.pipeline - org/late: 0 of" in runs_log
    # Nobody listens any more, and nothing was said of a new revision.
    assert announcing(alone, "org/late", "r2").communicate(timeout=120)[0] == "False\n"


def test_schedules_are_kept_and_a_dead_server_is_named(
    alone: Pipeline, _prefect_folder: Path
) -> None:
    # Half of a server's start goes into its first database, and above it makes one.
    copy_database(_prefect_folder, alone.folder / "state")
    with serving(alone, "--cron", "30 1 * * *", "--timezone", "Europe/Berlin") as served:
        served.until("Ctrl-C stops everything")
        assert "30 1 * * * Europe/Berlin, next" in served.said
        due = wait_for(lambda: served.runs("nightly", "SCHEDULED"), "nightly to be scheduled", 60)
        assert {run["expected_start_time"][14:16] for run in due} == {"30"}
        wait_for(lambda: served.runs("retrain", "SCHEDULED"), "retrain to be scheduled", 60)
        # Beside the trigger of add-model, which is an automation too.
        names = [one["name"] for one in served.ask("/automations/filter")]
        assert names.count(silent_runs().name) == 1
        told = json.loads(alone.locus("status", "--format", "json").stdout)["next_night"]
        assert told["server"] == served.url
        # A busy machine's server may take longer than the second that is waited for it.
        assert (told["at"] or told["said"])[14:16] == "30" or "timed out" in told["said"]
        family = served.family()
        server = next(one for one in family if one.cmdline()[-1] == "server")
        server.kill()
        assert served.process.wait(60) == 1
        assert psutil.wait_procs(family, timeout=1)[1] == []
    assert "error: the Prefect server has ended by SIGKILL" in served.said
    assert "prefect-server.log" in served.said
    assert "Traceback" not in served.said


def test_processes_end_with_a_serve_that_is_killed(alone: Pipeline) -> None:
    with serving(alone) as served:
        served.until("starting a Prefect server")
        family = wait_for(served.family, "the server to start")
        served.process.kill()
        served.process.wait()
        assert psutil.wait_procs(family, timeout=60)[1] == []


def test_a_backfill_of_a_stranger_asks_nobody(
    alone: Pipeline, monkeypatch: pytest.MonkeyPatch, prefect_api: str
) -> None:
    monkeypatch.setenv("LOCUS_CONFIG", str(alone.folder / "locus.toml"))
    with pytest.raises(RegistryError, match="'org/nobody': not in"):
        backfill.fn(models=["org/a", "org/nobody"])
    with pytest.raises(InvalidIdError):
        backfill.fn(models=["../a"])
    assert not (alone.folder / "state" / "runs").exists()


@pytest.mark.parametrize(
    ("options", "api_url", "says"),
    [
        (["--timezone", "Mars/North"], None, "is no schedule"),
        (["--cron", "tonight"], None, "is no schedule"),
        ([], "http://prefect.invalid/api", "unset PREFECT_API_URL"),
    ],
)
def test_what_can_not_be_served_is_one_line(
    alone: Pipeline, options: list[str], api_url: str | None, says: str
) -> None:
    if api_url:
        alone.environment["PREFECT_API_URL"] = api_url
    run = alone.locus("serve", *options)
    assert run.returncode == 1
    assert says in run.stderr
    assert run.stderr.startswith("error: ")
    assert len(run.stderr.splitlines()) == 1


def test_a_worker_of_a_pool(pipeline: Pipeline, own_prefect_server: str) -> None:
    # Its deployments listen to events: those of other tests must not come here.
    pipeline.environment["PREFECT_API_URL"] = own_prefect_server

    def prefect(*arguments: str) -> None:
        subprocess.run(
            [str(BIN / "prefect"), "--no-prompt", *arguments],
            cwd=ROOT,
            env=pipeline.environment,
            check=True,
            capture_output=True,
            timeout=PATIENCE_S,
        )

    def runs(name: str, *states: str) -> list[dict[str, Any]]:
        which = {"state": {"type": {"any_": list(states)}}} if states else {}
        asked = {"deployments": {"name": {"any_": [name]}}, "flow_runs": which}
        found: list[dict[str, Any]] = ask(own_prefect_server, "/flow_runs/filter", **asked)
        return not_of_the_watch(found)

    # A server without the deployment loses no model: it isn't marked as announced.
    assert announcing(pipeline, "org/c", "r1").communicate(timeout=120)[0] == "False\n"
    assert list((pipeline.folder / "state" / "announced").iterdir()) == []

    prefect("work-pool", "create", "locus", "--type", "process")
    prefect("deploy", "--all")
    many = [announcing(pipeline, "org/c", "r1") for _ in range(4)]
    said = [one.communicate(timeout=120)[0].strip() for one in many]
    assert sorted(said) == ["False", "False", "False", "True"]
    prefect("deployment", "run", "nightly/nightly", "-p", "dry_run=true")
    (pipeline.folder / "elsewhere").mkdir()
    with (pipeline.folder / "worker.log").open("wb") as out:
        worker = subprocess.Popen(
            [str(BIN / "prefect"), "worker", "start", "--pool", "locus"],
            # Where it stands doesn't matter: the settings are named by their whole path.
            cwd=pipeline.folder / "elsewhere",
            env={**pipeline.environment, "LOCUS_CONFIG": str(pipeline.folder / "locus.toml")},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        ended = ("COMPLETED", "FAILED", "CRASHED")
        [night] = wait_for(lambda: runs("nightly", *ended), "nightly on the worker")
        assert night["state_type"] == "COMPLETED", night["state"]
        [added] = wait_for(lambda: runs("add-model", *ended), "add-model on the worker")
        assert added["parameters"]["model_id"] == "org/c"
        assert added["parameters"]["revision"] == "r1"
        # There is no map yet: that is no failure, the next nightly asks it too.
        assert added["state_type"] == "COMPLETED", added["state"]
        assert count(pipeline, "org/c") == 0
    finally:
        os.killpg(worker.pid, signal.SIGTERM)
        worker.wait(60)
    assert len(runs("add-model")) == 1
