"""Promise 4: rollback in one command, and the last N snapshots are kept."""

from pathlib import Path

import pytest
from nights import Pipeline, copy_of, published, query, snapshot

from locus.snapshots import all_snapshots, verify

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_rollback_and_retention(second_night: Pipeline, tmp_path: Path) -> None:
    night = copy_of(second_night, tmp_path / "night")
    second, first = all_snapshots(published(night))
    back = night.locus("snapshots", "rollback")
    assert back.returncode == 0, back.stderr
    now = snapshot(night)
    assert now == first
    verify(now.folder, now.manifest_sha256)
    shown = night.locus("status")
    assert "2 models" in shown.stdout
    # No night undoes what a person did, unless there is something new.
    quiet = night.locus("run", "nightly")
    assert quiet.returncode == 0, quiet.stderr
    assert "nothing new" in quiet.stdout
    assert snapshot(night) == first

    night.environment["LOCUS_KEEP_SNAPSHOTS"] = "1"
    forth = night.locus("publish")
    assert forth.returncode == 0, forth.stderr
    third = snapshot(night)
    assert third.manifest["parent"] == first.snapshot_id
    # The newest one, and the one before it for going back; the rows tell of all three.
    kept = [s.snapshot_id for s in all_snapshots(published(night))]
    assert kept == [third.snapshot_id, second.snapshot_id]
    assert query(night, "SELECT count(*) FROM snapshot") == [(3,)]
