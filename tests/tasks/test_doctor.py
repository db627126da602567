"""The doctor on a real home: silent where all is well, and clear about whatever is wrong."""

import hashlib
import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest
from kept_home import KeptHome
from serving import Handler, running
from typer.testing import CliRunner

from flows.cli import app
from locus.durable import whole_file
from locus.snapshots import all_snapshots, building_folder, current
from tasks.doctor import State, diagnose, mend
from tasks.lock import PipelineBusyError, pipeline_lock
from tasks.snapshots import roll_back
from warehouse.connection import now
from warehouse.store import Warehouse


class Healthy(Handler):
    """What a Prefect server says of its health."""

    def do_GET(self) -> None:
        self.answer(200 if self.path == "/api/health" else 404)


def everything(folder: Path) -> dict[str, str]:
    """Digest of every file but the log of the day."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.parent.name != "logs" and p.suffix != ".lock"
    }


def test_all_is_well_and_looking_changes_nothing(kept: KeptHome) -> None:
    before = everything(kept.home)
    found = diagnose(kept.settings, now())
    assert [f for f in found if f.state is not State.ok] == []
    assert {f.item for f in found} >= {
        "settings", "home", "disk", "registry", "encoder", "lease", "warehouse", "rows", "parts",
        "checkpoints", "published", "clock", "leftovers",
    }  # fmt: skip
    assert everything(kept.home) == before
    done = CliRunner().invoke(app, ["doctor", "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["broken"] == 0
    assert len(said["findings"]) == len(found)
    assert mend(kept.settings) == []


def test_what_lies_around_is_told(kept: KeptHome, monkeypatch: pytest.MonkeyPatch) -> None:
    (kept.home.parent / "models.yaml").write_text("models: [{id: org/a, arg: 1}]\n")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    settings = kept.settings.model_copy(update={"encoder": "package:no_such_package"})
    found = {f.item: f for f in diagnose(settings, now())}
    assert found["registry"].state is State.broken
    assert "arg is no field" in found["registry"].said
    assert "no_such_package" in found["encoder"].said
    assert "PREFECT_API_URL, http://127.0.0.1:9/api, doesn't answer" in found["server"].said
    with running(Healthy) as url:
        for path, state in (("api", State.ok), ("other", State.broken)):
            monkeypatch.setenv("PREFECT_API_URL", f"{url}/{path}")
            assert {f.item: f.state for f in diagnose(settings, now())}["server"] is state
    early = kept.doctor(now=now() - timedelta(hours=30))
    assert "dated 30.0 hours later" in early["clock"][0].said
    monkeypatch.setenv("LOCUS_KEEP_SNAPSHOTS", "none")
    done = CliRunner().invoke(app, ["doctor", "--json"])
    assert done.exit_code == 1
    assert "keep_snapshots" in json.loads(done.stdout)["findings"][0]["said"]


def test_a_run_that_goes_on_is_left_alone_and_a_dead_one_told(kept: KeptHome) -> None:
    writer = (
        "import sys, pathlib\n"
        "from tasks.lock import pipeline_lock\n"
        "from tasks.settings import Settings\n"
        "with pipeline_lock(Settings(home=pathlib.Path(sys.argv[1])), 0, 'a night'):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    building = building_folder(kept.settings.published)
    with subprocess.Popen(
        [sys.executable, "-c", writer, str(kept.home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(PipelineBusyError, match="a night"):
            mend(kept.settings)
        # What it is building is no leftover, and its warehouse is not held up.
        assert {f.said.split(",")[0] for f in kept.doctor().pop("warehouse")} == {"a run goes on"}
        assert kept.doctor().keys() == {"warehouse"}
        assert building.is_dir()
        process.kill()
    found = kept.doctor()
    assert "a night" in found["lease"][0].said
    assert building.name in found["leftovers"][0].said
    assert mend(kept.settings) == [f"removed {building}"]
    assert kept.doctor() == {}


def test_leftovers_go_and_what_is_being_written_stays(kept: KeptHome) -> None:
    published = kept.settings.published
    half = [
        published / "snapshots" / ".building-x",
        published / "snapshots" / ".removing-x",
        kept.settings.checkpoints / ".building-y",
        kept.home.with_name("home.restoring-z"),
    ]
    for folder in half:
        folder.mkdir()
        (folder / "file").write_text("half")
    files = [
        published / ".current-abcd1234",
        kept.home / ".warehouse.duckdb.backup-v6.part",
        kept.settings.parts / "model" / ".run-a-abcd1234",
    ]
    for file in files:
        file.write_text("half")
    mine = kept.home / ".hidden-by-somebody"
    mine.write_text("a person's")
    with whole_file(kept.home / "last_night.json") as stream:
        assert kept.doctor()["leftovers"]
        assert len(mend(kept.settings)) == len(half) + len(files)
        assert Path(stream.name).exists()
        stream.write(b"{}")
    assert not any(path.exists() for path in [*half, *files])
    assert mine.exists()
    assert kept.doctor() == {}


def test_rows_that_contradict_one_another_are_named(kept: KeptHome) -> None:
    with duckdb.connect(str(kept.settings.warehouse)) as con:
        con.execute("DELETE FROM score WHERE run_id = 'run-a' AND rowid % 2 = 0")
        con.execute("INSERT INTO score SELECT * REPLACE ('org/x' AS model_id) FROM score LIMIT 1")
        con.execute("UPDATE checkpoint SET state = 'retired'")
        con.execute("INSERT INTO model SELECT * FROM model LIMIT 1")
    said = [f.said for f in kept.doctor()["rows"]]
    assert [text.split(":")[0] for text in said] == [
        "models that are there twice",
        "runs that count other answers than they have",
        "runs whose answers are not as many as their parts brought",
        "scores of models that are not there",
    ]
    assert CliRunner().invoke(app, ["doctor", "--repair"]).exit_code == 1


def test_snapshots_and_warehouse_are_held_to_each_other(kept: KeptHome) -> None:
    new, old = all_snapshots(kept.settings.published)
    with Warehouse.open(kept.settings.warehouse) as w:
        w.audit("publish", old.snapshot_id)  # as if the run had died before the switch
    assert f"rollback {old.snapshot_id}" in kept.doctor()["published"][0].next_step
    assert roll_back(kept.settings) == old
    assert kept.doctor() == {}
    with duckdb.connect(str(kept.settings.warehouse)) as con:
        con.execute("DELETE FROM snapshot WHERE snapshot_id = ?", [new.snapshot_id])
    assert f"{new.snapshot_id} is not in the warehouse" in kept.doctor()["snapshot"][0].said
    # Never let through by any gate, as far as anybody knows: readers are not shown it.
    (kept.settings.published / "current.json").write_text("")
    assert mend(kept.settings) == [f"readers see {old.snapshot_id} now"]
    new.folder.rename(kept.home / "taken")
    with duckdb.connect(str(kept.settings.warehouse)) as con:
        con.execute(
            "INSERT INTO snapshot BY NAME SELECT * REPLACE (? AS snapshot_id) FROM snapshot",
            [new.snapshot_id],
        )
    assert "published later than what is kept" in kept.doctor()["snapshot"][0].said


def test_a_warehouse_of_another_version_is_told_and_not_touched(kept: KeptHome) -> None:
    with duckdb.connect(str(kept.settings.warehouse)) as con:
        con.execute("INSERT INTO schema_version VALUES (99, '0099_x.sql', 'x', now())")
    before = everything(kept.home)
    found = kept.doctor()["warehouse"][0]
    assert found.state is State.broken
    assert "schema version 99, this code knows" in found.said
    done = CliRunner().invoke(app, ["doctor", "--repair"])
    assert done.exit_code == 1
    assert "nothing was repaired" in done.stderr
    assert everything(kept.home) == before
    kept.settings.warehouse.unlink()
    found = kept.doctor()["warehouse"][0]
    assert "is missing" in found.said
    assert str(current(kept.settings.published).folder) in found.next_step


def test_while_a_thread_of_ours_works_nothing_is_mended(kept: KeptHome) -> None:
    with pipeline_lock(kept.settings), pytest.raises(PipelineBusyError):
        mend(kept.settings)
