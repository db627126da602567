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
from datetime import datetime
from pathlib import Path
from typing import Any

from locus.durable import sync, whole_file

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
CURRENT = "current.json"
MANIFEST = "manifest.json"
SNAPSHOTS = "snapshots"

_NAME = re.compile(r"\d{8}T\d{12}Z-[0-9a-f]{10}")
REMOVING = ".removing-"


class SnapshotError(RuntimeError):
    """A snapshot that is missing, changed or incomplete; the message names the file."""


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
        created_at: UTC time of the snapshot.

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
    snapshot_id = f"{created_at:%Y%m%dT%H%M%S%fZ}-{content[:10]}"
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


def verify(folder: Path, manifest_sha256: str | None = None) -> Snapshot:
    """Check every byte of a snapshot against its manifest.

    Raises:
        SnapshotError: a missing, added or changed file, or another manifest than expected.
    """
    try:
        raw = (folder / MANIFEST).read_bytes()
        manifest = json.loads(raw)
        files: dict[str, dict[str, Any]] = manifest["files"]
        version, snapshot_id = manifest["schema_version"], manifest["snapshot_id"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SnapshotError(f"snapshot {folder.name}: manifest can't be read: {error}") from error
    found_sha256 = _sha256(raw)
    if manifest_sha256 is not None and found_sha256 != manifest_sha256:
        raise SnapshotError(f"snapshot {folder.name}: manifest is not the one that was published")
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
        raise SnapshotError(f"snapshot {folder.name}: files differ from the manifest: {odd[:5]}")
    for name, entry in files.items():
        if file_sha256(folder / name) != entry["sha256"]:
            raise SnapshotError(f"snapshot {folder.name}: {name} has changed since it was sealed")
    return Snapshot(snapshot_id, folder, manifest, found_sha256)


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
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SnapshotError(f"{published / CURRENT} can't be read: {error}") from error
    folder = published / SNAPSHOTS / str(snapshot_id)
    if folder.parent != published / SNAPSHOTS or not folder.is_dir():
        raise SnapshotError(f"{published / CURRENT} names {snapshot_id!r}, which is not there")
    raw = (folder / MANIFEST).read_bytes()
    if _sha256(raw) != expected:
        raise SnapshotError(f"snapshot {snapshot_id}: manifest is not the one that was published")
    return Snapshot(str(snapshot_id), folder, json.loads(raw), str(expected))


def all_snapshots(published: Path) -> list[Snapshot]:
    """Every sealed snapshot that is kept, the newest first; manifests as they lie there.

    One whose manifest can't be read is logged and left out: it can't be gone back to.
    """
    folder = published / SNAPSHOTS
    names = [f.name for f in folder.iterdir()] if folder.is_dir() else []
    kept = []
    for name in sorted(filter(_NAME.fullmatch, names), reverse=True):
        try:
            kept.append(_open(folder / name))
        except SnapshotError as error:
            log.warning("%s", error)
    return kept


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
        return Snapshot(str(manifest["snapshot_id"]), folder, manifest, _sha256(raw))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SnapshotError(f"snapshot {folder.name}: manifest can't be read: {error}") from error


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
