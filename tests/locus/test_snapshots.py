"""Snapshots: sealed, checked, switched in one step. Readers meanwhile: tests/promises."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from locus.snapshots import (
    Snapshot,
    SnapshotError,
    building_folder,
    current,
    make_current,
    seal,
    verify,
)


def make(published: Path, text: str) -> Snapshot:
    building = building_folder(published)
    (building / "routing").mkdir()
    (building / "routing" / "table.json").write_text(text)
    (building / "summary.md").write_text(text)
    (building / "summary.md").chmod(0o600)
    return seal(building, {"lineage": {"text": text}}, datetime.now(UTC))


def test_sealed_and_current(tmp_path: Path) -> None:
    snapshot = make(tmp_path, "one")
    with pytest.raises(SnapshotError, match="nothing is published"):
        current(tmp_path)
    make_current(tmp_path, snapshot)
    found = current(tmp_path)
    assert found == snapshot
    assert set(found.manifest["files"]) == {"routing/table.json", "summary.md"}
    assert verify(found.folder, found.manifest_sha256) == snapshot
    assert sorted(p.name for p in tmp_path.iterdir()) == ["current.json", "snapshots"]
    modes = [p.stat().st_mode for p in found.folder.rglob("*") if p.is_file()]
    assert all(mode & 0o444 == 0o444 for mode in modes)  # for everybody to read
    assert found.snapshot_id.startswith(f"{datetime.now(UTC):%Y%m%d}")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f: (f / "summary.md").write_text("x"), "summary.md has changed"),
        (lambda f: (f / "summary.md").unlink(), "summary.md"),
        (lambda f: (f / "extra").write_text("x"), "extra"),
        (lambda f: (f / "manifest.json").write_text("{}"), "manifest"),
        (lambda f: (f / "manifest.json").write_text("no json"), "manifest"),
    ],
)
def test_any_change_is_found(tmp_path: Path, change: object, reason: str) -> None:
    snapshot = make(tmp_path, "one")
    change(snapshot.folder)  # type: ignore[operator]
    with pytest.raises(SnapshotError, match=reason):
        verify(snapshot.folder, snapshot.manifest_sha256)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    snapshot = make(tmp_path, "one")
    manifest = json.loads((snapshot.folder / "manifest.json").read_text())
    manifest["schema_version"] = 99
    (snapshot.folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SnapshotError, match="upgrade"):
        verify(snapshot.folder)


@pytest.mark.parametrize(
    "pointer",
    ["", "{}", "[]", '{"snapshot_id": "../..", "manifest_sha256": "x"}',
     '{"snapshot_id": "gone", "manifest_sha256": "x"}'],
)  # fmt: skip
def test_a_pointer_that_leads_nowhere_is_a_clear_error(tmp_path: Path, pointer: str) -> None:
    make(tmp_path, "one")
    (tmp_path / "current.json").write_text(pointer)
    with pytest.raises(SnapshotError, match=r"current\.json"):
        current(tmp_path)


def test_a_swapped_manifest_is_found_by_readers(tmp_path: Path) -> None:
    snapshot = make(tmp_path, "one")
    make_current(tmp_path, snapshot)
    manifest = snapshot.folder / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")
    with pytest.raises(SnapshotError, match="not the one"):
        current(tmp_path)
