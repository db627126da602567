"""Backups of a real home: what comes back is what was there, or nothing is touched."""

import gzip
import hashlib
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from filelock import FileLock
from kept_home import KeptHome
from typer.testing import CliRunner

from flows.cli import app
from locus.backups import BackupError, check
from locus.evaluation.request import EvaluationRequest
from locus.snapshots import all_snapshots, current, verify
from tasks.backup import check_backup, make_backup
from tasks.doctor import diagnose
from tasks.heal import heal_interrupted
from tasks.hidden import without_secrets
from tasks.lock import PipelineBusyError, pipeline_lock
from tasks.restore import RestoreRefusedError, restore
from warehouse.connection import now
from warehouse.content import content
from warehouse.errors import WarehouseError
from warehouse.store import Warehouse

SECRET = "sk-very-secret-0123456789"


@pytest.fixture(scope="module")
def made(_kept_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of the home, as a folder. To be looked at or copied."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copytree(_kept_home / "home", folder / "home")
    shutil.copy(_kept_home / "models.yaml", folder)
    make_backup(KeptHome(folder / "home").settings, folder / "backup")
    return folder / "backup"


def files(folder: Path, *without: str) -> dict[str, str]:
    """Digest of every file, but of locks and of folders that are named."""
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
        and p.suffix != ".lock"
        and p.relative_to(folder).parts[0] not in {"logs", *without}
    }


def test_what_comes_back_is_what_was_there(kept: KeptHome, tmp_path: Path) -> None:
    part = kept.ask("run-b", "org/b", range(10), record=False)
    request = EvaluationRequest("run-b", "org/b", "r", "hf", {}, {"t": ["q"]}, str(part.parent))
    request.write(kept.home / "runs" / "run-b" / "request.json")
    settings_file = tmp_path / "locus.toml"
    settings_file.write_text(
        settings_file.read_text() + f'[providers."a.example"]\n# api_key = "{SECRET}"\n'
    )
    before, was = content(kept.settings.warehouse), files(kept.home, "warehouse.duckdb")
    backup = tmp_path / "elsewhere" / "backup.tar.gz"
    ran = CliRunner().invoke(app, ["backup", str(backup)])
    assert ran.exit_code == 0, ran.output
    assert "1 secret" in ran.stdout
    assert files(kept.home, "warehouse.duckdb") == was
    assert SECRET.encode() not in gzip.decompress(backup.read_bytes())
    assert list(backup.parent.iterdir()) == [backup]  # nothing half is left beside it
    assert check_backup(backup).backup_id[:16] in ran.stdout

    settings = kept.settings.model_copy(
        update={
            "home": tmp_path / "other" / "home",
            "models_file": tmp_path / "other" / "models.yaml",
        }
    )
    done = restore(settings, backup)
    assert done.set_aside is None
    # The row of the lease alone differs: the backup's own holding of it is over.
    after = content(settings.warehouse)
    assert {n for n in before if before[n] != after[n]} <= {"run_lease"}
    again = {"parts/model/run-a.parquet", "digests.json"}  # the warehouse has what is in these
    assert files(settings.home, "warehouse.duckdb", "from-backup", "runs") == {
        n: digest for n, digest in was.items() if n not in again and not n.startswith("runs/")
    }
    moved = EvaluationRequest.read(settings.home / "runs" / "run-b" / "request.json")
    assert moved == replace(request, parts=str(settings.home / "parts" / "model"))
    assert settings.models_file.read_bytes() == kept.settings.models_file.read_bytes()
    assert SECRET not in (settings.home / "from-backup" / "locus.toml").read_text()
    shown = verify(current(settings.published).folder)
    assert shown.snapshot_id == done.snapshot_id
    assert len(all_snapshots(settings.published)) == 2
    assert (shown.folder / "warehouse.duckdb").stat().st_mode & 0o222 == 0
    with pipeline_lock(settings):  # nobody holds it, whatever the copy was taken under
        part.unlink()  # the original's: what is recorded is what came with the backup
        assert heal_interrupted.fn(settings) == 10
    assert {f.item for f in diagnose(settings, now()) if f.state != "ok"} == set()


def test_a_home_that_is_there_is_set_aside_never_removed(
    kept: KeptHome, made: Path, tmp_path: Path
) -> None:
    kept.ask("run-c", "org/c", range(5))
    mine = kept.home / "notes.txt"
    mine.write_text("a person's")
    before = files(kept.home)
    with pytest.raises(RestoreRefusedError, match="holds something already: --replace"):
        restore(kept.settings, made)
    with (
        pipeline_lock(kept.settings, what="a night"),
        pytest.raises(PipelineBusyError, match="a night"),
    ):
        restore(kept.settings, made, replace=True)
    with FileLock(kept.home / "serve.lock"), pytest.raises(PipelineBusyError, match="serve"):
        restore(kept.settings, made, replace=True)
    assert files(kept.home, "warehouse.duckdb") == {
        n: d for n, d in before.items() if n != "warehouse.duckdb"
    }
    done = restore(kept.settings, made, replace=True)
    assert done.set_aside is not None
    assert (done.set_aside / "notes.txt").read_text() == "a person's"
    assert files(done.set_aside).keys() == before.keys()
    assert not mine.exists()
    assert content(kept.settings.warehouse) == {
        name: content(made / "home" / "warehouse.duckdb")[name] for name in done_tables(made)
    }
    assert sorted(p.name for p in tmp_path.iterdir() if "home" in p.name) == [
        "home", done.set_aside.name,
    ]  # fmt: skip
    # Cut off between its two renames, a restore leaves no home, and the doctor says which it was.
    kept.home.rename(tmp_path / "gone")
    assert done.set_aside.name in kept.doctor()["home"][0].next_step


def done_tables(backup: Path) -> list[str]:
    return list(json.loads((backup / "backup.json").read_text())["tables"])


def test_a_warehouse_that_cannot_be_opened_can_be_replaced(kept: KeptHome, made: Path) -> None:
    kept.settings.warehouse.write_bytes(b"no database at all" * 1000)
    with pytest.raises(WarehouseError):
        make_backup(kept.settings, kept.home.parent / "b")
    assert not (kept.home.parent / "b").exists()
    assert "locus restore" in kept.doctor()["warehouse"][0].next_step
    restore(kept.settings, made, replace=True)
    assert kept.doctor() == {}


def test_targets_that_are_no_place_for_a_backup(kept: KeptHome, made: Path) -> None:
    for target, says in (
        (made, "is there already"),
        (kept.home / "backup", "lies inside the home"),
        (kept.home.parent / "models.yaml", "is there already"),
        (kept.home.parent / "models.yaml" / "b.tar", "can't be written: File exists"),
    ):
        with pytest.raises(BackupError, match=says):
            make_backup(kept.settings, target)
    nothing = kept.settings.model_copy(update={"home": kept.home.parent / "none"})
    with pytest.raises(BackupError, match="nothing to back up"):
        make_backup(nothing, kept.home.parent / "b")


# --- backups by others ---------------------------------------------------------------------------

Members = dict[str, bytes | tarfile.TarInfo]


def manifest_of(made: Path, **more: Any) -> dict[str, Any]:
    return {**json.loads((made / "backup.json").read_text()), **more}


def as_tar(path: Path, manifest: dict[str, Any], members: Members) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in {"backup.json": json.dumps(manifest).encode(), **members}.items():
            if isinstance(data, tarfile.TarInfo):
                tar.addfile(data)
                continue
            info = tarfile.TarInfo(name.removeprefix("again:"))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def link(name: str, kind: bytes, to: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


def entry(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


EVIL = b"evil"
OUTSIDE = ["home/../../evil", "/evil", "../evil", "home/./evil", "home//evil", "home\\..\\evil",
           "evil", "settings/../home/x", "home/a\nb", "home/..", "backup.json/x"]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_elsewhere_is_refused(made: Path, tmp_path: Path, name: str) -> None:
    manifest = manifest_of(made)
    manifest["files"] = {name: entry(EVIL)}
    hostile = as_tar(tmp_path / "b.tar", manifest, {name: EVIL})
    with pytest.raises(BackupError, match="no name of a file in a backup"):
        restore(KeptHome(tmp_path / "home").settings, hostile)
    assert list(tmp_path.rglob("*")) == [hostile]


CASES: dict[str, tuple[Callable[[dict[str, Any], Members], object], str]] = {
    "a symlink": (lambda m, t: t.update(x=link("home/a", tarfile.SYMTYPE, "/etc")), "a link or no"),
    "a hard link": (lambda m, t: t.update(x=link("home/a", tarfile.LNKTYPE, "/etc/a")), "a link"),
    "a device": (lambda m, t: t.update(x=link("home/a", tarfile.CHRTYPE, "")), "no plain file"),
    "a folder": (lambda m, t: t.update(x=link("home/a", tarfile.DIRTYPE, "")), "no plain file"),
    "an added file": (lambda m, t: t.update({"home/more": EVIL}), "'home/more' is not in its man"),
    "one twice": (lambda m, t: t.update({"again:home/warehouse.duckdb": EVIL}), "is there twice"),
    "a missing file": (lambda m, t: t.pop("home/published/current.json"), "current.json' is miss"),
    "a changed byte": (
        lambda m, t: t.update({"home/published/current.json": b"{" + b" " * 10}),
        "current.json' has changed",
    ),
    "a short file": (
        lambda m, t: t.update({"home/warehouse.duckdb": EVIL}), "duckdb' has changed"),
    "no hash": (lambda m, t: m["files"].update({"home/a": {"bytes": 1}}), "backup.json can't"),
    "a newer format": (lambda m, t: m.update(format=99), "has format 99, this version"),
    "a newer schema": (lambda m, t: m.update(schema_version=99), "schema version 99, this code"),
    "a server's address": (
        lambda m, t: m["files"].update({"home/serve.json": entry(EVIL)}), "nothing that `locus"),
    "no schema": (lambda m, t: m.pop("schema_version"), "names no schema version"),
    "other rows": (
        lambda m, t: m["tables"]["score"].update(digest="0" * 32), r"other rows .*\(in score\)"),
    "another snapshot": (lambda m, t: m.update(snapshot_id="2026"), "doesn't name 2026"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_backup_that_is_not_what_was_made_changes_nothing(
    made: Path, tmp_path: Path, case: str
) -> None:
    change, says = CASES[case]
    manifest = manifest_of(made)
    members: Members = {n: (made / n).read_bytes() for n in manifest["files"]}
    change(manifest, members)
    hostile = as_tar(tmp_path / "b.tar", manifest, members)
    mine = tmp_path / "home" / "mine"
    mine.parent.mkdir()
    mine.write_text("a person's")
    with pytest.raises(BackupError, match=says):
        restore(KeptHome(mine.parent).settings, hostile, replace=True)
    assert sorted(tmp_path.rglob("*")) == [hostile, mine.parent, mine]


def test_a_damaged_archive_and_a_folder_with_links_are_refused(
    kept: KeptHome, made: Path, tmp_path: Path
) -> None:
    whole = make_backup(kept.settings, tmp_path / "b.tar.gz").backup.path.read_bytes()
    for name, data in (
        ("cut.tar.gz", whole[: len(whole) // 2]),
        # Where it is decides which library meets it first.
        *(
            (f"turned-{at}.tar.gz", whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
            for at in range(100, len(whole), len(whole) // 12)
        ),
        ("none.tar", b"no archive"),
        ("empty.tar", b""),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BackupError):
            check(tmp_path / name)
    with pytest.raises(BackupError, match="there is no backup"):
        check(tmp_path / "nowhere")
    for number, make in enumerate(
        (lambda p: p.symlink_to("/etc/passwd"), lambda p: p.symlink_to("/etc"), os.mkfifo)
    ):
        folder = Path(shutil.copytree(made, tmp_path / f"folder-{number}"))
        make(folder / "home" / "more")
        with pytest.raises(BackupError, match="a link or no plain file"):
            check(folder)
    (folder / "home" / "more").unlink()
    (folder / "backup.json").unlink()
    with pytest.raises(BackupError, match="it doesn't begin with"):
        check(folder)


# --- a disk that is full, a process that is killed -----------------------------------------------


def test_no_room_for_it(kept: KeptHome, made: Path, tmp_path: Path) -> None:
    before = files(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    other = kept.settings.model_copy(update={"home": tmp_path / "other"})
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(BackupError, match=r"can't be unpacked: File too large .* nothing was"):
            restore(other, made)
        with pytest.raises((BackupError, WarehouseError), match="make room"):
            make_backup(kept.settings, tmp_path / "b.tar")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files(tmp_path, "home") == {n: d for n, d in before.items() if not n.startswith("home/")}
    assert kept.doctor() == {}


def test_one_that_is_killed_leaves_the_home_as_it_was(
    kept: KeptHome, made: Path, tmp_path: Path
) -> None:
    before = files(tmp_path)
    code = (
        "import sys, pathlib\n"
        "from tasks.restore import restore\n"
        "from tasks.settings import Settings\n"
        "restore(Settings(home=pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2]), replace=True)"
    )
    command = [sys.executable, "-c", code, str(kept.home), str(made)]
    with subprocess.Popen(command, start_new_session=True) as process:
        while not any(tmp_path.glob("home.restoring-*/home/*")):
            assert process.poll() is None
            time.sleep(0.0005)
        os.killpg(process.pid, signal.SIGKILL)
    left = [p for p in tmp_path.iterdir() if "restoring" in p.name]
    assert len(left) == 1
    assert files(tmp_path, left[0].name) == before
    assert left[0].name in kept.doctor()["leftovers"][0].said
    assert CliRunner().invoke(app, ["doctor", "--repair", "--json"]).exit_code == 0
    assert not left[0].exists()


@pytest.mark.parametrize(
    ("text", "shown", "n"),
    [
        (f'api_key = "{SECRET}"', 'api_key = "(hidden)"', 1),
        (f"- {{token: {SECRET}, n: 1}}", '- {token: "(hidden)", n: 1}', 1),
        (f"password: '{SECRET}' # mine", 'password: "(hidden)" # mine', 1),
        (f'auth_tokens = ["{SECRET}", "x"]', 'auth_tokens = "(hidden)"', 1),
        (f'warehouse_url = "s3://{SECRET}"', 'warehouse_url = "(hidden)"', 1),
        (f'base_url: "http://me:{SECRET}@h/v1"', 'base_url: "http://(hidden)@h/v1"', 1),
        ("api_key_env: EXAMPLE_API_KEY", "api_key_env: EXAMPLE_API_KEY", 0),
        ("tokens = 1000", "tokens = 1000", 0),
        ("tokens_per_minute = 10.5", "tokens_per_minute = 10.5", 0),
        ('strategy = "stratified"', 'strategy = "stratified"', 0),
    ],
)
def test_secrets_stay_at_home(text: str, shown: str, n: int) -> None:
    assert without_secrets(text) == (shown, n)


def test_equal_rows_have_equal_content_and_any_change_shows(kept: KeptHome, tmp_path: Path) -> None:
    copy = tmp_path / "copy.duckdb"
    with Warehouse.open(kept.settings.warehouse) as w:
        w.snapshots.copy_to(copy)
    copy.chmod(0o644)
    before = content(kept.settings.warehouse)
    assert content(copy) == before
    with duckdb.connect(str(copy)) as con:
        con.execute("CREATE TABLE turned AS FROM score ORDER BY scored_at DESC, query_id DESC")
        con.execute("DELETE FROM score")
        con.execute("INSERT INTO score FROM turned")
        con.execute("DROP TABLE turned")
    assert content(copy) == before
    with duckdb.connect(str(copy)) as con:
        con.execute("UPDATE score SET response = '' WHERE rowid = (SELECT min(rowid) FROM score)")
        con.execute("INSERT INTO model SELECT * FROM model")  # an XOR would cancel these out
        con.execute("INSERT INTO audit_log VALUES (now(), 'x', 'y', NULL)")
    after = content(copy)
    assert {n for n in before if before[n] != after[n]} == {"score", "model", "audit_log"}
