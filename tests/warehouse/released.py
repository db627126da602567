"""Warehouses of every released schema version, as SQL: made once, and never changed again.

`released/vNNNN.sql` holds the rows of a warehouse at that version, its `schema_version` with the
SHA-256 of the migrations as they were released among them. The tables are made by the migrations
themselves, which that hash pins.

Whoever adds a migration adds its dump: `python tests/warehouse/released.py` writes what is missing.
"""

import tempfile
from pathlib import Path

import polars as pl

from warehouse.connection import Session, connect
from warehouse.migrate import migrations

FOLDER = Path(__file__).parent / "released"


def dump_of(version: int) -> Path:
    """Where the dump of a version lies."""
    return FOLDER / f"v{version:04d}.sql"


def load(version: int, database: Path) -> None:
    """Make a database as it was at a version."""
    session = Session(connect(database, 0), database)
    with session.transaction():
        for migration in migrations()[:version]:
            session.execute(migration.sql)
        session.execute(dump_of(version).read_text(encoding="utf-8"))
    session.close()


def tables(session: Session) -> list[str]:
    """Names of the tables of the database that was opened."""
    sql = (
        "SELECT table_name FROM duckdb_tables() WHERE NOT internal "
        "AND database_name = current_database() ORDER BY table_name"
    )
    return list(session.frame(sql)["table_name"])


def rows(session: Session, table: str, columns: list[str]) -> pl.DataFrame:
    """Rows of some columns, in one order."""
    return session.frame(f"SELECT {', '.join(columns)} FROM {table} ORDER BY ALL")  # noqa: S608


def columns_of(session: Session, table: str) -> list[str]:
    """Columns of a table, in order."""
    sql = (
        "SELECT column_name FROM duckdb_columns() WHERE table_name = ? "
        "AND database_name = current_database() ORDER BY column_index"
    )
    return list(session.frame(sql, [table])["column_name"])


def write_missing() -> list[Path]:
    """Write the dumps that are not there, from rows of `warehouse_sample` and a few more."""
    written = []
    for version in range(1, len(migrations()) + 1):
        if dump_of(version).exists():
            continue
        with tempfile.TemporaryDirectory() as folder:
            dump_of(version).write_text(_dump(version, Path(folder)), encoding="utf-8")
        written.append(dump_of(version))
    return written


# What came with a version.
_SINCE = {
    4: "INSERT INTO price VALUES ('b/beta', DATE '2026-01-01', 0.5, 1.5)",
    5: """
INSERT INTO evaluation_run (run_id, kind, model_id, revision, started_at, finished_at, status,
    n_planned, n_ok, n_other, settings, versions)
VALUES ('run-k', 'canary', 'b/beta', 'b1', '2026-01-05 00:00:00+00', '2026-01-05 00:01:00+00',
    'finished', 1, 1, 0, '{}', '{"lm_eval": "0.4"}');
INSERT INTO canary VALUES ('run-k', 'b/beta', 'b1', 'q1', 'ok', 1, repeat('0', 64),
    'yes; or ''no''', '2026-01-05 00:00:30+00', 5, 1, 20, 0.01);
INSERT INTO score_part VALUES ('00ff', 'run-k', 1, '2026-01-05 00:01:00+00')""",
    6: """
INSERT INTO checkpoint_decision VALUES ('2026-01-04 00:00:00+00', 'retrain', 'new', 'old', true,
    'better', '{"all": {}}', NULL)""",
}


def _dump(version: int, folder: Path) -> str:
    from warehouse_sample import fill

    from warehouse.store import Warehouse

    with Warehouse.open(folder / "new.duckdb") as w:
        fill(w, folder)
        for since, sql in _SINCE.items():
            if version >= since:
                w._session.execute(sql)
    session = Session(connect(folder / "old.duckdb", 0), folder / "old.duckdb")
    for migration in migrations()[:version]:
        session.execute(migration.sql)
    session.execute("ATTACH ? AS new (READ_ONLY)", [str(folder / "new.duckdb")])
    lines = [
        f"-- Rows of a warehouse at schema version {version}; see tests/warehouse/released.py."
    ]
    for table in tables(session):
        names = columns_of(session, table)
        if table == "run_lease":
            continue  # its migration wrote its one row
        texts = ", ".join(f"{name}::VARCHAR AS {name}" for name in names)
        where = "WHERE version <= ?" if table == "schema_version" else "WHERE ? >= 0"
        found = session.frame(
            f"SELECT {texts} FROM new.main.{table} {where} ORDER BY ALL",  # noqa: S608
            [version],
        )
        if found.height:
            values = ",\n".join(f"    ({', '.join(map(_literal, row))})" for row in found.rows())
            lines.append(f"INSERT INTO {table} ({', '.join(names)}) VALUES\n{values};")
    session.close()
    return "\n".join(lines) + "\n"


def _literal(value: str | None) -> str:
    return "NULL" if value is None else "'" + value.replace("'", "''") + "'"


if __name__ == "__main__":
    for path in write_missing():
        print(f"wrote {path}")  # noqa: T201
