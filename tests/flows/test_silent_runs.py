"""A run whose process dies without a word: the server ends it, by a real heartbeat that stops."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml
from conftest import BIN, environment
from prefect.events.schemas.automations import AutomationCore
from serving import Handler, running
from shared_server import ask

from flows.deployments import silent_runs
from flows.serve_runs import client_of, register_automation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FILE = Path(__file__).parents[2] / "automations.yaml"

# One run of ours that ends, one of ours and one of others that are in the middle of something.
RUNS = """\
import threading, time
from prefect import flow, tags

@flow(flow_run_name="{name}")
def silent(name, seconds):
    time.sleep(seconds)

def ours(name, seconds):
    with tags("silent-test"):
        silent(name, seconds)

ours("ended", 0)
others = threading.Thread(target=silent, args=("theirs", 600))
others.start()
ours("ours", 600)
"""


def test_the_file_says_the_same() -> None:
    [said] = yaml.safe_load(FILE.read_text())["automations"]
    assert AutomationCore.model_validate(said) == silent_runs()


def test_runs_whose_process_was_killed(prefect_server: str, tmp_path: Path) -> None:
    # A tag of its own: tests beside this one use the same server.
    wanted, url = silent_runs(heartbeat_s=4, tag="silent-test"), prefect_server
    try:
        # As on a server that was not started by `locus serve`; then as by that.
        made = subprocess.run(
            [str(BIN / "prefect"), "automation", "create", "--from-file", str(FILE)],
            env=environment(tmp_path, url),
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stdout + made.stderr
        assert not register_automation(url, silent_runs())
        with too_busy(url) as busy:
            assert register_automation(busy, wanted)
        with client_of(url) as client:
            [found] = client.read_automations_by_name(wanted.name)
            assert found.trigger.within.total_seconds() == 12  # type: ignore[union-attr]
            # Somebody switches it off: it stays off.
            client.update_automation(found.id, wanted.model_copy(update={"enabled": False}))
            assert not register_automation(url, wanted)
            [found] = client.read_automations_by_name(wanted.name)
            assert not found.enabled
            client.update_automation(found.id, wanted.model_copy(update={"enabled": True}))
        crash_in_the_middle(tmp_path, url)
    finally:
        with client_of(url) as client:
            for one in client.read_automations_by_name(wanted.name):
                client.delete_automation(one.id)


@contextmanager
def too_busy(url: str) -> Iterator[str]:
    """The server at another address, where it has no time for the first request of each kind."""
    refused: set[str] = set()

    class Busy(Handler):
        def pass_on(self) -> None:
            what = f"{self.command} {self.path}"
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if what not in refused:
                refused.add(what)
                self.answer(503, b'{"exception_message": "Service Unavailable"}')
                return
            whole = url.removesuffix("/api") + self.path
            told = httpx.request(
                self.command, whole, content=body, headers={"Content-Type": "application/json"}
            )
            self.answer(told.status_code, told.content)

        do_GET = do_POST = do_PUT = do_PATCH = pass_on

    with running(Busy) as address:
        yield f"{address}/api"
    assert any("/automations/" in what for what in refused)


def crash_in_the_middle(folder: Path, url: str) -> None:
    """Three runs of a process that is killed once the server has heard of all of them."""

    def states() -> dict[str, str]:
        runs = ask(url, "/flow_runs/filter", flows={"name": {"any_": ["silent"]}})
        return {run["name"]: run["state_type"] for run in runs}

    def heard() -> set[str]:
        which = {"event": {"name": ["prefect.flow-run.heartbeat"]}}
        events = ask(url, "/events/filter", filter=which, limit=50)["events"]
        return {one["resource"]["prefect.resource.name"] for one in events}

    process = subprocess.Popen(
        [sys.executable, "-c", RUNS], env=environment(folder, url), stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 120
        while not {"ended", "ours", "theirs"} <= heard():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, json.dumps(states())
            time.sleep(1)
        assert states() == {"ended": "COMPLETED", "ours": "RUNNING", "theirs": "RUNNING"}
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    deadline = time.monotonic() + 120
    while states()["ours"] == "RUNNING":
        assert time.monotonic() < deadline, "nobody ended the run"
        time.sleep(1)
    assert states() == {"ended": "COMPLETED", "ours": "CRASHED", "theirs": "RUNNING"}
