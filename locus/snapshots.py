"""The life of a snapshot: sealed, verified, made current.

A published folder looks like this::

    published/current.json              {"snapshot_id": ..., "manifest_sha256": ...}
    published/snapshots/<id>/manifest.json and the files that it lists

`current.json` is the one switch: it is written beside, flushed and renamed, so a reader sees the
old snapshot or the new one, whole.
"""

import hashlib
import json
import logging
import re
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from locus.durable import sync, whole_file

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
CURRENT = "current.json"
MANIFEST = "manifest.json"
SNAPSHOTS = "snapshots"

_STAMP = "%Y%m%dT%H%M%S%fZ"
_NAME = re.compile(r"\d{8}T\d{12}Z-[0-9a-f]{10}")
REMOVING = ".removing-"


class SnapshotError(RuntimeError):
    """A snapshot that is missing, changed or incomplete; the message names the file."""


class DamagedSnapshotError(SnapshotError):
    """What is published, or kept, is not what was sealed."""


@dataclass(frozen=True)
class Snapshot:
    """A sealed snapshot.

    Attributes:
        snapshot_id: ``<utc time>-<short hash>``.
        folder: where it lies.
        manifest: the manifest's content.
        manifest_sha256: hash of the manifest's bytes; what `current.json` pins.
    """

    snapshot_id: str
    folder: Path
    manifest: dict[str, Any]
    manifest_sha256: str


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def building_folder(published: Path) -> Path:
    """A new, private folder beside the snapshots to build the next one in."""
    snapshots = published / SNAPSHOTS
    snapshots.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=".building-", dir=snapshots))


def seal(building: Path, facts: dict[str, Any], created_at: datetime) -> Snapshot:
    """Write the manifest over all files of a built folder and move it to its final place.

    Args:
        building: a folder from `building_folder`, filled.
        facts: lineage, definitions and limits; everything but files and hashes.
        created_at: UTC time of the snapshot. Its id begins with it, or with a microsecond after
            the newest one there: ids come in the order of sealing, whatever a clock does.

    Returns:
        The snapshot; it is not current yet.
    """
    files = {
        path.relative_to(building).as_posix(): {
            "sha256": file_sha256(path),
            "bytes": path.stat().st_size,
        }
        for path in sorted(building.rglob("*"))
        if path.is_file()
    }
    content = hashlib.sha256(json.dumps([facts, files], sort_keys=True).encode()).hexdigest()
    snapshot_id = f"{_stamp(building.parent, created_at)}-{content[:10]}"
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "snapshot_id": snapshot_id,
        "created_at": created_at.isoformat(),
        **facts,
        "files": files,
    }
    (building / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    # mkdtemp and safetensors make what is private to its owner; published is for all to read.
    for name in (*files, MANIFEST):
        (building / name).chmod((building / name).stat().st_mode | 0o444)
        sync(building / name)
    building.chmod(0o755)
    folder = building.parent / snapshot_id
    building.rename(folder)
    sync(folder.parent)
    return Snapshot(snapshot_id, folder, manifest, file_sha256(folder / MANIFEST))


def _stamp(snapshots: Path, created_at: datetime) -> str:
    stamp = created_at.strftime(_STAMP)
    newest = max((f.name for f in snapshots.iterdir() if _NAME.fullmatch(f.name)), default="")
    if stamp > newest:
        return stamp
    try:
        last = datetime.strptime(newest.split("-")[0], _STAMP).replace(tzinfo=UTC)
        return (last + timedelta(microseconds=1)).strftime(_STAMP)
    except (ValueError, OverflowError):  # somebody's folder, named after no time
        return stamp


def verify(folder: Path, manifest_sha256: str | None = None) -> Snapshot:
    """Check every byte of a snapshot against its manifest.

    Raises:
        SnapshotError: a missing, added or changed file, or another manifest than expected.
    """
    snapshot = _open(folder)
    manifest, found_sha256 = snapshot.manifest, snapshot.manifest_sha256
    try:
        files: dict[str, dict[str, Any]] = manifest["files"]
        hashes = {name: entry["sha256"] for name, entry in files.items()}
        version = int(manifest["schema_version"])
    except (ValueError, OverflowError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(folder.name, error) from error
    if manifest_sha256 is not None and found_sha256 != manifest_sha256:
        raise _another(folder.name)
    if version > SCHEMA_VERSION:
        raise SnapshotError(
            f"snapshot {folder.name} has schema {version}; this version reads up to "
            f"{SCHEMA_VERSION}: upgrade the package"
        )
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {
        MANIFEST
    }
    if there != set(files):
        odd = sorted(there ^ set(files))
        raise DamagedSnapshotError(
            f"snapshot {folder.name}: files differ from the manifest: {_cut(odd[:5])}"
        )
    for name, sha256 in hashes.items():
        if file_sha256(folder / name) != sha256:
            raise DamagedSnapshotError(
                f"snapshot {folder.name}: {name} has changed since it was sealed"
            )
    return snapshot


def make_current(published: Path, snapshot: Snapshot) -> None:
    """Switch readers to a snapshot, in one rename."""
    pointer = {
        "snapshot_id": snapshot.snapshot_id,
        "manifest_sha256": snapshot.manifest_sha256,
    }
    with whole_file(published / CURRENT) as stream:
        stream.write((json.dumps(pointer) + "\n").encode())


def current(published: Path) -> Snapshot:
    """The current snapshot, its manifest checked (not every file: see `verify`).

    Raises:
        SnapshotError: nothing is published yet, or the pointer leads nowhere.
    """
    try:
        pointer = json.loads((published / CURRENT).read_text(encoding="utf-8"))
        snapshot_id, expected = pointer["snapshot_id"], pointer["manifest_sha256"]
    except FileNotFoundError as error:
        raise SnapshotError(
            f"nothing is published in {published} yet: `locus run nightly` publishes, "
            "`locus demo` shows it on a zoo of tiny models"
        ) from error
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise DamagedSnapshotError(f"{published / CURRENT} can't be read: {_cut(error)}") from error
    # A name of ours alone: others may lead elsewhere, or be longer than a file system takes.
    is_name = isinstance(snapshot_id, str) and _NAME.fullmatch(snapshot_id)
    if not is_name or not (published / SNAPSHOTS / snapshot_id).is_dir():
        shown = _cut(repr(snapshot_id))
        raise DamagedSnapshotError(f"{published / CURRENT} names {shown}, which is not there")
    snapshot = _open(published / SNAPSHOTS / snapshot_id)
    if snapshot.manifest_sha256 != expected:
        raise _another(snapshot_id)
    return snapshot


def all_snapshots(published: Path) -> list[Snapshot]:
    """Every sealed snapshot that is kept, the newest first; manifests as they lie there.

    One whose manifest can't be read is logged and left out: it can't be gone back to.
    """
    kept = []
    for folder in sealed_folders(published):
        try:
            kept.append(_open(folder))
        except SnapshotError as error:
            log.warning("%s", error)
    return kept


def sealed_folders(published: Path) -> list[Path]:
    """Folders that are named as sealed snapshots, the newest first, whatever is in them."""
    folder = published / SNAPSHOTS
    names = [f.name for f in folder.iterdir()] if folder.is_dir() else []
    return [folder / name for name in sorted(filter(_NAME.fullmatch, names), reverse=True)]


def find(published: Path, name: str) -> Snapshot:
    """The kept snapshot whose id begins, or whose short hash begins, like this.

    Raises:
        SnapshotError: none does, or more than one.
    """
    kept = all_snapshots(published)
    found = [
        one
        for one in kept
        if name and (one.snapshot_id.startswith(name) or one.snapshot_id[-10:].startswith(name))
    ]
    if len(found) != 1:
        many = "no snapshot is" if not found else f"{len(found)} snapshots are"
        known = ", ".join(one.snapshot_id for one in kept[:10]) or "none"
        raise SnapshotError(
            f"{many} called {name!r} in {published}: name one by how its id or its hash begins; "
            f"there are: {known}"
        )
    return found[0]


def remove(snapshot: Snapshot) -> None:
    """Take a snapshot away: out of sight in one rename, then from the disk.

    Who opens a file of it at that moment gets an error that it isn't there, never half of it.
    """
    hidden = snapshot.folder.with_name(REMOVING + snapshot.folder.name)
    snapshot.folder.rename(hidden)
    sync(hidden.parent)
    shutil.rmtree(hidden)


def _open(folder: Path) -> Snapshot:
    try:
        raw = (folder / MANIFEST).read_bytes()
        manifest = json.loads(raw)
        snapshot_id = manifest["snapshot_id"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise _unreadable(folder.name, error) from error
    if snapshot_id != folder.name:
        raise DamagedSnapshotError(
            f"snapshot {folder.name}: its manifest is that of another snapshot"
        )
    return Snapshot(folder.name, folder, manifest, _sha256(raw))


def _unreadable(name: str, error: Exception) -> SnapshotError:
    return DamagedSnapshotError(f"snapshot {name}: manifest can't be read: {_cut(error)}")


def _another(name: str) -> SnapshotError:
    return DamagedSnapshotError(f"snapshot {name}: manifest is not the one that was published")


def _cut(said: object) -> str:
    """What was found, short enough for a line."""
    return str(said)[:200]


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
