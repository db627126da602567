"""The lease's row, and who can't open the database any more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from warehouse.errors import WarehouseError
from warehouse.leases import LeaseLostError, Owner, fence, fenced
from warehouse.store import Warehouse

ROOT = Path(__file__).resolve().parents[2]


def owner(what: str) -> Owner:
    return Owner(what, None, "host", "machine", 1, "start")


def test_taken_once_and_by_the_next_one_after_it(empty: Warehouse) -> None:
    first = empty.leases.get()
    assert first["token"] == 0
    assert first["released_at"] is not None
    assert empty.leases.take(owner("a"), 60, over=0) == 1
    # Read before the other one took it: too late.
    assert empty.leases.take(owner("b"), 60, over=0) is None
    held = empty.leases.get()
    assert (held["what"], held["token"], held["released_at"]) == ("a", 1, None)
    assert (held["expires_at"] - held["heartbeat_at"]).total_seconds() == 60
    empty.leases.renew(1, 90)
    renewed = empty.leases.get()
    assert renewed["heartbeat_at"] >= held["heartbeat_at"]
    assert (renewed["expires_at"] - renewed["heartbeat_at"]).total_seconds() == 90
    assert renewed["taken_at"] == held["taken_at"]
    empty.leases.release(1)
    assert empty.leases.get()["released_at"] is not None
    assert empty.leases.take(owner("b"), 60, over=1) == 2


def test_who_lost_it_is_told_who_has_it(empty: Warehouse) -> None:
    empty.leases.take(owner("a"), 60, over=0)
    empty.leases.take(owner("b"), 60, over=1)
    for act in (lambda: empty.leases.renew(1, 60), lambda: empty.leases.release(1)):
        with pytest.raises(LeaseLostError, match="b on host, process 1, holds it now"):
            act()
    assert empty.leases.get()["released_at"] is None
    empty.leases.release(2)
    with pytest.raises(LeaseLostError, match="given back since"):
        empty.leases.renew(2, 60)


def test_a_fence_lets_in_the_holder_only(db: Path) -> None:
    with Warehouse.open(db) as w:
        assert w.leases.take(owner("a"), 60, over=0) == 1
    with fenced(db, 1):
        # Another name of the same file is the same file.
        assert fence(db.parent / "." / ".." / db.parent.name / db.name) == 1
        with Warehouse.open(db) as w:
            w.audit("before", "x")
            w.leases.take(owner("b"), 60, over=1)
        with pytest.raises(LeaseLostError):
            Warehouse.open(db)
        with pytest.raises(WarehouseError, match="another lease"), fenced(db, 2):
            pass
        assert fence(db) == 1
    assert fence(db) is None
    # It was refused without keeping the file, and nothing was changed.
    with Warehouse.open(db, wait_s=0) as w:
        assert w.read("SELECT action FROM audit_log")["action"].to_list() == ["before"]
        assert w.leases.get()["token"] == 2


ADD = """
import sys, threading, pathlib
import warehouse.store
from warehouse.store import Warehouse
# Without it the file is opened and closed so often that what must not happen happens every time.
warehouse.store.migrate = lambda session: []
db = pathlib.Path(sys.argv[1])
def add(name):
    for _ in range(60):
        with Warehouse.open(db, wait_s=120) as w:
            w.audit("add", name)
threads = [threading.Thread(target=add, args=(f"{sys.argv[2]}-{i}",)) for i in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
"""


def test_threads_of_processes_that_open_and_close_beside_each_other_lose_nothing(db: Path) -> None:
    Warehouse.open(db).close()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ADD, str(db), name],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b")
    ]
    said = [process.communicate(timeout=200)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert "Error" not in "".join(said)  # a thread that failed
    with Warehouse.open(db) as w:
        counted = dict(w.read("SELECT subject, count(*) FROM audit_log GROUP BY 1").iter_rows())
    assert counted == {f"{name}-{i}": 60 for name in "ab" for i in range(4)}
