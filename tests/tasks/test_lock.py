"""One run at a time: real processes that wait, die, fall silent, wake up and contend."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.lock import (
    PipelineBusyError,
    ensure_held,
    lease_status,
    pipeline_lock,
    raise_if_lost,
    while_held,
)
from tasks.owner import gone, machine, this_run
from tasks.settings import Settings
from warehouse.errors import WarehouseBusyError
from warehouse.leases import LeaseLostError, Owner
from warehouse.store import Warehouse

ROOT = Path(__file__).resolve().parents[2]

# What every process of a test begins with: its home, its lease's length, the machine it says it is.
BEGIN = """
import json, os, sys, time
from pathlib import Path
import tasks.lock as lock
import tasks.owner as owner
from tasks.settings import Settings
from warehouse.store import Warehouse
home, seconds, where = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
settings = Settings(home=home, lease_seconds=seconds)
if where:
    owner.machine = lambda: where
    owner.socket.gethostname = lambda: where
def say(text):
    print(text, flush=True)
def hear():
    return sys.stdin.readline().strip()
"""

HOLD = (
    BEGIN
    + """
with lock.pipeline_lock(settings, float(sys.argv[4]), "the first run"):
    say("held")
    hear()
say("given back")
"""
)


WAIT = (
    BEGIN
    + """
import logging
class Waits(logging.Handler):
    def emit(self, record):
        say("waits")
lock.log.addHandler(Waits())
lock.log.setLevel(logging.INFO)
with lock.pipeline_lock(settings, 100, "the second run"):
    say("held")
    hear()
say("given back")
"""
)


@contextmanager
def python(
    code: str, home: Path, seconds: float = 60, where: str = "", *more: object
) -> Iterator["subprocess.Popen[str]"]:
    """A process that says lines and hears lines."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(home), str(seconds), where, *map(str, more)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def heard(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: "subprocess.Popen[str]", text: str = "go on") -> None:
    assert process.stdin is not None
    process.stdin.write(text + "\n")
    process.stdin.flush()


def row(settings: Settings) -> dict[str, Any]:
    with Warehouse.open(settings.warehouse) as warehouse:
        return warehouse.leases.get()


def taken_over(settings: Settings) -> list[dict[str, Any]]:
    with Warehouse.open(settings.warehouse) as warehouse:
        rows = warehouse.read("SELECT detail FROM audit_log WHERE action = 'take over'")
    return [json.loads(detail) for detail in rows["detail"]]


def until(reached: Callable[[], bool], most_s: float = 60) -> None:
    """Wait for something that must come."""
    end = time.monotonic() + most_s
    while not reached():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def test_one_at_a_time(settings: Settings) -> None:
    with (
        pipeline_lock(settings, what="a run of the test"),
        pytest.raises(PipelineBusyError, match="another run holds the pipeline") as info,
        pipeline_lock(settings),
    ):
        pass
    assert f"a run of the test on {this_run().host}, process {os.getpid()}, since" in str(
        info.value
    )
    assert lease_status(settings) is None
    with pipeline_lock(settings):
        assert row(settings)["token"] == 2
    assert row(settings)["released_at"] is not None
    assert taken_over(settings) == []


def test_a_run_that_fails_gives_it_back(settings: Settings) -> None:
    with pytest.raises(ZeroDivisionError), pipeline_lock(settings):
        raise ZeroDivisionError
    assert row(settings)["released_at"] is not None
    with pipeline_lock(settings):
        pass


def test_the_second_leaves_or_waits(settings: Settings) -> None:
    with python(HOLD, settings.home, 60, "", 0) as first:
        assert heard(first) == "held"
        said = f"the first run on .*, process {first.pid}, "
        with pytest.raises(PipelineBusyError, match=said), pipeline_lock(settings):
            pass
        with python(WAIT, settings.home) as second:
            assert heard(second) == "waits"
            assert row(settings)["pid"] == first.pid
            tell(first)
            assert heard(first) == "given back"
            assert heard(second) == "held"
            assert row(settings)["pid"] == second.pid
            tell(second)
            assert heard(second) == "given back"
    assert taken_over(settings) == []


def test_after_one_that_was_killed_here_the_next_starts_without_waiting(
    settings: Settings,
) -> None:
    # Not reaped by its parent yet: only its exit status is left of it.
    with python(HOLD, settings.home, 3600, "", 0) as first:
        assert heard(first) == "held"
        first.send_signal(signal.SIGKILL)
        until(lambda: psutil.Process(first.pid).status() == psutil.STATUS_ZOMBIE)
        status = lease_status(settings)
        assert status is not None
        assert (status["state"], status["what"]) == ("dead", "the first run")
        with pipeline_lock(settings):
            assert row(settings)["pid"] == os.getpid()
    [over] = taken_over(settings)
    assert over["why"] == "its process is gone"


def test_a_number_given_away_again_is_not_the_owner(settings: Settings) -> None:
    me = this_run("another one of the same number")
    # This process lives, but it isn't the one that was started then.
    other = Owner(me.what, None, me.host, me.machine, os.getppid(), "1")
    with Warehouse.open(settings.warehouse) as warehouse:
        warehouse.leases.take(other, 3600, over=0)
    with pipeline_lock(settings):
        pass
    assert not gone(machine(), me.pid, me.process_start)
    assert gone(machine(), me.pid, me.process_start + "1")
    assert not gone("another machine", me.pid, me.process_start + "1")
    assert not gone("", me.pid, me.process_start + "1")


def test_one_that_was_killed_elsewhere_is_waited_for(settings: Settings) -> None:
    with python(HOLD, settings.home, 3600, "elsewhere", 0) as first:
        assert heard(first) == "held"
        first.kill()
        first.wait()
        with pytest.raises(PipelineBusyError, match="on elsewhere"), pipeline_lock(settings):
            pass


@pytest.mark.parametrize("wait_s", [60, 0])
def test_one_that_fell_silent_elsewhere_is_taken_over_after_its_lease(
    settings: Settings, wait_s: float
) -> None:
    seconds = 2
    with python(HOLD, settings.home, seconds, "elsewhere", 0) as first:
        assert heard(first) == "held"
        first.kill()
        first.wait()
    last = row(settings)
    if not wait_s:
        # Who doesn't wait watches one that looks dead, and no other.
        until(lambda: status_of(settings) == "silent")
    with pipeline_lock(settings, wait_s):
        mine = row(settings)
    assert mine["token"] == last["token"] + 1
    assert (mine["taken_at"] - last["heartbeat_at"]).total_seconds() >= seconds
    [over] = taken_over(settings)
    assert "no sign of life for 2 s" in over["why"]
    assert "the first run on elsewhere" in over["from"]


def status_of(settings: Settings) -> str | None:
    found = lease_status(settings)
    return None if found is None else found["state"]


SLOW_CLOCK = (
    BEGIN
    + """
import datetime
import warehouse.leases as leases
leases.now = lambda: datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
with lock.pipeline_lock(settings, 0, "a run of an hour ago"):
    say("held")
    hear()
say("given back")
"""
)


@pytest.mark.parametrize("wait_s", [0, 5])
def test_a_live_one_elsewhere_is_never_taken_over_whatever_its_clock(
    settings: Settings, wait_s: float
) -> None:
    with python(SLOW_CLOCK, settings.home, 3, "elsewhere") as first:
        assert heard(first) == "held"
        assert status_of(settings) == "silent"
        said = "a run of an hour ago"
        with pytest.raises(PipelineBusyError, match=said), pipeline_lock(settings, wait_s):
            pass
        tell(first)
        assert heard(first) == "given back"
    assert taken_over(settings) == []


def test_time_in_which_nobody_could_give_a_sign_of_life_does_not_count(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    seconds = 3

    def candidate() -> None:
        with pipeline_lock(settings, 100):
            pass

    with python(HOLD, settings.home, seconds, "elsewhere", 0) as first:
        assert heard(first) == "held"
        waiting = threading.Thread(target=candidate)
        waiting.start()
        until(lambda: "waiting for another run" in caplog.text)
        with python(OPEN, settings.home) as reader:
            assert heard(reader) == "open"
            time.sleep(seconds + 1)
            # The owner comes after the candidate, which has seen nothing new for too long.
            first.send_signal(signal.SIGSTOP)
            tell(reader)
            assert heard(reader) == "closed"
            time.sleep(1)
            first.send_signal(signal.SIGCONT)
        tell(first)
        assert heard(first) == "given back"
        waiting.join()
    assert taken_over(settings) == []
    assert row(settings)["token"] == 2


OPEN = (
    BEGIN
    + """
with Warehouse.open(settings.warehouse):
    say("open")
    hear()
say("closed")
"""
)

ZOMBIE = (
    BEGIN
    + """
from locus.snapshots import Snapshot, make_current
from warehouse.leases import LeaseLostError
settings.published.mkdir()
def attempt(act):
    try:
        act()
    except LeaseLostError as error:
        say("refused")
    else:
        say("done")
def write():
    with Warehouse.open(settings.warehouse) as warehouse:
        warehouse.audit("written by", "zombie")
def publish():
    with lock.while_held(settings):
        make_current(settings.published, Snapshot("zombies-own", Path(), {}, "0"))
def noticed():
    lock.raise_if_lost(settings)
with lock.pipeline_lock(settings, 0, "the zombie"):
    say("held")
    acts = {"write": write, "publish": publish, "noticed": noticed}
    while (word := hear()) in acts:
        attempt(acts[word])
say("ended well")
"""
)


def stop_outside_of_the_warehouse(process: "subprocess.Popen[str]", settings: Settings) -> None:
    """Stop a process at an instant at which it doesn't have the file open."""
    while True:
        process.send_signal(signal.SIGSTOP)
        until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
        try:
            Warehouse.open(settings.warehouse, wait_s=0).close()
        except WarehouseBusyError:
            process.send_signal(signal.SIGCONT)
            time.sleep(0.05)
        else:
            return


def test_one_that_wakes_up_too_late_writes_and_publishes_nothing(settings: Settings) -> None:
    with python(ZOMBIE, settings.home, 2) as zombie:
        assert heard(zombie) == "held"
        tell(zombie, "write")
        assert heard(zombie) == "done"
        stop_outside_of_the_warehouse(zombie, settings)
        with pipeline_lock(settings, 60):
            zombie.send_signal(signal.SIGCONT)
            tell(zombie, "write")
            assert heard(zombie) == "refused"
            tell(zombie, "publish")
            assert heard(zombie) == "refused"
            # The heartbeat finds it out too, for those that don't come near the warehouse.
            while tell(zombie, "noticed") or heard(zombie) != "refused":
                time.sleep(0.2)
            tell(zombie, "end")
            _, said = zombie.communicate(timeout=60)
            assert zombie.returncode == 1
            assert "LeaseLostError" in said.splitlines()[-1]
            assert f"process {os.getpid()}, holds it now" in said.splitlines()[-1]
            # The one that has it is not disturbed by all that, and neither is its note.
            ensure_held(settings)
            assert status_of(settings) == "running"
        assert not (settings.published / "current.json").exists()
    [over] = taken_over(settings)
    assert "the zombie" in over["from"]
    with Warehouse.open(settings.warehouse) as warehouse:
        written = warehouse.read("SELECT count(*) FROM audit_log WHERE action = 'written by'")
    assert written.item() == 1


def test_a_lost_lease_reaches_every_thread(settings: Settings) -> None:
    refused: list[LeaseLostError] = []

    def write() -> None:
        try:
            ensure_held(settings)
        except LeaseLostError as error:
            refused.append(error)

    with pytest.raises(LeaseLostError), pipeline_lock(settings):
        ensure_held(settings)
        raise_if_lost(settings)
        with while_held(settings), Warehouse.open(settings.warehouse) as warehouse:
            me = this_run("another")
            other = Owner(me.what, None, "elsewhere", "elsewhere", 1, "1")
            token = warehouse.leases.get()["token"]
            assert warehouse.leases.take(other, 60, token) == token + 1
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        assert len(refused) == 1


CONTEND = (
    BEGIN
    + """
# One process that has imported everything, and twenty that are forked from it.
def run():
    with lock.pipeline_lock(settings, 200):
        inside = os.open(home / "inside", os.O_CREAT | os.O_EXCL)  # fails if anybody is there
        with (home / "done").open("a") as stream:
            stream.write(f"{os.getpid()}\\n")
        time.sleep(0.01)
        os.close(inside)
        (home / "inside").unlink()
children = []
for _ in range(20):
    child = os.fork()
    if not child:
        status = 1
        try:
            run()
            status = 0
        finally:
            os._exit(status)
    children.append(child)
say(json.dumps([os.waitpid(child, 0)[1] for child in children]))
"""
)


def test_twenty_contend_and_each_has_its_turn(settings: Settings) -> None:
    with python(CONTEND, settings.home) as parent:
        out, said = parent.communicate(timeout=200)
    assert json.loads(out) == [0] * 20, said
    done = (settings.home / "done").read_text().split()
    assert len(set(done)) == len(done) == 20
    assert row(settings)["token"] == 20
    assert taken_over(settings) == []


def test_looking_takes_no_lease_and_disturbs_nobody(settings: Settings, tmp_path: Path) -> None:
    assert lease_status(settings) is None
    assert not settings.warehouse.exists()
    with pipeline_lock(settings, what="a long run"), Warehouse.open(settings.warehouse):
        # The file itself is held: whoever opened it would wait.
        looked = subprocess.run(
            [str(Path(sys.executable).parent / "locus"), "status"],
            env=os.environ | {"LOCUS_HOME": str(settings.home), "LOCUS_CONFIG": ""},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert looked.returncode == 0, looked.stderr
        with python(LOOK, settings.home) as other:
            seen = json.loads(heard(other))
    assert (seen["what"], seen["pid"], seen["state"]) == ("a long run", os.getpid(), "running")
    assert seen["expires_at"] > seen["heartbeat_at"] >= seen["taken_at"]
    assert lease_status(settings) is None


LOOK = (
    BEGIN
    + """
say(json.dumps(lock.lease_status(settings), default=str))
"""
)


@pytest.mark.slow
def test_prefect_is_told_of_a_dead_run(settings: Settings, prefect_api: str) -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.states import Completed, Running

    @flow(name="nightly", persist_result=False)
    def nightly() -> dict[str, Any]:
        with pipeline_lock(settings):
            return row(settings)

    me = this_run("nightly")
    with get_client(sync_client=True) as client:
        dead = client.create_flow_run(nightly, state=Running())
        ended = client.create_flow_run(nightly, state=Completed())
        for run in (dead, ended):
            with Warehouse.open(settings.warehouse) as warehouse:
                over = warehouse.leases.get()["token"]
                # A process that has ended, or never was: none has so high a number.
                owner = Owner("nightly", str(run.id), me.host, me.machine, 2**22 + 1, "1")
                warehouse.leases.take(owner, 3600, over)
            mine = nightly()
            assert mine["flow_run_id"] not in (None, str(run.id))
            assert mine["what"].startswith("nightly (flow run ")
        crashed = client.read_flow_run(dead.id).state
        assert crashed is not None
        assert crashed.is_crashed()
        assert "its process is gone" in str(crashed.message)
        kept = client.read_flow_run(ended.id).state
        assert kept is not None
        assert kept.is_completed()
