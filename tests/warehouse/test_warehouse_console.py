"""Users' SQL: what it may do, and that hostile SQL can do nothing else."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from warehouse.console import run_sql
from warehouse.errors import SqlError


@pytest.fixture
def untouched(published: Path) -> Iterator[Path]:
    """The published copy, with its folder and bytes compared before and after."""

    def state() -> tuple[list[str], str]:
        names = sorted(p.name for p in published.parent.iterdir())
        return names, hashlib.sha256(published.read_bytes()).hexdigest()

    before = state()
    yield published
    assert state() == before


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT count(*) FROM score", [(16,)]),
        ("FROM task SELECT task ORDER BY task;", [("arith",), ("geo",)]),
        ("WITH x AS (SELECT 1 AS a) SELECT a FROM x -- done", [(1,)]),
        ("VALUES (1, 'a;b')", [(1, "a;b")]),
        ("SHOW TABLES", None),
        ("DESCRIBE score", None),
        ("SUMMARIZE model", None),
        ("EXPLAIN SELECT 1", None),
        (
            "PIVOT (SELECT model_id, task, accuracy FROM model_accuracy) ON task "
            "USING any_value(accuracy) ORDER BY model_id",
            [("a/alpha", 0.5, 0.0), ("b/beta", 0.625, 1.0), ("c/gamma", 0.0, 1.0)],
        ),
    ],
)
def test_reading_works(untouched: Path, sql: str, rows: list[tuple[object, ...]] | None) -> None:
    got = run_sql(untouched, sql)
    assert got.height > 0
    if rows is not None:
        assert got.rows() == rows


def test_rows_are_limited_and_times_are_utc(untouched: Path) -> None:
    assert run_sql(untouched, "FROM score", max_rows=3).height == 3
    assert run_sql(untouched, "FROM score", max_rows=1000).height == 16
    assert run_sql(untouched, "SELECT range FROM range(1000000000000)", max_rows=2).height == 2
    at = run_sql(untouched, "SELECT max(scored_at) AS t FROM score")
    assert at.schema == {"t": pl.Datetime("us", "UTC")}


READ_FILES = [
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/proc/self/environ')",
    "SELECT * FROM read_json('/etc/passwd')",
    "SELECT * FROM read_parquet('/etc/passwd')",
    "SELECT * FROM parquet_metadata('/etc/passwd')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM read_csv('https://example.org/x.csv')",
    "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
    "SELECT * FROM query_table('/etc/passwd')",
    "EXPLAIN ANALYZE SELECT * FROM read_text('/etc/passwd')",
    "SELECT (SELECT content FROM read_text('/etc/passwd'))",
    "SELECT getenv('HOME')",
    "SELECT * FROM duckdb_extensions()",
    "PIVOT (SELECT * FROM read_csv('/etc/passwd')) ON column0",
]


@pytest.mark.parametrize("sql", READ_FILES)
def test_files_cannot_be_read(untouched: Path, sql: str) -> None:
    with pytest.raises(SqlError) as info:
        run_sql(untouched, sql)
    assert "root:" not in str(info.value)


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH '{other}' AS other",
        "ATTACH ':memory:' AS m",
        "ATTACH '{new}' AS other",
        "COPY model TO '{new}'",
        "COPY (SELECT 1) TO '{new}'",
        "EXPLAIN ANALYZE COPY model TO '{new}'",
        "COPY FROM DATABASE warehouse TO other",
        "EXPORT DATABASE '{new}'",
        "IMPORT DATABASE '/etc'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "LOAD '{new}'",
        "UPDATE EXTENSIONS",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "SET threads = 64",
        "RESET threads",
        "SET VARIABLE x = 1",
        "PRAGMA enable_external_access",
        "PRAGMA database_list",
        "USE memory",
        "INSERT INTO task SELECT * FROM task",
        "DELETE FROM score",
        "UPDATE model SET org = 'x'",
        "MERGE INTO task USING task AS n ON false WHEN MATCHED THEN DELETE",
        "WITH gone AS (DELETE FROM score RETURNING *) SELECT * FROM gone",
        "EXPLAIN ANALYZE DELETE FROM score",
        "TRUNCATE score",
        "CREATE TABLE x (a INTEGER)",
        "CREATE TEMP TABLE x (a INTEGER)",
        "CREATE VIEW x AS SELECT 1",
        "CREATE MACRO f() AS 1",
        "CREATE SECRET s (TYPE s3)",
        "DROP TABLE score",
        "DROP VIEW latest_score",
        "ALTER TABLE score ADD COLUMN x INTEGER",
        "COMMENT ON TABLE score IS 'mine'",
        "BEGIN",
        "CHECKPOINT",
        "VACUUM",
        "PREPARE x AS SELECT 1",
        "CALL duckdb_settings()",
        "CALL enable_logging()",
        "DETACH warehouse",
        "SELECT 1; DROP TABLE score",
        "SELECT 1; SELECT 2",
        "",
        "-- nothing",
    ],
)
def test_nothing_but_one_reading_statement_runs(untouched: Path, tmp_path: Path, sql: str) -> None:
    new, other = tmp_path / "new", untouched.parent.parent / "work.duckdb"
    assert other.is_file()
    with pytest.raises(SqlError):
        run_sql(untouched, sql.format(new=new, other=other))
    assert list(tmp_path.iterdir()) == []
    assert run_sql(untouched, "SELECT count(*) FROM score").item() == 16


def test_python_variables_are_out_of_reach(untouched: Path) -> None:
    secret = pl.DataFrame({"key": ["hidden"]})
    assert secret.height == 1
    with pytest.raises(SqlError, match="secret does not exist"):
        run_sql(untouched, "SELECT * FROM secret")


def test_a_statement_that_takes_too_long_is_stopped(untouched: Path) -> None:
    endless = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b"
    with pytest.raises(SqlError, match=r"stopped after 0.5 s"):
        run_sql(untouched, endless, timeout_s=0.5)
    assert run_sql(untouched, "SELECT 1").item() == 1


def test_errors_are_one_line_with_a_hint(untouched: Path) -> None:
    with pytest.raises(SqlError) as info:
        run_sql(untouched, "SELECT modelid FROM model")
    assert info.value.line == 'Binder Error: Referenced column "modelid" not found in FROM clause!'
    assert info.value.hint is not None
    assert "model_id" in info.value.hint
    with pytest.raises(SqlError) as info:
        run_sql(untouched, "SELEC 1")
    assert info.value.line.startswith("Parser Error: syntax error")
    with pytest.raises(SqlError, match="Could not convert string 'ok'"):
        run_sql(untouched, "SELECT status::INTEGER FROM score")
    with pytest.raises(SqlError, match=r"cannot be shown.*\n.*VARCHAR"):
        run_sql(untouched, "SELECT INTERVAL 1 DAY")


@pytest.mark.parametrize(
    ("value", "odd"),
    [
        ("{'a': INTERVAL 1 DAY}", "INTERVAL"),
        ("[[INTERVAL 1 DAY]]", "INTERVAL"),
        ("MAP {'a': {'b': INTERVAL 1 DAY}}", "INTERVAL"),
        ("[union_value(k := 1)]", "UNION"),
    ],
)
def test_a_nested_value_that_frames_have_not_is_one_line(
    untouched: Path, value: str, odd: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SqlError, match=f"column 'v' has an {odd}, which cannot be shown"):
        run_sql(untouched, f"SELECT {value} AS v")
    assert capfd.readouterr().err == ""
    # Names and values may be called what they like.
    named = run_sql(untouched, "SELECT {'INTERVAL': 1} AS v, 'UNION'::ENUM('UNION', 'it''s') AS e")
    assert named.row(0) == ({"INTERVAL": 1}, "UNION")


def test_a_missing_copy_says_so_and_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(SqlError, match="no published copy"):
        run_sql(tmp_path / "none.duckdb", "SELECT 1")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.duckdb").write_bytes(b"text " * 1000)
    with pytest.raises(SqlError, match="not a valid DuckDB"):
        run_sql(tmp_path / "x.duckdb", "SELECT 1")
