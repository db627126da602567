"""Whatever is typed as SQL: rows, or an error of a few lines; no file, setting or key."""

import hashlib
import io
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from hostile import CANARY, CANARY_VARIABLE, PATIENCE, TEXTS, check_told, fuzz, watched
from hypothesis import strategies as st

from flows.cli.terminal import grid
from warehouse import console
from warehouse.console import run_rows, run_sql
from warehouse.errors import SqlError
from warehouse.store import Warehouse

pytestmark = [PATIENCE]

# How /etc/passwd begins; "root:" alone is what "~root" and a cast make of a statement.
PASSWD = "root:x:0"

NAMES = ("model", "score", "query", "latest_score", "model_id", "score.score", "x", '"task"', "*")
NUMBERS = (
    "0", "-1", "1e308", "9223372036854775807", "1e-400", "NULL", "0x7f", "1_000",
    "99999999999999999999999999999999999999999",
)  # fmt: skip
OTHERS = (
    "DATE '290000-01-01'", "TIMESTAMP 'infinity'", "TIMESTAMPTZ '0001-01-01'", "INTERVAL 99 YEARS",
    "TIME '24:00:00'", "'\\x00'::BLOB", "MAP {[1]: 2}", "{'a': [1, NULL]}", "'1'::BIT", "uuid()",
    "'NaN'::FLOAT", "-'Infinity'::DOUBLE", "DATE '-infinity'", "'[1]'::JSON", "ARRAY[1, 2]",
    "TIMESTAMP_NS '2262-04-11 23:47:16'", "DATE '5877642-06-25 (BC)'", "12345.678::DECIMAL(38, 9)",
    "union_value(k := 1)", "MAP {MAP {1: 2}: 3}", "'TRUE'::BOOL", "INTERVAL '-178956970 years'",
    "TIMETZ '12:00:00+15:59'", "'a'::ENUM('a')", "170141183460469231731687303715884105727",
)  # fmt: skip
FILES = (
    "'/etc/passwd'", "'../../home/new'", "'home/x.csv'", "'https://127.0.0.1:1/x'",
    "'/proc/self/environ'", "'s3://b/x.parquet'", "'duckdb:x'", "'/dev/stdin'", "'~/x'",
    "':memory:'", "'./*'", "'warehouse.duckdb'",
)  # fmt: skip
READERS = (
    "read_csv", "read_text", "read_blob", "read_json", "read_parquet", "glob", "sniff_csv",
    "query", "query_table", "parquet_metadata", "read_csv_auto", "read_ndjson", "parquet_scan",
    "getenv", "current_setting", "duckdb_settings", "duckdb_secrets", "duckdb_extensions",
    "which_secret", "pragma_database_list", "add_parquet_key", "write_log", "set_bit", "nextval",
    "checkpoint", "arrow_scan", "python_map_function", "seq_scan", "from_substrait", "duckdb_logs",
    "iceberg_scan",
)  # fmt: skip
DOING = (
    "COPY {name} TO {file}", "COPY (SELECT 1) TO {file} (FORMAT parquet)",
    "COPY {name} FROM {file}", "ATTACH {file}", "ATTACH {file} AS x", "DETACH x", "INSTALL httpfs",
    "INSTALL {file}", "LOAD {file}", "PRAGMA {name}", "PRAGMA enable_profiling = {file}",
    "SET enable_external_access = true", "SET GLOBAL lock_configuration = false",
    "SET temp_directory = {file}", "SET x = {expr}", "RESET ALL", "SET log_query_path = {file}",
    "EXPORT DATABASE {file}", "IMPORT DATABASE {file}", "USE x", "CALL {expr}",
    "CREATE TABLE x AS {select}", "CREATE TEMP TABLE x AS {select}", "CREATE MACRO m() AS {expr}",
    "CREATE SECRET s (TYPE s3, KEY_ID {file})", "CREATE VIEW v AS {select}", "DROP TABLE {name}",
    "DELETE FROM {name}", "UPDATE score SET score = {expr}", "INSERT INTO {name} {select}",
    "VACUUM", "BEGIN", "COMMIT", "ROLLBACK", "CHECKPOINT", "PREPARE p AS {select}", "EXECUTE p",
    "DEALLOCATE p", "ALTER TABLE {name} ADD COLUMN x INTEGER", "COMMENT ON TABLE {name} IS {file}",
    "TRUNCATE {name}", "EXPLAIN ANALYZE {doing}",
    "MERGE INTO score USING score n ON false WHEN MATCHED THEN DELETE", "SELECT * FROM ({doing})",
    "WITH x AS ({doing}) SELECT * FROM x", "SET VARIABLE x = {expr}",
)  # fmt: skip
READING = (
    "SELECT {expr}", "SELECT {expr}, {expr} FROM {name}", "FROM {name}", "VALUES ({expr}, {expr})",
    "SELECT * FROM {name} WHERE {expr}", "SELECT {expr} FROM {name} GROUP BY ALL ORDER BY {expr}",
    "DESCRIBE {name}", "SUMMARIZE {name}", "SHOW TABLES", "SHOW ALL TABLES", "EXPLAIN {select}",
    "EXPLAIN ANALYZE {select}", "WITH x AS ({select}) SELECT * FROM x",
    "{select} UNION ALL {select}", "PIVOT {name} ON {name} USING count(*)",
    "UNPIVOT {name} ON {name}", "TABLE {name}", "({select})", "SELECT * FROM {reader}({file})",
    "SELECT {reader}({file})", "FROM {file}", "SELECT * FROM range(5)",
    "SELECT * FROM query({file})",
    "WITH RECURSIVE x AS (SELECT 1 UNION ALL SELECT * FROM x) FROM x LIMIT 2",
    "SELECT COLUMNS({file}) FROM {name}", "SELECT * FROM {name} TABLESAMPLE 1%",
    "SELECT unnest([{expr}])", "SELECT getenv('" + CANARY_VARIABLE + "')",
    "SELECT * FROM {name}, LATERAL (SELECT {expr})",
    "SELECT {expr} OVER (ORDER BY {expr}) FROM {name}", "SELECT * EXCLUDE ({name}) FROM {name}",
)  # fmt: skip
EXPRESSIONS = (
    "{other}", "{number}", "{name}", "{file}", "count(*)", "({expr})", "{expr} + {expr}",
    "-{expr}", "CAST({expr} AS VARCHAR)", "{expr}::INTEGER", "TRY_CAST({expr} AS DATE)",
    "({select})", "[{expr}]", "{{'a': {expr}}}", "CASE WHEN {expr} THEN {expr} END",
    "{reader}({expr})", "x -> {expr}", "?", "$1", "EXISTS ({select})",
    "{expr} IN ({expr}, {expr})", "strftime({expr}, {file})", "{expr} || {expr}",
    "list_transform([1], lambda x: {expr})", "regexp_replace({expr}, {file}, 'a', 'g')",
    "{expr} IS NULL",
)  # fmt: skip


@st.composite
def statements(draw: st.DrawFn) -> str:
    """SQL of a small grammar, up to four levels deep, mostly whole."""
    leaves = {"name": NAMES, "number": NUMBERS, "other": OTHERS, "file": FILES, "reader": READERS}
    inner = {"expr": EXPRESSIONS, "select": READING, "doing": DOING}
    shallow = {
        "expr": ("1", "'a'", "{other}", "{name}"),
        "select": ("SELECT 1",),
        "doing": ("VACUUM",),
    }

    def written(pattern: str, depth: int) -> str:
        text, at = "", 0
        while (start := pattern.find("{", at)) >= 0:
            if pattern.startswith("{{", start):
                text, at = text + pattern[at:start] + "{", start + 2
                continue
            end = pattern.index("}", start)
            name = pattern[start + 1 : end]
            drawn = draw(st.sampled_from(leaves.get(name) or (inner if depth else shallow)[name]))
            text += pattern[at:start]
            text += drawn if name in leaves else written(drawn, max(depth - 1, 0))
            at = end + 1
        return (text + pattern[at:]).replace("}}", "}")

    start = st.sampled_from(["{select}"] * 3 + ["{doing}"])
    sql = written(draw(start), 3)
    what = draw(st.sampled_from([""] * 8 + ["cut", "put", "comment", "twice", "deep"]))
    at = draw(st.integers(0, len(sql)))
    if what == "cut":
        sql = sql[:at]
    elif what == "put":
        sql = sql[:at] + draw(st.sampled_from(TEXTS)) + sql[at:]
    elif what == "comment":
        sql = (
            sql[:at]
            + draw(st.sampled_from(["--", "/*", "/* */", "--\n", "\u00a0", ";"]))
            + sql[at:]
        )
    elif what == "twice":
        sql = f"{sql};{written('{doing}', 1)}"
    elif what == "deep":
        sql = "SELECT " + "(" * 200 + sql + ")" * 200
    return sql


@pytest.fixture
def copy(home: Path, ground: Path) -> Path:
    """A published copy with a few rows, beside the working directory."""
    with Warehouse.open(home / "work.duckdb") as warehouse:
        warehouse.snapshots.copy_to(home / "copy" / "warehouse.duckdb")
    (ground / "a" / "b" / "x.csv").write_text("secret\nof the disk\n")
    return home / "copy" / "warehouse.duckdb"


def test_any_statement_is_rows_or_a_clear_error(copy: Path, ground: Path) -> None:
    before = hashlib.sha256(copy.read_bytes()).hexdigest()

    def check(sql: str, is_frame: bool) -> str:
        with watched(ground):
            try:
                if is_frame:
                    frame = console._answer(con, sql, 20, 5, console._frame)
                    found = str(frame)
                    assert CANARY not in found and PASSWD not in found
                    return "frame"
                rows = console._answer(con, sql, 20, 5, console._rows)
            except SqlError as error:
                check_told(error.line)
                assert PASSWD not in str(error) and "\n" not in error.line
                return "refused"
            with redirect_stdout(io.StringIO()) as shown:
                grid(rows.columns, rows.values)
        found = repr(rows.values) + shown.getvalue()
        assert PASSWD not in found and "of the disk" not in found and CANARY not in found
        return "rows"

    # One connection for all: what one statement could leave behind, the next ones would find.
    with console._connected(copy) as con:
        fuzz(check, statements(), st.integers(0, 3).map(lambda n: n == 0))
        assert con.sql("FROM duckdb_databases()").fetchall()[0][0] == "warehouse"
        kept = con.sql("SELECT value FROM duckdb_settings() WHERE name = 'enable_external_access'")
        assert kept.fetchall() == [("false",)]
    assert hashlib.sha256(copy.read_bytes()).hexdigest() == before
    assert run_rows(copy, "SELECT 1").values == [(1,)]


@pytest.mark.parametrize("run", [run_rows, run_sql])
@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT '\ud83d'", "half of a character, at 9"),
        ("SELECT INTERVAL '-178956970 years'", "cannot be shown"),
    ],
)
def test_statements_that_were_not_refused_once(
    copy: Path, run: Callable[[Path, str], object], sql: str, said: str
) -> None:
    with pytest.raises(SqlError, match=said):
        run(copy, sql)


def test_a_map_that_json_has_not_is_refused(copy: Path) -> None:
    with pytest.raises(SqlError, match="keys are no text"):
        run_sql(copy, "SELECT MAP {[1]: 2} AS m")
    assert run_sql(copy, "SELECT MAP {'a': 2} AS m").height == 1


@pytest.mark.parametrize(
    "value", ["DATE '290000-01-01'", "TIMESTAMP 'infinity'", "[DATE '-infinity']"]
)
def test_times_that_only_break_down_when_they_are_written(copy: Path, value: str) -> None:
    with pytest.raises(SqlError, match="not within the years 1 to 9999"):
        run_sql(copy, f"SELECT {value} AS t")
