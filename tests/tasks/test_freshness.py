"""Freshness: what counts is when a night last ended well."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from locus.gates.settings import GateSettings
from locus.snapshots import building_folder, make_current, seal
from tasks.freshness import LAST_NIGHT, freshness, note_night
from tasks.settings import Settings

NOW = datetime(2026, 5, 2, 12, tzinfo=UTC)


def hours(n: float) -> timedelta:
    return timedelta(hours=n)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", gates=GateSettings(stale_after_hours=30))


def publish(settings: Settings, at: datetime) -> None:
    building = building_folder(settings.published)
    (building / "file").write_text("x")
    make_current(settings.published, seal(building, {}, at))


def test_before_anything_nothing_is_stale(settings: Settings) -> None:
    found = freshness(settings, NOW)
    assert (found.since, found.age, found.stale) == (None, None, False)
    assert "locus run nightly" in found.said


@pytest.mark.parametrize(("age", "stale"), [(29.9, False), (30.0, False), (30.1, True)])
def test_the_last_night_that_ended_well_counts(settings: Settings, age: float, stale: bool) -> None:
    note_night(settings, "nothing new: the published snapshot stays", True, NOW - hours(age))
    found = freshness(settings, NOW)
    assert found.stale is stale
    assert found.age == hours(age)
    assert found.said.startswith("STALE") is stale
    assert f"{age:.1f} hours ago" in found.said


def test_nights_that_find_nothing_new_keep_an_old_snapshot_fresh(settings: Settings) -> None:
    publish(settings, NOW - hours(500))
    assert freshness(settings, NOW).stale
    assert "the snapshot was published 500.0 hours ago" in freshness(settings, NOW).said
    note_night(settings, "nothing new", True, NOW - hours(1))
    assert not freshness(settings, NOW).stale


def test_a_night_that_is_dated_later_than_now_is_said(settings: Settings) -> None:
    note_night(settings, "published", True, NOW + hours(48))
    assert "48.0 hours later than now: set the clock right" in freshness(settings, NOW).said


def test_a_failed_night_is_no_check_and_is_named(settings: Settings) -> None:
    note_night(settings, "published", True, NOW - hours(31))
    note_night(settings, "gate routing:\n a drop", False, NOW - hours(7))
    # Publishing by hand asks nobody whether there is anything new.
    publish(settings, NOW - hours(1))
    found = freshness(settings, NOW)
    assert (found.stale, found.since) == (True, NOW - hours(31))
    assert "the last one failed: gate routing: a drop" in found.said
    note_night(settings, "published", True, NOW)
    assert "failed" not in freshness(settings, NOW).said


def test_nights_that_never_ended_well_become_stale(settings: Settings) -> None:
    note_night(settings, "no model could be asked", False, NOW - hours(31))
    note_night(settings, "no model could be asked", False, NOW - hours(7))
    found = freshness(settings, NOW)
    assert (found.stale, found.since) == (True, NOW - hours(31))
    assert not freshness(settings, NOW - hours(2)).stale


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"last_ok_at": "soon"}', "\x00\xff"])
def test_a_damaged_note_is_no_night(settings: Settings, content: str) -> None:
    publish(settings, NOW - hours(40))
    (settings.home / LAST_NIGHT).write_text(content, encoding="latin-1")
    assert freshness(settings, NOW).stale
    note_night(settings, "published", True, NOW)
    assert not freshness(settings, NOW).stale


def test_a_note_is_in_utc(settings: Settings) -> None:
    note_night(settings, "published", True, NOW.astimezone(timezone(hours(-5))))
    row = json.loads((settings.home / LAST_NIGHT).read_text())
    assert row["last_ok_at"] == NOW.isoformat()
    with pytest.raises(ValueError, match="no time zone"):
        note_night(settings, "published", True, NOW.replace(tzinfo=None))
