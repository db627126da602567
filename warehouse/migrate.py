"""Forward-only migrations: numbered SQL files, each applied once, in order, in one transaction.

Guarantee: after `migrate` the database is at the newest version, or it is as it was before the
migration that failed. There is no way back but the backup that is written first.
"""

import hashlib
import logging
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from warehouse import engine
from warehouse.connection import Session, now
from warehouse.errors import MigrationError, SchemaTooNewError
from warehouse.replica import write_copy

logger = logging.getLogger(__name__)

_FOLDER = Path(__file__).parent / "migrations"
_FILE = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")


@dataclass(frozen=True)
class Migration:
    """One migration file: its number, file name, SQL and SHA-256."""

    version: int
    name: str
    sql: str
    sha256: str


def migrations(folder: Path | None = None) -> list[Migration]:
    """Read the migration files in order.

    Args:
        folder: where they lie; the package's own by default.

    Raises:
        MigrationError: the numbers are not 1, 2, 3, ... without a gap.
    """
    return _read(folder) if folder else list(_packaged())


@cache
def _packaged() -> tuple[Migration, ...]:
    return tuple(_read(_FOLDER))


def _read(folder: Path) -> list[Migration]:
    found = []
    for entry in folder.iterdir():
        match = _FILE.fullmatch(entry.name)
        if match:
            data = entry.read_bytes()
            found.append(
                Migration(
                    int(match[1]), entry.name, data.decode(), hashlib.sha256(data).hexdigest()
                )
            )
    found.sort(key=lambda migration: migration.version)
    if [m.version for m in found] != list(range(1, len(found) + 1)):
        raise MigrationError(
            f"migrations must be numbered 1, 2, 3, ...; found {[m.name for m in found]}"
        )
    return found


def schema_version(session: Session) -> int:
    """Version of the database; 0 when it is empty.

    Raises:
        MigrationError: the file holds tables but is no warehouse.
    """
    # Every opening asks this, and asking which tables there are takes five times as long.
    with suppress(engine.CatalogException):
        return int(session.value("SELECT coalesce(max(version), 0) AS v FROM schema_version"))
    tables = set(session.values("SELECT table_name FROM duckdb_tables()"))
    if tables:
        raise MigrationError(
            f"{session.path} holds other tables ({', '.join(sorted(tables)[:3])}) and no "
            "schema_version: it is not a warehouse; choose another file"
        )
    return 0


def migrate(session: Session, folder: Path | None = None) -> list[int]:
    """Bring the database to the newest version, with a backup of what was there before.

    The backup ``<file>.backup-v<N>`` is a complete copy at version N, written next to the file
    before anything changes. A fresh database needs none.

    Returns:
        The versions applied, in order; empty when there was nothing to do.

    Raises:
        SchemaTooNewError: the database is newer than this code.
        MigrationError: a migration failed (its transaction is rolled back), or one that was
            applied earlier differs from the file in this code.
    """
    known = migrations(folder)
    version = schema_version(session)
    if version > len(known):
        raise SchemaTooNewError(
            f"{session.path} is at schema version {version}, this code knows {len(known)}: "
            "install the version of the code that wrote it, or a newer one"
        )
    if version:
        _check_history(session, known[:version])
    pending = known[version:]
    if pending and version:
        backup = session.path.with_name(f"{session.path.name}.backup-v{version}")
        write_copy(session, backup, read_only=False)  # to be put back as the working file
        logger.info("backup of schema version %d written to %s", version, backup)
    for migration in pending:
        _apply(session, migration)
        logger.info("migration %s applied to %s", migration.name, session.path)
    return [migration.version for migration in pending]


def _check_history(session: Session, applied: list[Migration]) -> None:
    recorded = session.rows("SELECT version, sha256 FROM schema_version")
    by_version = dict(recorded)
    for migration in applied:
        if by_version.get(migration.version) != migration.sha256:
            raise MigrationError(
                f"{migration.name} was changed after it was applied to {session.path}: restore "
                "the file and put the change into a new migration"
            )


def _apply(session: Session, migration: Migration) -> None:
    try:
        with session.transaction():
            session.execute(migration.sql)
            session.execute(
                "INSERT INTO schema_version VALUES (?, ?, ?, ?)",
                [migration.version, migration.name, migration.sha256, now()],
            )
    except Exception as error:
        raise MigrationError(
            f"{migration.name} failed on {session.path} and was rolled back, so the file is as it "
            f"was: {error}"
        ) from error
