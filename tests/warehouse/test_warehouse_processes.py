"""What holds when several processes, or a killed one, meet at the files. Real processes only."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest
from warehouse_sample import fill, score_row, scores, start, write_part

from warehouse.console import run_sql
from warehouse.errors import WarehouseBusyError, WarehouseError
from warehouse.store import Warehouse

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def python(code: str, *args: Path) -> Iterator[subprocess.Popen[str]]:
    """Run code in another process; it says a line when it is ready and reads one to go on."""
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


HOLD = """
import sys, pathlib
from warehouse.store import Warehouse
with Warehouse.open(pathlib.Path(sys.argv[1])):
    print("open", flush=True)
    sys.stdin.readline()
"""


def test_a_busy_file_is_named_and_then_waited_for(db: Path) -> None:
    with python(HOLD, db) as holder:
        assert line(holder) == "open"
        with pytest.raises(WarehouseBusyError) as info:
            Warehouse.open(db, wait_s=0.3)
        assert info.value.path == db
        assert str(db) in str(info.value)
        assert f"PID {holder.pid}" in str(info.value)
        # Another process waits for as long as the holder stays, and no longer.
        with python(HOLD, db) as waiter:
            go_on(holder)
            assert line(waiter) == "open"
    with Warehouse.open(db, wait_s=30) as w:
        assert w.schema_version() > 0


def test_the_copy_is_complete(filled: Warehouse, tmp_path: Path) -> None:
    dst = tmp_path / "published" / "warehouse.duckdb"
    filled.snapshots.copy_to(dst)
    assert [p.name for p in dst.parent.iterdir()] == [dst.name]
    assert dst.stat().st_mode & 0o222 == 0
    names = "SELECT table_name AS name, comment FROM duckdb_tables() UNION ALL "
    names += "SELECT view_name, comment FROM duckdb_views() WHERE NOT internal ORDER BY ALL"
    columns = "SELECT table_name, column_name, data_type, is_nullable, comment "
    columns += "FROM duckdb_columns() WHERE NOT internal ORDER BY ALL"
    here = "database_name = current_database()"
    for sql in (names, columns):
        sql = sql.replace("WHERE NOT internal", f"WHERE NOT internal AND {here}")
        assert run_sql(dst, sql).equals(filled.read(sql))
    for name in filled.read(names)["name"]:
        sql = f"SELECT * FROM {name} ORDER BY ALL"  # noqa: S608 - names of our own tables
        assert run_sql(dst, sql).equals(filled.read(sql)), name


READER = """
import sys, duckdb
con = duckdb.connect(sys.argv[1], read_only=True)
count = lambda: con.sql("SELECT count(*) FROM score").fetchall()[0][0]
print(count(), flush=True)
sys.stdin.readline()
print(count(), con.sql("SELECT count(*) FROM latest_score").fetchall()[0][0], flush=True)
"""


def test_readers_keep_their_copy_while_the_working_file_is_written_and_published_again(
    db: Path, tmp_path: Path
) -> None:
    dst = tmp_path / "copy.duckdb"
    with Warehouse.open(db) as w:
        fill(w, tmp_path)
        w.snapshots.copy_to(dst)
        with python(READER, dst) as reader:
            assert line(reader) == "16"
            start(w, "late", "c/gamma", "import")
            row = scores(score_row("c/gamma", "import", "q3", 1.0))
            w.scores.merge_part(write_part(tmp_path, "late", row), "late")
            assert run_sql(dst, "SELECT count(*) AS n FROM score").item() == 16
            w.snapshots.copy_to(dst)
            go_on(reader)
            assert line(reader) == "16 14"
            with python(READER, dst) as newer:
                assert line(newer) == "17"


def test_a_copy_that_fails_leaves_no_trace(filled: Warehouse, tmp_path: Path) -> None:
    folder = tmp_path / "published"
    (folder / "warehouse.duckdb" / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match=r"warehouse\.duckdb"):
        filled.snapshots.copy_to(folder / "warehouse.duckdb")
    assert [p.name for p in folder.iterdir()] == ["warehouse.duckdb"]
    databases = filled.read("SELECT database_name FROM duckdb_databases() WHERE NOT internal")
    assert databases["database_name"].to_list() == ["warehouse"]


def test_what_a_killed_copy_left_is_cleared_away(filled: Warehouse, tmp_path: Path) -> None:
    dst = tmp_path / "published" / "warehouse.duckdb"
    dst.parent.mkdir()
    (dst.parent / ".warehouse.duckdb.part").write_bytes(b"half a database")
    (dst.parent / ".warehouse.duckdb.part.wal").write_bytes(b"half a log")
    filled.snapshots.copy_to(dst)
    assert [p.name for p in dst.parent.iterdir()] == [dst.name]
    assert run_sql(dst, "FROM model").height == 4


def test_a_copy_is_refused_inside_a_transaction_and_onto_itself(
    filled: Warehouse, db: Path, tmp_path: Path
) -> None:
    with filled.transaction(), pytest.raises(WarehouseError, match="inside a transaction"):
        filled.snapshots.copy_to(tmp_path / "x.duckdb")
    with pytest.raises(WarehouseError, match="working file itself"):
        filled.snapshots.copy_to(db)
    assert not (tmp_path / "x.duckdb").exists()


def test_names_with_quotes_and_spaces_are_no_trouble(tmp_path: Path) -> None:
    folder = tmp_path / """it's a "folder"; DROP TABLE model"""
    with Warehouse.open(folder / 'odd "name" ware house.duckdb') as w:
        w.snapshots.copy_to(folder / "cop'y\".duckdb")
    with duckdb.connect(str(folder / "cop'y\".duckdb"), read_only=True) as con:
        assert con.sql("SELECT count(*) FROM schema_version").fetchall()[0][0] > 0
