"""Snapshots kept, gone back to and removed, on real folders, a real warehouse and a real lock."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from locus.publication.changes import changes
from locus.snapshots import (
    Snapshot,
    SnapshotError,
    all_snapshots,
    building_folder,
    current,
    find,
    make_current,
    remove,
    seal,
)
from tasks.settings import Settings
from tasks.snapshots import prunable, prune, roll_back
from warehouse.store import Warehouse

START = datetime(2026, 3, 1, tzinfo=UTC)
PLACES = {"org/a": [0.0, 0.0], "org/b": [1.0, 0.0], "org/c": [0.0, 3.0]}


def publish(
    published: Path,
    day: int,
    order: str = "abc",
    places: dict[str, list[float]] = PLACES,
    checkpoint: str = "c1",
) -> Snapshot:
    """A sealed and current snapshot; ``order`` are the models of bucket ``all``, best first."""
    building = building_folder(published)
    (building / "similarity").mkdir()
    (building / "routing").mkdir()
    pl.DataFrame(
        {
            "model_id": list(places),
            "revision": "r1",
            "n_scores": [10 + day * (name == "org/a") for name in places],
            "vector": list(places.values()),
        }
    ).write_parquet(building / "similarity" / "embeddings.parquet")
    pl.DataFrame(
        {
            "bucket": "all",
            "rank": range(1, len(order) + 1),
            "model_id": [f"org/{letter}" for letter in order],
            "p_correct": [0.9 - 0.1 * place for place in range(len(order))],
        }
    ).write_parquet(building / "routing" / "table.parquet")
    facts = {
        "lineage": {"checkpoint_id": checkpoint},
        "counts": {"models": len(places), "scores": 100 + day},
        "routing_quality": [{"method": "routed", "hit1": 0.8 + 0.01 * day}],
    }
    snapshot = seal(building, facts, START + timedelta(days=day))
    make_current(published, snapshot)
    return snapshot


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "locus.toml").write_text('home = "state"\nkeep_snapshots = 2\n')
    return Settings().anchored(tmp_path)


def test_back_and_forth(settings: Settings) -> None:
    first, second, third = (publish(settings.published, day) for day in range(3))
    assert [s.snapshot_id for s in all_snapshots(settings.published)] == [
        third.snapshot_id, second.snapshot_id, first.snapshot_id,
    ]  # fmt: skip
    assert roll_back(settings) == second
    assert current(settings.published) == second
    assert roll_back(settings) == first
    with pytest.raises(SnapshotError, match="no snapshot older"):
        roll_back(settings)
    assert roll_back(settings, "20260303") == third
    assert roll_back(settings, first.snapshot_id[-10:]) == first
    with pytest.raises(SnapshotError, match="current one already"):
        roll_back(settings, first.snapshot_id)
    for name in ("", "202603", "nothing"):
        with pytest.raises(SnapshotError, match="called"):
            find(settings.published, name)
    with Warehouse.open(settings.warehouse) as warehouse:
        acts = warehouse.read(
            "SELECT subject FROM audit_log WHERE action = 'snapshot rollback' ORDER BY logged_at"
        )
    expected = [second, first, third, first]
    assert acts["subject"].to_list() == [one.snapshot_id for one in expected]


def test_a_damaged_one_is_not_gone_back_to(settings: Settings) -> None:
    first, second = (publish(settings.published, day) for day in range(2))
    (first.folder / "routing" / "table.parquet").write_bytes(b"other")
    with pytest.raises(SnapshotError, match=r"table\.parquet has changed"):
        roll_back(settings)
    assert current(settings.published) == second
    (first.folder / "manifest.json").write_text("{")
    assert all_snapshots(settings.published) == [second]


def test_pruning_spares_the_current_and_the_one_before(settings: Settings) -> None:
    kept = [publish(settings.published, day) for day in range(6)]
    assert [s.snapshot_id for s in prunable(settings)] == [s.snapshot_id for s in kept[:4]]
    make_current(settings.published, kept[2])
    # The newest two by the settings; 2 is current, and 1 is where a rollback goes.
    assert prune(settings) == [kept[0].snapshot_id, kept[3].snapshot_id]
    assert {s.snapshot_id for s in all_snapshots(settings.published)} == {
        kept[i].snapshot_id for i in (1, 2, 4, 5)
    }
    assert prune(settings, keep=0) == [kept[4].snapshot_id, kept[5].snapshot_id]
    assert sorted(f.name for f in (settings.published / "snapshots").iterdir()) == [
        kept[1].snapshot_id, kept[2].snapshot_id,
    ]  # fmt: skip


def test_what_a_killed_removal_left_is_removed(settings: Settings) -> None:
    kept = publish(settings.published, 0)
    half = kept.folder.with_name(f".removing-{kept.snapshot_id[:-1]}0")
    half.mkdir()
    (half / "rest").write_text("x")
    assert prune(settings) == []
    assert not half.exists()
    assert current(settings.published) == kept


def test_removed_whole(settings: Settings) -> None:
    old = publish(settings.published, 0)
    publish(settings.published, 1)
    remove(old)
    assert not old.folder.exists()
    assert len(list((settings.published / "snapshots").iterdir())) == 1


def test_what_changed(settings: Settings) -> None:
    old = publish(settings.published, 0)
    new = publish(
        settings.published,
        1,
        "bca",
        {"org/a": [3.0, 4.0], "org/b": [1.0, 0.0], "org/d": [1.0, 1.0]},
    )
    found = changes(old, new)
    assert (found.added, found.gone, found.revised) == (["org/d"], ["org/c"], ["org/a"])
    assert found.moved.rows() == [("org/a", 5.0, 10, 11, None, None)]
    assert found.flips.rows() == [("all", "org/a", "org/b", pytest.approx(0.8), 0.9)]
    assert found.ranks.select("model_id", "rank_old", "rank_new").rows() == [
        ("org/a", 1, 3), ("org/b", 2, 1), ("org/c", 3, 2),
    ]  # fmt: skip
    assert found.counts == {"models": (3, 3), "scores": (100, 101)}
    assert found.quality == {"routed": (0.8, 0.81)}
    # Places of two maps have nothing to do with each other.
    other = publish(settings.published, 2, checkpoint="c2")
    assert changes(new, other).moved.is_empty()
    assert not changes(new, other).same_map


def test_by_the_command_line(settings: Settings) -> None:
    run = CliRunner()
    old, new = publish(settings.published, 0), publish(settings.published, 1, "bac")
    listed = json.loads(run.invoke(app, ["snapshots", "list", "--format", "json"]).stdout)
    assert [(one["snapshot"], one["state"]) for one in listed] == [
        (new.snapshot_id, "current"), (old.snapshot_id, "kept"),
    ]  # fmt: skip
    shown = run.invoke(app, ["snapshots", "diff"]).stdout
    assert f"from {old.snapshot_id} to {new.snapshot_id}" in shown
    assert "hit@1 routed: 0.800 -> 0.810" in shown
    whole = json.loads(run.invoke(app, ["snapshots", "diff", "20260301", "--json"]).stdout)
    assert whole["flips"] == [
        {"bucket": "all", "old_best": "org/a", "new_best": "org/b", "p_old": 0.8, "p_new": 0.9}
    ]
    shown = run.invoke(app, ["snapshots", "diff", new.snapshot_id, new.snapshot_id]).stdout
    assert "nothing differs" in shown
    back = run.invoke(app, ["snapshots", "rollback"])
    assert f"{old.snapshot_id} is current" in back.stdout
    publish(settings.published, 2)
    publish(settings.published, 3)
    would = run.invoke(app, ["snapshots", "prune", "--keep", "1", "--dry-run"]).stdout
    assert f"would remove {old.snapshot_id}" in would
    assert old.folder.is_dir()
    assert f"removed {old.snapshot_id}" in run.invoke(app, ["snapshots", "prune"]).stdout
    assert not old.folder.exists()
