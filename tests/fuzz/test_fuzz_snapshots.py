"""Whoever can write to ``published/`` writes what they like: a snapshot, or a clear error."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hostile import PATIENCE, as_json, changed, check_told, damaged, fuzz, texts, watched
from hypothesis import strategies as st

from locus.snapshots import (
    SnapshotError,
    all_snapshots,
    building_folder,
    current,
    find,
    make_current,
    seal,
    verify,
)

pytestmark = [PATIENCE]


def publish(published: Path) -> tuple[Path, dict[str, Any]]:
    """A snapshot of two files; gives its folder and manifest."""
    building = building_folder(published)
    (building / "routing").mkdir()
    (building / "routing" / "table.json").write_text("{}")
    (building / "summary.md").write_text("one")
    snapshot = seal(building, {"lineage": {"parent": None}}, datetime(2026, 1, 1, tzinfo=UTC))
    make_current(published, snapshot)
    return snapshot.folder, snapshot.manifest


def test_any_pointer_leads_to_a_snapshot_or_an_error(ground: Path) -> None:
    published = ground / "a" / "published"
    folder, _ = publish(published)
    # What a pointer must not lead to, although a manifest lies there.
    for outside in (published, published.parent):
        (outside / "manifest.json").write_text("{}")
    sound = json.loads((published / "current.json").read_text())
    ids = st.sampled_from(
        [sound["snapshot_id"], "..", ".", "../..", "x/..", f"../{folder.name}", "/", "a" * 300]
    )
    hashes = st.sampled_from([sound["manifest_sha256"], hashlib.sha256(b"{}").hexdigest()])
    pointers = changed(sound) | st.builds(
        lambda i, h: {"snapshot_id": i, "manifest_sha256": h}, ids | texts, hashes
    )

    def check(pointer: bytes) -> str:
        (published / "current.json").write_bytes(pointer)
        with watched(ground, published):
            try:
                found = current(published)
            except SnapshotError as error:
                check_told(str(error))
                return "refused"
        assert found.folder == folder and found.manifest_sha256 == sound["manifest_sha256"]
        return "accepted"

    fuzz(check, damaged(pointers.map(as_json)), share=0.5)


def test_any_manifest_is_a_snapshot_or_an_error(ground: Path) -> None:
    published = ground / "a" / "published"
    folder, manifest = publish(published)
    path, kept = folder / "manifest.json", (folder / "manifest.json").read_bytes()
    others = {**manifest, "files": {**manifest["files"], "../../current.json": {"sha256": "0"}}}

    def check(content: bytes, is_named: bool) -> str:
        path.write_bytes(content)
        pinned = hashlib.sha256(content).hexdigest()
        pointer = {"snapshot_id": folder.name, "manifest_sha256": pinned}
        (published / "current.json").write_text(json.dumps(pointer))
        ends = set()
        with watched(ground, published):
            for step in (
                lambda: current(published),
                lambda: verify(folder, pinned if is_named else None),
                lambda: find(published, folder.name[:20]),
            ):
                try:
                    found = step()
                    assert isinstance(found.manifest, dict) and found.folder == folder
                    assert found.snapshot_id == folder.name
                    ends.add("accepted")
                except SnapshotError as error:
                    check_told(str(error))
                    ends.add("refused")
            all_snapshots(published)
        assert {p.name for p in folder.iterdir()} == {"manifest.json", "routing", "summary.md"}
        return ", ".join(sorted(ends))

    manifests = st.just(kept) | changed(manifest, others).map(as_json)
    fuzz(check, damaged(manifests), st.booleans(), share=0.5)


@pytest.mark.parametrize(
    ("pointer", "said"),
    [
        ('{"snapshot_id": "..", "manifest_sha256": "x"}', "'..', which is not there"),
        ('{"snapshot_id": "' + "a" * 300 + '", "manifest_sha256": "x"}', "which is not there"),
        ("[" * 100_000, "can't be read"),
    ],
)
def test_pointers_that_were_not_refused_once(tmp_path: Path, pointer: str, said: str) -> None:
    publish(tmp_path)
    (tmp_path / "current.json").write_text(pointer)
    with pytest.raises(SnapshotError, match=said):
        current(tmp_path)


@pytest.mark.parametrize(
    "manifest", ["[" * 100_000, "no json", "[]", '{"files": {}, "schema_version": 1e999}']
)
def test_manifests_that_were_not_refused_once(tmp_path: Path, manifest: str) -> None:
    folder, _ = publish(tmp_path)
    (folder / "manifest.json").write_text(manifest)
    pinned = hashlib.sha256(manifest.encode()).hexdigest()
    pointer = {"snapshot_id": folder.name, "manifest_sha256": pinned}
    (tmp_path / "current.json").write_text(json.dumps(pointer))
    for step in (lambda: current(tmp_path), lambda: verify(folder), lambda: find(tmp_path, "2026")):
        with pytest.raises(SnapshotError):
            step()
    assert all_snapshots(tmp_path) == []
