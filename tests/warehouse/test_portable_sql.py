"""The warehouse's SQL asks for nothing that a DuckLake hasn't got.

Its documentation's lists ("Constraints", "Unsupported features") are held against what a migrated
database holds; then everything is done on a real lake whose catalogue is in a real PostgreSQL. No
DuckLake for DuckDB 2 comes as a package yet, so that a lake is written by the newest version of
DuckDB for which one does. That is no obstacle: what a lake holds is Parquet, not a DuckDB file.
"""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import lake
import pytest
from postgres import throw_away_postgres

from tasks.settings import FILE_VARIABLE, SettingsError, load_settings
from warehouse.errors import WarehouseError
from warehouse.store import Warehouse

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
SITE = Path(os.environ.get("LOCUS_DUCKLAKE", ROOT / ".venv" / "ducklake"))

# Types of a DuckLake's columns that we use or may come to use; JSON is one, arrays of a fixed
# length, enums and unions are none.
TYPES = re.compile(
    r"(BOOLEAN|TINYINT|SMALLINT|INTEGER|BIGINT|FLOAT|DOUBLE|VARCHAR|JSON|DATE|UUID|BLOB|"
    r"TIMESTAMP( WITH TIME ZONE)?)(\[\])*"
)
REFUSED = re.compile(
    r"\bON CONFLICT\b|\bOR (REPLACE|IGNORE) INTO\b|\bnextval\b|\bTRIGGER\b|\bGENERATED\b|"
    r"\bCREATE (OR REPLACE )?((UNIQUE )?INDEX|SEQUENCE|TYPE|MACRO|FUNCTION)\b",
    re.IGNORECASE,
)


def count(w: Warehouse, what: str) -> int:
    return w.read(f"FROM {what}").height


def test_a_migrated_database_holds_nothing_that_a_lake_refuses(empty: Warehouse) -> None:
    constraints = empty.read("SELECT DISTINCT constraint_type AS kind FROM duckdb_constraints()")
    assert constraints["kind"].to_list() == ["NOT NULL"]
    assert count(empty, "duckdb_indexes()") == 0
    assert count(empty, "duckdb_sequences()") == 0
    own = "database_name = current_database() AND NOT internal"
    assert count(empty, f"duckdb_types() WHERE {own}") == 0
    assert count(empty, f"duckdb_functions() WHERE {own}") == 0
    columns = empty.read(
        "SELECT c.table_name, c.column_name, c.data_type, c.column_default "
        "FROM duckdb_columns() AS c JOIN duckdb_tables() AS t USING (table_oid)"
    )
    assert columns.height > 100
    # A default would have to be a literal; none is the simplest rule.
    assert columns["column_default"].null_count() == columns.height
    others = [row for row in columns.rows() if not TYPES.fullmatch(row[2])]
    assert others == []


def statements() -> list[str]:
    """All SQL of the package: of its files, and of the strings in its code."""
    found = [
        file.read_text()
        for folder in ("migrations", "queries")
        for file in (ROOT / "warehouse" / folder).glob("*.sql")
    ]
    for file in (ROOT / "warehouse").glob("*.py"):
        found += [
            node.value
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
    return found


def test_no_statement_needs_what_a_lake_refuses() -> None:
    found = statements()
    assert sum("MERGE INTO" in text for text in found) >= 2
    assert [hit[0] for text in found if (hit := REFUSED.search(text))] == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_everything_is_the_same_on_a_real_lake(tmp_path: Path) -> None:
    if not (SITE / "duckdb").is_dir():
        pytest.skip(f"no DuckLake at {SITE}: `.ci/run` says how it is installed")
    (tmp_path / "lake").mkdir()
    (tmp_path / "file").mkdir()
    with throw_away_postgres() as database:
        catalogue = (
            f"postgres:host={database.host} port={database.port} user={database.user} "
            f"password={database.password} dbname={database.name}"
        )
        done = subprocess.run(
            [sys.executable, str(HERE / "lake.py"), str(SITE), str(tmp_path / "lake"), catalogue],
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)])},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        tables = database.rows("SELECT table_name FROM ducklake_table WHERE end_snapshot IS NULL")
    said = json.loads(done.stdout)

    # What is said of a view's columns is for people; all else is taken.
    assert said["refused"]
    for text in said["refused"]:
        assert re.match(r"COMMENT ON COLUMN \w+\.\w+ IS ", text), text
        assert "it is not a table" in text, text

    with Warehouse.open(tmp_path / "file" / "warehouse.duckdb") as w:
        lake.write_all(w, tmp_path / "file")
        assert said["contents"] == lake.contents(w)
        assert said["answers"] == lake.answers(w)
        assert {row["table_name"] for row in tables} == set(
            w.read("SELECT table_name FROM duckdb_tables()")["table_name"]
        )
    # No file's lock keeps writers apart there; the catalogue does.
    assert said["race"] == [*["conflict"] * (lake.RACERS - 1), "token 1"]
    assert said["token"] == 1


def test_a_place_that_is_no_file_is_refused_with_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "locus.toml"))
    monkeypatch.chdir(tmp_path)
    for url, says in (
        ("ducklake:postgres:host=db password=hidden", f"DuckDB {duckdb.__version__}; the ext"),
        ("ducklake:postgres:host=db password=hidden", "'postgres_scanner'"),
        ("s3://hidden/warehouse", "can't be kept in s3:...; leave it empty"),
        ("hidden", "no scheme"),
    ):
        monkeypatch.setenv("LOCUS_WAREHOUSE_URL", url)
        with pytest.raises(SettingsError, match=re.escape(says)) as refused:
            load_settings()
        assert "warehouse_url" in str(refused.value)
        assert "hidden" not in str(refused.value)
    with pytest.raises(WarehouseError, match="can't be written to yet"):
        Warehouse.open(Path("ducklake:postgres:host=db"))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("LOCUS_WAREHOUSE_URL", "")
    assert load_settings().warehouse.name == "warehouse.duckdb"
