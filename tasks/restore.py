"""Restore: a backup in the place of the home, all of it or nothing; nothing is ever deleted."""

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from locus.backups import Backup, BackupError, check, read
from locus.durable import sync, whole_file
from locus.snapshots import CURRENT, SNAPSHOTS, SnapshotError, current, verify
from tasks.backup import IN_HOME, IN_SETTINGS, refuse_newer, tables_of
from tasks.doctor.leftovers import RESTORING
from tasks.doctor.surroundings import SET_ASIDE
from tasks.lock import PipelineBusyError, lease_status, pipeline_lock
from tasks.settings import Settings, settings_file
from warehouse.errors import WarehouseError
from warehouse.examine import file_version

log = logging.getLogger("locus.pipeline")

FROM_BACKUP = "from-backup"
"""Folder of a restored home where the settings files of the backup lie."""


class RestoreRefusedError(RuntimeError):
    """A restore that would put something in the place of what is there, or under a live run."""


@dataclass(frozen=True)
class Restored:
    """A backup that was restored.

    Attributes:
        backup: the backup.
        home: where it is now.
        set_aside: where the home lies that was there before; None if none was.
        rows: rows of all tables together, as many as were backed up and the same.
        snapshot_id: what readers see; None if the backup has no snapshot.
        said: what else is worth knowing.
    """

    backup: Backup
    home: Path
    set_aside: Path | None
    rows: int
    snapshot_id: str | None
    said: list[str]


def restore(settings: Settings, source: Path, *, replace: bool = False) -> Restored:
    """Put a backup in the place of the home: all of it, or nothing.

    It is checked while it is unpacked beside the home, then opened and its rows are held to those
    that were backed up. Only then the home that is there, if any, is set aside under another name,
    and the new one takes its place.

    Args:
        settings: the pipeline's settings.
        source: the backup.
        replace: whether a home that holds something may be set aside.

    Raises:
        BackupError: the backup can't be trusted, is of a newer version, or can't be unpacked.
        RestoreRefusedError: the home holds something, or can't be renamed.
        PipelineBusyError: a run is going on in the home.
    """
    home = settings.home.resolve()
    promised = read(source)
    refuse_newer(promised)
    _refuse_strangers(promised)
    there = os.path.lexists(home) and (not home.is_dir() or any(home.iterdir()))
    if there and not replace:
        raise RestoreRefusedError(
            f"{home} holds something already: --replace sets it aside as "
            f"{home.name}{SET_ASIDE}<time>, or set LOCUS_HOME to another folder"
        )
    if source.resolve().is_relative_to(home):
        raise RestoreRefusedError(f"{source} lies inside the home that it is to replace: move it")
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f"{home.name}{RESTORING}", dir=home.parent))
    except OSError as error:
        raise _unpacked(source, error) from error
    try:
        backup = check(source, into=work)
        rows = _proven(backup, work / "home")
        _at_home(backup, work / "home", home)
        if (work / "settings").is_dir():
            (work / "settings").rename(work / "home" / FROM_BACKUP)
        _refuse_running(settings)
        aside = _switched(work / "home", home, there=there)
    except OSError as error:
        raise _unpacked(source, error) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    said = list(_after(settings, backup, home))
    log.info("restored backup %s to %s", backup.backup_id[:16], home)
    return Restored(backup, home, aside, rows, backup.manifest.get("snapshot_id"), said)


def _unpacked(source: Path, error: OSError) -> BackupError:
    return BackupError(
        f"{source} can't be unpacked: {error.strerror or error} ({error.filename}); nothing was "
        "changed"
    )


def _refuse_strangers(backup: Backup) -> None:
    """Refuse what no backup holds, such as the address of a server or a lock."""
    for name in backup.files:
        place, first, *_ = name.split("/")
        if first not in (IN_HOME if place == "home" else IN_SETTINGS):
            raise BackupError(
                f"{backup.path}: {name!r} is nothing that `locus backup` writes, so nothing of it "
                "is unpacked"
            )


def _proven(backup: Backup, built: Path) -> int:
    """Hold the unpacked home to what the backup says of it.

    Returns:
        Rows of all tables together.

    Raises:
        BackupError: it lacks the warehouse, or that holds other rows; or a damaged snapshot.
    """
    database = built / "warehouse.duckdb"
    try:
        found = tables_of(database)
    except WarehouseError as error:
        raise BackupError(
            f"{backup.path}: its warehouse can't be opened: {error}; take another backup"
        ) from error
    wanted = backup.manifest.get("tables")
    if found != wanted or file_version(database) != backup.manifest["schema_version"]:
        names = [n for n in found if not isinstance(wanted, dict) or found[n] != wanted.get(n)]
        raise BackupError(
            f"{backup.path}: its warehouse holds other rows than were backed up (in "
            f"{', '.join(names) or 'tables that are missing'}); take another backup"
        )
    if shown := backup.manifest.get("snapshot_id"):
        try:
            if current(built / "published").snapshot_id != shown:
                raise SnapshotError(f"{CURRENT} doesn't name {shown}")
            for folder in (built / "published" / SNAPSHOTS).iterdir():
                verify(folder)
        except SnapshotError as error:
            raise BackupError(f"{backup.path}: {error}; take another backup") from error
    return sum(int(table["rows"]) for table in found.values())


def _at_home(backup: Backup, built: Path, home: Path) -> None:
    """Let interrupted runs find their parts where they are now, and nowhere else.

    Raises:
        BackupError: a request that can't be read, or whose parts lay outside a home.
    """
    for file in built.glob("runs/*/request.json"):
        try:
            request = json.loads(file.read_text(encoding="utf-8"))
            parent, name = Path(request["parts"]).parts[-2:]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BackupError(
                f"{backup.path}: the request of run {file.parent.name} can't be read: {error}; "
                "take another backup"
            ) from error
        if parent not in ("parts", "canaries") or name == "..":
            raise BackupError(
                f"{backup.path}: run {file.parent.name} has its parts outside of the home, in "
                f"{parent}/{name}; take another backup"
            )
        request["parts"] = str(home / parent / name)
        with whole_file(file) as stream:
            stream.write((json.dumps(request, indent=1) + "\n").encode())


def _refuse_running(settings: Settings) -> None:
    """Refuse while somebody works in the home.

    A run that slips in after this look loses its lease as soon as it looks for it: the row of the
    restored warehouse names nobody.
    """
    if not settings.home.is_dir():
        return
    try:
        FileLock(settings.home / "serve.lock").acquire(timeout=0).lock.release()
    except Timeout as error:
        raise PipelineBusyError(
            f"`locus serve` runs for {settings.home}: stop it, then restore"
        ) from error
    if not settings.warehouse.is_file():
        return
    try:
        with pipeline_lock(settings, 0, "locus restore"):
            pass
    except WarehouseError as error:
        # Nobody can open it, so nobody can hold the lease; but one that began before may go on.
        held = lease_status(settings)
        if held is not None and held["state"] == "running":
            raise PipelineBusyError(
                f"{held['what']} on {held['host']}, process {held['pid']}, works in "
                f"{settings.home} ({error}); wait for it to end, then restore"
            ) from error


def _switched(built: Path, home: Path, *, there: bool) -> Path | None:
    """Put what was built in the home's place; where what was there lies now."""
    built.chmod(0o755)
    aside = None
    try:
        if there:
            aside = home.with_name(f"{home.name}{SET_ASIDE}{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}")
            home.rename(aside)
        elif home.is_dir():
            home.rmdir()
        built.rename(home)
    except OSError as error:
        if aside is not None and not home.exists():
            with suppress(OSError):  # told of by the first one
                aside.rename(home)
        raise RestoreRefusedError(
            f"{home} can't be renamed ({error.strerror}), as where it is a mount: set LOCUS_HOME "
            "to another folder and restore there; nothing was changed"
        ) from error
    sync(home.parent)
    return aside


def _after(settings: Settings, backup: Backup, home: Path) -> Iterator[str]:
    """Put the registry back where there is none, and say what is left to do."""
    for name, place in (("models.yaml", settings.models_file), ("locus.toml", settings_file())):
        entry = backup.files.get(f"settings/{name}")
        if entry is None:
            continue
        kept = home / FROM_BACKUP / name
        if not place.exists() and name == "models.yaml":
            with whole_file(place) as stream:
                stream.write(kept.read_bytes())
            yield f"{place} was missing and is the backup's now"
        elif not place.exists():
            yield f"there is no {place}: the backup's is {kept}, without its secrets"
        elif place.read_bytes() != kept.read_bytes():
            yield f"{place} stays as it is; the backup's, which differs, is {kept}"
    left_out = backup.manifest.get("left_out")
    for one in left_out if isinstance(left_out, list) else ():
        yield f"not in the backup: {one}"
