"""Faults made for real: nothing is lost, nothing counts twice, the next run or the doctor mends.

What the promises and other tests show already isn't shown again: kills at any instant, a torn part,
a full disk under a worker, a clock that goes wrong under a live lease.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from kept_home import KeptHome
from mounts import mounted
from typer.testing import CliRunner

from flows.cli import app
from locus.embedding.checkpoint import CheckpointError
from locus.evaluation.parts import write_part
from locus.snapshots import SnapshotError, all_snapshots, current, verify
from tasks.doctor import State, mend
from tasks.heal import heal_interrupted
from tasks.publish import is_behind
from tasks.record import REFUSED, record_parts
from tasks.settings import Settings
from tasks.snapshots import prune, roll_back
from warehouse.connection import now
from warehouse.content import content
from warehouse.errors import WarehouseError
from warehouse.examine import examine
from warehouse.store import Warehouse

BIN = Path(sys.executable).parent
LOCKLESS = Path(__file__).with_name("lockless.py")


def turned(path: Path, at: float = 0.5, n: int = 1) -> None:
    """Turn bytes of a file round, so far into it."""
    data = bytearray(path.read_bytes())
    start = int(len(data) * at)
    data[start : start + n] = bytes(b ^ 0xFF for b in data[start : start + n])
    path.chmod(0o644)
    path.write_bytes(data)


def cut(path: Path) -> None:
    """Take the second half of a file away."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def answers(kept: KeptHome) -> pl.DataFrame:
    with Warehouse.open(kept.settings.warehouse) as w:
        return w.read("SELECT model_id, query_id, score, run_id FROM score ORDER BY ALL")


def do(command: str) -> None:
    """What the doctor said, as a person would type it."""
    subprocess.run(["sh", "-c", command], check=True)


def told(step: str, program: str) -> str:
    """The command of a step that begins like this."""
    return next(c for c in re.findall(r"`([^`]+)`", step) if c.startswith(program))


# --- parts ---------------------------------------------------------------------------------------


def test_a_part_with_any_bit_turned_is_refused_or_says_the_same(
    kept: KeptHome, tmp_path: Path
) -> None:
    """Polars itself read other answers from every tenth of such files, and died of some."""
    whole = kept.ask("run-b", "org/b", range(20), record=False)
    data = whole.read_bytes()
    outcomes = set()
    part = tmp_path / "part.parquet"
    with Warehouse.open(kept.settings.warehouse) as w:
        for number in range(0, len(data), len(data) // 60):
            part.write_bytes(data[:number] + bytes([data[number] ^ 4]) + data[number + 1 :])
            added, refused = record_parts(w, "run-b", [part])
            right = w.read("SELECT DISTINCT score, status FROM score WHERE run_id = 'run-b'").rows()
            assert right == ([(1.0, "ok")] if added else [])
            outcomes.add("refused" if refused else "the same")
            w._session.execute("DELETE FROM score WHERE run_id = 'run-b'")
            w._session.execute("DELETE FROM score_part WHERE run_id = 'run-b'")
            part.with_name(part.name + REFUSED).unlink(missing_ok=True)
    assert "refused" in outcomes
    assert heal_interrupted.fn(kept.settings) == 0  # nothing was asked for of this run: it ends
    assert answers(kept).height == 200


def test_the_doctor_sets_a_damaged_part_aside(kept: KeptHome) -> None:
    before = answers(kept)
    recorded = kept.settings.parts / "model" / "run-a.parquet"
    turned(recorded, 0.1, 40)
    found = kept.doctor()
    assert found["part"][0].state is State.broken
    assert str(recorded) in found["part"][0].said
    (line,) = mend(kept.settings)
    assert str(recorded) in line
    assert recorded.with_name(recorded.name + REFUSED).exists()
    assert [f.state for f in kept.doctor()["parts"]] == [State.warning]
    assert answers(kept).equals(before)


# --- warehouse -----------------------------------------------------------------------------------


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda p: p.write_bytes(p.read_bytes()[:20_000]),
    "a byte that is only read with its rows": lambda p: turned(p, 0.7),
    "empty": lambda p: p.write_bytes(b""),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_warehouse_comes_back_as_the_doctor_says(kept: KeptHome, damage: str) -> None:
    before = answers(kept)
    path, published = kept.settings.warehouse, current(kept.settings.published)
    DAMAGE[damage](path)
    left = path.read_bytes() if path.exists() else None
    if damage in ("cut", "empty"):
        with pytest.raises(WarehouseError, match="`locus doctor` says what to do"):
            Warehouse.open(path)
    found = kept.doctor()["warehouse"][0]
    assert found.state is State.broken
    assert CliRunner().invoke(app, ["doctor", "--repair"]).exit_code == 1
    if left is not None:
        assert path.read_bytes() == left
        # A log of the old one would be replayed into the new one.
        path.with_name(path.name + ".wal").write_bytes(b"")
        do(told(kept.doctor()["warehouse"][0].next_step, "mv"))
        assert path.with_name(path.name + ".corrupt").read_bytes() == left
        assert not path.with_name(path.name + ".wal").exists()
    do(told(found.next_step, "install"))
    again = kept.doctor()
    assert {f.state for group in again.values() for f in group} <= {State.warning}
    assert current(kept.settings.published) == published
    assert answers(kept).equals(before)
    kept.ask("run-c", "org/c", range(5))


WRITER = """
import os, signal, sys, pathlib
from warehouse.store import Warehouse
w = Warehouse.open(pathlib.Path(sys.argv[1]))
for number in range(6):
    w.audit("note", f"n{number}", {"text": "x" * 2000})
os.kill(os.getpid(), signal.SIGKILL)
"""


def left_with_its_log(kept: KeptHome) -> Path:
    """The log of a warehouse whose writer was killed, with six transactions in it."""
    done = subprocess.run([sys.executable, "-c", WRITER, str(kept.settings.warehouse)], check=False)
    assert done.returncode == -signal.SIGKILL
    wal = kept.settings.warehouse.with_name("warehouse.duckdb.wal")
    assert wal.stat().st_size > 10_000
    return wal


def notes(kept: KeptHome) -> int:
    with Warehouse.open(kept.settings.warehouse) as w:
        return int(w.read("SELECT count(*) FROM audit_log WHERE action = 'note'").item())


def test_a_log_that_is_whole_cut_or_damaged(kept: KeptHome, tmp_path: Path) -> None:
    wal = left_with_its_log(kept)
    saved = {path: path.read_bytes() for path in (wal, kept.settings.warehouse)}

    def again() -> None:
        for path, data in saved.items():
            path.write_bytes(data)

    before = content(kept.settings.warehouse)
    assert kept.doctor() == {}  # nothing need be done, and looking leaves it
    assert wal.read_bytes() == saved[wal]
    assert notes(kept) == 6
    again()
    cut(wal)  # as by a power cut: whole transactions, the first ones
    assert 0 < notes(kept) < 6
    assert kept.doctor() == {}
    again()
    turned(wal, 0.3)
    with pytest.raises(WarehouseError, match="WAL"):
        Warehouse.open(kept.settings.warehouse)
    found = kept.doctor()["warehouse"][0]
    assert "WAL" in found.said
    do(told(found.next_step, "mv"))
    assert wal.with_name(wal.name + ".corrupt").read_bytes() != saved[wal]
    assert kept.doctor() == {}
    assert notes(kept) == 0
    assert content(kept.settings.warehouse)["score"] == before["score"]


# --- maps and snapshots --------------------------------------------------------------------------


def test_a_damaged_map_is_named_and_its_folder_can_be_put_back(
    kept: KeptHome, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    assert CliRunner().invoke(app, ["backup", str(backup)]).exit_code == 0
    (folder,) = kept.settings.checkpoints.iterdir()
    turned(folder / "model.safetensors", 0.9)
    found = kept.doctor()["checkpoint"][0]
    assert found.state is State.broken
    assert "has changed since it was written" in found.said
    with pytest.raises(CheckpointError, match="restore it from a backup"):
        kept.publish()
    # What is damaged is no part of a backup, which says so.
    again = CliRunner().invoke(app, ["backup", str(tmp_path / "second")])
    assert "LEFT OUT: checkpoint" in again.stdout
    shutil.rmtree(folder)
    assert "is missing" in kept.doctor()["checkpoint"][0].said
    shutil.copytree(backup / "home" / "checkpoints" / folder.name, folder)
    assert kept.doctor() == {}


POINTERS: dict[str, Callable[[Path], object]] = {
    "empty": lambda p: (p / "current.json").write_text(""),
    "garbage": lambda p: (p / "current.json").write_bytes(b"\xff\x00{"),
    "gone": lambda p: (p / "current.json").unlink(),
    "a manifest that is gone": lambda p: (current(p).folder / "manifest.json").unlink(),
    "a manifest that is cut": lambda p: cut(current(p).folder / "manifest.json"),
    "a changed file": lambda p: turned(current(p).folder / "routing" / "table.parquet"),
    "a file that is gone": lambda p: (current(p).folder / "similarity" / "pairs.parquet").unlink(),
}


@pytest.mark.parametrize("fault", POINTERS)
def test_readers_are_shown_a_whole_snapshot_again(kept: KeptHome, fault: str) -> None:
    published = kept.settings.published
    newest, older = all_snapshots(published)
    assert roll_back(kept.settings) == older  # what a person has chosen
    POINTERS[fault](published)
    found = kept.doctor()
    assert found["published"][0].state is State.broken
    lines = mend(kept.settings)
    intact = older.folder.is_dir()
    assert current(published) == (older if intact else newest)
    assert any("readers see" in line for line in lines)
    left = {f.state for group in kept.doctor().values() for f in group}
    assert left == (set() if intact else {State.warning})
    assert sorted(p.name for p in (published / "snapshots").iterdir()) == sorted(
        [newest.snapshot_id, older.snapshot_id + ("" if intact else ".corrupt")]
    )
    for one in all_snapshots(published):
        assert verify(one.folder, one.manifest_sha256)


def test_the_next_publication_mends_the_pointer_by_itself(kept: KeptHome) -> None:
    before = answers(kept)
    POINTERS["a manifest that is gone"](kept.settings.published)
    with pytest.raises(SnapshotError):
        current(kept.settings.published)
    heal_interrupted.fn(kept.settings)
    with Warehouse.open(kept.settings.warehouse) as w:
        active = w.checkpoints.active()
    assert active is not None
    assert is_behind(kept.settings, active["checkpoint_id"])  # so that a night publishes
    snapshot = kept.publish()
    assert current(kept.settings.published) == snapshot
    assert answers(kept).equals(before)


# --- disks ---------------------------------------------------------------------------------------


NIGHT = """
import sys, pathlib
from kept_home import KeptHome
made = KeptHome(pathlib.Path(sys.argv[1]))
made.ask(sys.argv[2], "org/b", range(10))
made.publish()
"""


def test_a_home_that_cannot_be_written_to(kept: KeptHome, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "24m", kept.home) as disk:
        disk.do("mount", "-o", "remount,ro", str(disk.folder))
        locus, home = str(BIN / "locus"), f"LOCUS_HOME={disk.folder / 'home'}"
        found = disk.run("env", home, locus, "doctor")
        assert found.returncode == 1
        assert "can't be written to: Read-only file system" in found.stdout
        assert re.search(r"^broken +disk .* a night needs about", found.stdout, re.MULTILINE)
        done = disk.run("env", home, locus, "backup", str(tmp_path / "b.tar"))
        assert done.returncode == 1, done.stderr
        assert re.search("read-only", done.stderr, re.IGNORECASE)
        assert "locus doctor" in done.stderr
        assert "defect" not in done.stderr
        assert not (tmp_path / "b.tar").exists()


def test_a_home_whose_file_system_has_no_locks(kept: KeptHome) -> None:
    """As NFS without its lock daemon: it is said, and not taken for another run that goes on."""
    for command, status, says in (
        (["doctor"], 1, r"home +\S+ *\n? *\S*: its file system has no locks"),
        (["sql", "SELECT 1"], 1, "warehouse.duckdb can't be locked: its file system has no locks"),
        (["backup", str(kept.home.parent / "b.tar")], 1, "No locks available; see `locus doctor`"),
        (["status"], 0, "models"),
    ):
        done = subprocess.run(
            [sys.executable, str(LOCKLESS), str(BIN / "locus"), *command],
            env={**os.environ, "LOCUS_HOME": str(kept.home), "COLUMNS": "300"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        assert re.search(says, done.stdout + done.stderr), (done.stdout, done.stderr)


def test_a_disk_that_is_full_while_a_night_goes_on(kept: KeptHome, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "32m", kept.home) as disk:
        home = disk.folder / "home"
        night = [sys.executable, "-c", NIGHT, str(home)]
        filler = str(disk.folder / "filler")
        # Room for the answers, and none for a snapshot.
        disk.run("head", "-c", "40m", "/dev/zero", to=filler)
        disk.do("truncate", "-s", "-1000000", filler)
        failed = disk.run(*night, "run-full")
        assert failed.returncode != 0
        assert "No space left" in failed.stderr, failed.stderr[-2000:]
        disk.do("rm", filler)
        # Whole, with what was recorded before the disk was full; readers saw nothing of it.
        after = disk.copied(tmp_path / "after")
        shown = current(after.settings.published)
        assert shown.manifest == current(kept.settings.published).manifest
        assert examine(after.settings.warehouse).broken == {}
        assert "leftovers" not in after.doctor()
        disk.do(*night, "run-last")
        done = disk.copied(tmp_path / "done")
        assert done.doctor().keys() <= {"disk", "runs", "parts"}
        assert len(all_snapshots(done.settings.published)) == 3
        held = answers(done).filter(pl.col("run_id") == "run-last")
        assert held.height == held["query_id"].n_unique() == 10


# --- clock ---------------------------------------------------------------------------------------


def test_a_clock_that_was_set_back(kept: KeptHome) -> None:
    """As after a night whose clock was two days ahead: everything of it is dated in the future."""
    settings = Settings(**{**kept.settings.model_dump(), "keep_snapshots": 2})
    ahead = kept.publish_again(now() + timedelta(days=2))
    with duckdb.connect(str(settings.warehouse)) as con:
        con.execute("UPDATE score SET scored_at = scored_at + INTERVAL 2 DAY")
        con.execute("UPDATE score_part SET merged_at = merged_at + INTERVAL 2 DAY")
        con.execute("UPDATE audit_log SET logged_at = logged_at + INTERVAL 2 DAY")
    assert "dated 48.0 hours later" in kept.doctor()["clock"][0].said
    # The next night: asked once, published after what was published before, though it is "earlier".
    kept.ask("run-b", "org/b", range(10))
    assert answers(kept).height == 210
    snapshot = kept.publish()
    assert current(settings.published) == snapshot
    assert snapshot.snapshot_id > ahead.snapshot_id
    assert snapshot.manifest["created_at"] < ahead.manifest["created_at"]
    assert snapshot.manifest["parent"] == ahead.snapshot_id
    with Warehouse.open(settings.warehouse) as w:
        active = w.checkpoints.active()
    assert active is not None
    # Nothing is new, whatever is dated later; what then comes in is, though dated earlier.
    assert not is_behind(settings, active["checkpoint_id"])
    kept.ask("run-c", "org/c", range(10))
    assert is_behind(settings, active["checkpoint_id"])
    # What is older is what was published before it, and that is what is gone back to and kept.
    prune(settings)
    assert [s.snapshot_id for s in all_snapshots(settings.published)] == [
        snapshot.snapshot_id, ahead.snapshot_id,
    ]  # fmt: skip
    heal_interrupted.fn(settings)
    assert current(settings.published) == snapshot
    assert roll_back(settings) == ahead
    assert not is_behind(settings, active["checkpoint_id"])  # left out on purpose
    POINTERS["gone"](settings.published)
    mend(settings)
    assert current(settings.published) == ahead  # gone back to last, though dated earlier
    with Warehouse.open(settings.warehouse) as w:
        held = w.read("SELECT count(*) AS n, count(DISTINCT query_id) AS q FROM score "
                      "WHERE run_id = 'run-b'")  # fmt: skip
    assert held.rows() == [(10, 10)]


def test_a_part_is_written_with_checksums(tmp_path: Path) -> None:
    row = {"model_id": "org/m", "revision": "r", "query_id": "q", "status": "ok", "score": 1.0,
           "metric": "acc", "filter": "none", "scored_at": now()}  # fmt: skip
    write_part([row], tmp_path / "a.parquet")
    found = pl.read_parquet(tmp_path / "a.parquet")
    assert found.select(row.keys()).row(0, named=True) == row
