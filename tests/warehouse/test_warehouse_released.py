"""A warehouse of any released version opens for ever: nothing lost, and a backup first."""

from pathlib import Path

import pytest
import released
from warehouse_sample import score_row, scores, start, write_part

from warehouse.connection import Session, connect
from warehouse.content import content
from warehouse.errors import SchemaTooNewError
from warehouse.examine import examine, file_version
from warehouse.migrate import migrations
from warehouse.reading import reading
from warehouse.store import Warehouse

NEWEST = len(migrations())


def test_every_version_has_a_dump() -> None:
    """One that fails here has added a migration: see tests/warehouse/released.py."""
    assert sorted(path.name for path in released.FOLDER.iterdir()) == [
        f"v{version:04d}.sql" for version in range(1, NEWEST + 1)
    ]


@pytest.mark.parametrize("version", range(1, NEWEST + 1))
def test_it_opens_and_goes_on(version: int, db: Path, tmp_path: Path) -> None:
    released.load(version, db)
    was = content(db)
    with reading(db) as session:
        before = {
            table: released.rows(session, table, released.columns_of(session, table))
            for table in released.tables(session)
        }
        columns = {table: frame.columns for table, frame in before.items()}
    assert before["score"].height == 16
    assert before["schema_version"].height == version
    assert examine(db).version == version
    backup = db.with_name(f"{db.name}.backup-v{version}")
    with Warehouse.open(db) as w:
        assert w.schema_version() == NEWEST
        for table in before.keys() - {"schema_version"}:
            assert released.rows(w._session, table, columns[table]).equals(before[table]), table
        for view in w.read("SELECT view_name FROM duckdb_views() WHERE NOT internal")["view_name"]:
            w.read(f"FROM {view}")
        assert w.read("FROM model_accuracy").height > 0
        # What a night does goes on as in a new one.
        start(w, "run-n", "b/beta", "b1", 1)
        more = scores(score_row("b/beta", "b1", "q6", 1.0))
        assert w.scores.merge_part(write_part(tmp_path, "part", more), "run-n") == 1
        w.scores.finish_run("run-n", "finished")
        active = w.checkpoints.active()
        assert active is not None
        assert active["checkpoint_id"] == "new"
        assert w.leases.get()["token"] == 0
        w.snapshots.copy_to(tmp_path / "copy.duckdb")
    assert examine(db).broken == {}
    assert examine(tmp_path / "copy.duckdb").counts["scores"] == 17
    # The backup is the warehouse as it was.
    assert backup.exists() == (version < NEWEST)
    if version < NEWEST:
        assert content(backup) == was
        assert file_version(backup) == version


def test_a_newer_one_is_refused_and_stays_as_it_is(db: Path) -> None:
    released.load(NEWEST, db)
    session = Session(connect(db, 0), db)
    session.execute("INSERT INTO schema_version VALUES (?, 'x', 'x', now())", [NEWEST + 1])
    session.close()
    was = content(db)
    with pytest.raises(SchemaTooNewError, match="or a newer one"):
        Warehouse.open(db)
    assert content(db) == was
    assert [p.name for p in db.parent.iterdir()] == [db.name]
