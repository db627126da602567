"""Migrations: once, in order, whole; with a backup; never backwards."""

import shutil
from pathlib import Path

import duckdb
import pytest
from warehouse_sample import fill

from warehouse import migrate as module
from warehouse.connection import Session, connect
from warehouse.errors import MigrationError, WarehouseError
from warehouse.migrate import migrate, migrations, schema_version
from warehouse.store import Warehouse

NEWEST = len(migrations())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the package's migrations, to be extended."""
    source = Path(module.__file__).parent / "migrations"
    return Path(shutil.copytree(source, tmp_path / "migrations"))


def extend(folder: Path, sql: str) -> None:
    (folder / f"{NEWEST + 1:04d}_more.sql").write_text(sql)


def test_fresh_database_gets_every_migration_and_no_backup(db: Path) -> None:
    with Warehouse.open(db) as w:
        assert w.schema_version() == NEWEST
        recorded = w.read("SELECT version, name, sha256 FROM schema_version ORDER BY version")
    assert recorded.rows() == [(m.version, m.name, m.sha256) for m in migrations()]
    assert list(db.parent.iterdir()) == [db]


def test_opening_twice_applies_nothing_and_keeps_rows(db: Path, tmp_path: Path) -> None:
    with Warehouse.open(db) as w:
        fill(w, tmp_path)
        before = w.read("SELECT * FROM schema_version ORDER BY version")
        scores = w.read("SELECT * FROM score ORDER BY ALL")
    with Warehouse.open(db) as w:
        assert w.read("SELECT * FROM schema_version ORDER BY version").equals(before)
        assert w.read("SELECT * FROM score ORDER BY ALL").equals(scores)
    assert not list(db.parent.glob("*backup*"))


def test_a_closed_warehouse_says_so(db: Path) -> None:
    with Warehouse.open(db) as w:
        pass
    w.close()
    with pytest.raises(WarehouseError, match="was closed; open the warehouse again"):
        w.catalogue.models()


def test_failing_migration_leaves_the_old_version(db: Path, folder: Path) -> None:
    with Warehouse.open(db):
        pass
    extend(folder, "CREATE TABLE more (x INTEGER); INSERT INTO more VALUES ('no number');")
    session = Session(connect(db, 0), db)
    with pytest.raises(MigrationError, match=r"more\.sql failed on .* and was rolled back"):
        migrate(session, folder)
    assert schema_version(session) == NEWEST
    assert "more" not in session.frame("SELECT table_name FROM duckdb_tables()")["table_name"]
    session.close()


def test_changed_migration_is_refused(db: Path, folder: Path) -> None:
    with Warehouse.open(db):
        pass
    first = folder / "0001_foundation.sql"
    first.write_text(first.read_text() + "-- one more line\n")
    session = Session(connect(db, 0), db)
    with pytest.raises(MigrationError, match=r"0001_foundation.sql was changed after"):
        migrate(session, folder)
    session.close()


def test_gap_in_numbers_is_refused(folder: Path) -> None:
    (folder / "0009_late.sql").write_text("SELECT 1;")
    with pytest.raises(MigrationError, match="must be numbered 1, 2, 3"):
        migrations(folder)


def test_another_database_is_not_taken_over(db: Path) -> None:
    with duckdb.connect(str(db)) as con:
        con.execute("CREATE TABLE payroll (x INTEGER)")
    with pytest.raises(MigrationError, match=r"payroll.*not a warehouse"):
        Warehouse.open(db)


def test_a_file_that_is_no_database_is_refused(db: Path) -> None:
    db.write_bytes(b"not a database at all " * 1000)
    with pytest.raises(WarehouseError, match="cannot be opened"):
        Warehouse.open(db)
    assert db.read_bytes().startswith(b"not a database")


@pytest.mark.parametrize("kind", ["duckdb_tables()", "duckdb_views()", "duckdb_columns()"])
def test_everything_says_what_it_means(empty: Warehouse, kind: str) -> None:
    said = empty.read(f"SELECT * FROM {kind} WHERE NOT internal")  # noqa: S608 - constants above
    assert said.height >= 7
    silent = said.filter(said["comment"].fill_null("").str.len_chars() < 5)
    assert silent.select(silent.columns[:8]).rows() == []


def test_schema_keeps_to_what_other_engines_know(empty: Warehouse) -> None:
    """No keys, sequences, indexes or defaults: the same SQL has to run on Parquet tables."""
    kinds = empty.read("SELECT DISTINCT constraint_type FROM duckdb_constraints()")
    assert kinds["constraint_type"].to_list() == ["NOT NULL"]
    assert empty.read("FROM duckdb_sequences()").is_empty()
    assert empty.read("FROM duckdb_indexes()").is_empty()
    times = empty.read(
        "SELECT DISTINCT data_type FROM duckdb_columns() WHERE NOT internal "
        "AND (column_name LIKE '%\\_at' ESCAPE '\\')"
    )
    assert times["data_type"].to_list() == ["TIMESTAMP WITH TIME ZONE"]
