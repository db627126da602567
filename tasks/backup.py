"""Backup of what can't be made again: answers, maps, and what readers see.

docs/operations.md says what is in a backup and what is not; `tasks.restore` puts it back.
"""

import hashlib
import logging
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from locus.backups import Backup, BackupError, check, refuse_target, write
from locus.embedding.checkpoint import CheckpointError, load
from locus.snapshots import CURRENT, SnapshotError, all_snapshots, current, verify
from tasks.doctor.holdings import parts_of
from tasks.hidden import without_secrets
from tasks.lineage import versions
from tasks.lock import pipeline_lock
from tasks.settings import Settings, settings_file
from warehouse.content import content
from warehouse.examine import file_version
from warehouse.migrate import migrations
from warehouse.store import Warehouse

log = logging.getLogger("locus.pipeline")

# Notes of the home that no run can make again.
_NOTES = ("last_night.json", "stale.json", "watch.json", "announced")

IN_HOME = {
    "warehouse.duckdb", "parts", "canaries", "runs", "checkpoints", "published", *_NOTES
}  # fmt: skip
"""What of a home is in a backup."""

IN_SETTINGS = {"models.yaml", "locus.toml"}
"""What else is."""


@dataclass(frozen=True)
class Made:
    """A backup that was made.

    Attributes:
        backup: the backup.
        left_out: what should be in it and isn't, each with the reason.
        hidden: values of settings files that were left out as secrets.
    """

    backup: Backup
    left_out: list[str]
    hidden: int


def make_backup(settings: Settings, target: Path, wait_s: float = 0) -> Made:
    """Copy what can't be made again to a folder or file, while no run writes.

    Args:
        settings: the pipeline's settings.
        target: a new folder, or a new .tar, .tar.gz or .tgz file; not inside the home.
        wait_s: seconds to wait for a run to end.

    Raises:
        BackupError: the target is there already, lies inside the home, or can't be written; or
            there is nothing to back up. Nothing is left of it.
        PipelineBusyError: a run is going on.
        WarehouseError: the warehouse can't be opened; `locus doctor` says more.
    """
    if not settings.warehouse.is_file():
        raise BackupError(
            f"there is no warehouse at {settings.warehouse}, so there is nothing to back up: point "
            "LOCUS_CONFIG to your locus.toml"
        )
    refuse_target(target)
    if target.resolve().is_relative_to(settings.home.resolve()):
        raise BackupError(
            f"{target} lies inside the home, and would be lost with it: name another place"
        )
    with pipeline_lock(settings, wait_s, "locus backup"):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as work:
                return _backed_up(settings, target, _Contents(Path(work)))
        except OSError as error:
            raise BackupError(
                f"{target} can't be written: {error.strerror or error} ({error.filename}); make "
                "room or name another place, and back up again"
            ) from error


@dataclass
class _Contents:
    """What goes into a backup, and what doesn't though it should."""

    work: Path
    files: dict[str, Path] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    hidden: int = 0

    def add(self, path: Path, root: Path) -> None:
        """Take in a file of the home, or all files of a folder."""
        for one in (path,) if path.is_file() else sorted(path.rglob("*")):
            if one.is_file() and not one.is_symlink():
                self.files[f"home/{one.relative_to(root).as_posix()}"] = one


def _backed_up(settings: Settings, target: Path, found: _Contents) -> Made:
    copy = found.work / "warehouse.duckdb"
    with Warehouse.open(settings.warehouse) as warehouse:
        warehouse.snapshots.copy_to(copy)
        recorded = set(warehouse.read("SELECT part_sha256 FROM score_part")["part_sha256"])
        open_runs = warehouse.scores.open_runs()
    copy.chmod(0o644)
    with Warehouse.open(copy) as warehouse:
        # The copy says that this command holds the pipeline, which is true of the original alone.
        warehouse.leases.release(warehouse.leases.get()["token"])
    found.files["home/warehouse.duckdb"] = copy
    for part in parts_of(settings):
        if hashlib.sha256(part.read_bytes()).hexdigest() not in recorded:
            found.add(part, settings.home)
    for run_id in open_runs:
        for path in (settings.home / "runs" / run_id).glob("*"):
            if path.suffix != ".log" and path.is_file():
                found.add(path, settings.home)
    _checkpoints(settings, found)
    shown = _snapshots(settings, found)
    for note in _NOTES:
        if (settings.home / note).exists():
            found.add(settings.home / note, settings.home)
    _settings(settings, found)
    facts = {
        "made_at": datetime.now(UTC).isoformat(),
        "versions": versions(),
        "schema_version": file_version(copy),
        "snapshot_id": shown,
        "tables": tables_of(copy),
        "left_out": found.left_out,
    }
    backup = write(target, found.files, facts)
    log.info("backup %s: %d files in %s", backup.backup_id[:16], len(backup.files), target)
    return Made(backup, found.left_out, found.hidden)


def tables_of(database: Path) -> dict[str, dict[str, Any]]:
    """Content of every table, as a manifest says it."""
    return {name: vars(table) for name, table in content(database).items()}


def _checkpoints(settings: Settings, found: _Contents) -> None:
    folders = sorted(settings.checkpoints.iterdir()) if settings.checkpoints.is_dir() else []
    for folder in folders:
        if folder.name.startswith("."):
            continue
        try:
            load(folder)
        except CheckpointError as error:
            found.left_out.append(str(error))
        else:
            found.add(folder, settings.home)


def _snapshots(settings: Settings, found: _Contents) -> str | None:
    """The current snapshot and the one before it, so that a rollback is possible; checked."""
    try:
        now = verify(current(settings.published).folder)
    except SnapshotError as error:
        if (settings.published / CURRENT).exists():
            found.left_out.append(str(error))
        return None
    found.add(settings.published / CURRENT, settings.home)
    found.add(now.folder, settings.home)
    older = [one for one in all_snapshots(settings.published) if one.snapshot_id < now.snapshot_id]
    for one in older[:1]:
        try:
            found.add(verify(one.folder).folder, settings.home)
        except SnapshotError as error:
            found.left_out.append(str(error))
    return now.snapshot_id


def _settings(settings: Settings, found: _Contents) -> None:
    for name, path in (("models.yaml", settings.models_file), ("locus.toml", settings_file())):
        if not path.is_file():
            continue
        try:
            text, hidden = without_secrets(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            found.left_out.append(f"{path}: {error}")
            continue
        found.hidden += hidden
        shown = found.work / name
        shown.write_text(text, encoding="utf-8")
        found.files[f"settings/{name}"] = shown


def check_backup(source: Path) -> Backup:
    """Hold every byte of a backup to its manifest, and the manifest to this version of the code.

    Raises:
        BackupError: it can't be trusted, or was made by a newer version.
    """
    backup = check(source)
    refuse_newer(backup)
    return backup


def refuse_newer(backup: Backup) -> None:
    """Refuse what this version of the code can't bring up.

    Raises:
        BackupError: the backup is of a newer schema, or names none.
    """
    version, known = backup.manifest.get("schema_version"), len(migrations())
    if not isinstance(version, int):
        raise BackupError(
            f"{backup.path}: its manifest names no schema version; take another backup"
        )
    if version > known:
        raise BackupError(
            f"{backup.path} holds a warehouse at schema version {version}, this code knows "
            f"{known}: install the version of the code that made it, or a newer one"
        )
