"""What a database file is like, found without changing it."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from warehouse.connection import Session
from warehouse.migrate import migrations, schema_version
from warehouse.reading import reading
from warehouse.sql import query

_READ = 'SELECT bit_xor(hash(t)) AS hash FROM "{table}" AS t'


@dataclass(frozen=True)
class Examined:
    """A database file that can be opened.

    Attributes:
        version: its schema version.
        known: the newest schema version that this code knows.
        counts: rows of the tables that people ask about.
        broken: rules that hold no longer, each with the number of rows that break it.
        newest: what has the newest time, and that time (UTC); None in an empty one.
        parts: SHA-256 of the parts that were merged.
        open_runs: runs that have not ended.
        checkpoints: state of every checkpoint (``active`` or ``retired``).
        snapshots: SHA-256 of the manifest (None where unknown) of every snapshot ever published.
        shown: the snapshot that was last published or gone back to; None before the first.

    Of a file at another version than ``known`` only the two versions are filled in.
    """

    version: int
    known: int
    counts: dict[str, int] = field(default_factory=dict)
    broken: dict[str, int] = field(default_factory=dict)
    newest: tuple[str, datetime] | None = None
    parts: frozenset[str] = frozenset()
    open_runs: tuple[str, ...] = ()
    checkpoints: dict[str, str] = field(default_factory=dict)
    snapshots: dict[str, str | None] = field(default_factory=dict)
    shown: str | None = None


def file_version(path: Path) -> int:
    """Schema version of a database file, as it lies there; 0 when it is empty.

    Raises:
        WarehouseError: it can't be opened, or holds tables and is no warehouse.
    """
    with reading(path) as session:
        return schema_version(session)


def examine(path: Path) -> Examined:
    """Look at a database file, and read all of it.

    Raises:
        WarehouseBusyError: another process has it open.
        WarehouseError: it is missing, damaged, or no warehouse.
    """
    known = len(migrations())
    with reading(path) as session:
        version = schema_version(session)
        _read_all(session)
        return _examined(session, version) if version == known else Examined(version, known)


def _read_all(session: Session) -> None:
    """Read every row: DuckDB holds a block to its checksum when it is read, not before."""
    names = session.frame("SELECT table_name FROM duckdb_tables() WHERE NOT internal")
    for name in names["table_name"]:
        session.frame(_READ.format(table=name.replace('"', '""')))


def _examined(session: Session, version: int) -> Examined:
    def rows(sql: str) -> list[tuple[Any, ...]]:
        return session.frame(sql).rows()

    newest = rows(query("newest_times"))
    shown = rows(query("shown_snapshot"))
    ((models, queries, scores),) = rows(
        "SELECT (SELECT count(*) FROM model), (SELECT count(*) FROM query), "
        "(SELECT count(*) FROM score)"
    )
    open_runs = rows("SELECT run_id FROM evaluation_run WHERE status = 'running' ORDER BY run_id")
    return Examined(
        version=version,
        known=version,
        counts={"models": models, "queries": queries, "scores": scores},
        broken=dict(rows(query("consistency"))),
        newest=newest[0] if newest else None,
        parts=frozenset(sha for (sha,) in rows("SELECT part_sha256 FROM score_part")),
        open_runs=tuple(run_id for (run_id,) in open_runs),
        checkpoints=dict(rows("SELECT checkpoint_id, state FROM checkpoint")),
        snapshots=dict(rows("SELECT snapshot_id, manifest_sha256 FROM snapshot")),
        shown=shown[0][0] if shown else None,
    )
