"""Promise 7: migrations go forward only, after a backup; a newer schema is refused."""

import shutil
from pathlib import Path

import contents
import pytest
from nights import Pipeline, query, snapshot

from locus.snapshots import file_sha256
from warehouse import migrate as module
from warehouse.connection import Session, connect
from warehouse.migrate import migrate, migrations, schema_version

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NEWEST = len(migrations())


def test_migrations(first_night: Pipeline, after_first: Pipeline, tmp_path: Path) -> None:
    database = after_first.folder / "state" / "warehouse.duckdb"
    folder = shutil.copytree(Path(module.__file__).parent / "migrations", tmp_path / "migrations")
    (folder / f"{NEWEST + 1:04d}_more.sql").write_text(
        "CREATE TABLE more (x INTEGER); DELETE FROM score;"
    )
    session = Session(connect(database, 0), database)
    assert migrate(session, folder) == [NEWEST + 1]
    assert migrate(session, folder) == []
    assert schema_version(session) == NEWEST + 1
    session.close()
    assert query(after_first, "SELECT count(*) FROM score") == [(0,)]

    # That is what the present code meets after a newer one was here.
    published = snapshot(after_first)
    before = file_sha256(database)
    refused = after_first.locus("run", "nightly")
    assert refused.returncode == 1
    said = f"schema version {NEWEST + 1}, this code knows {NEWEST}"
    assert said in refused.stderr
    assert file_sha256(database) == before
    assert snapshot(after_first) == published

    backup = database.with_name(f"warehouse.duckdb.backup-v{NEWEST}")
    assert backup.stat().st_mode & 0o200
    shutil.copy(backup, database)
    theirs = first_night.folder / "state" / "warehouse.duckdb"
    assert contents.differences(
        contents.of_warehouse(database), contents.of_warehouse(theirs)
    ) == []  # fmt: skip
    again = after_first.locus("run", "nightly")
    assert again.returncode == 0, again.stderr
    assert "nothing new" in again.stdout
