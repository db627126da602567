"""Freshness: when a night last ended well, and whether that is too long ago.

No Prefect here: `locus status` asks as well.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from locus.durable import whole_file
from locus.snapshots import SnapshotError, current
from tasks.settings import Settings

LAST_NIGHT = "last_night.json"
CLOCKS_DIFFER = timedelta(minutes=5)
"""How far apart two machines' clocks may well be."""


@dataclass(frozen=True)
class Freshness:
    """How old the data is.

    Attributes:
        since: when a night last ended well (UTC); None where nothing is known.
        age: how long ago that is.
        stale: whether it is longer than `stale_after_hours`.
        said: all of it in one line.
    """

    since: datetime | None
    age: timedelta | None
    stale: bool
    said: str


@dataclass(frozen=True)
class Night:
    """How the last night ended.

    Attributes:
        ok: whether it ended well.
        ended_at: when (UTC); None where the note is damaged.
        began_at: when it began (UTC); None of a note that doesn't say.
        said: what it did, or why it failed.
    """

    ok: bool
    ended_at: datetime | None
    began_at: datetime | None
    said: str


def last_night(settings: Settings) -> Night | None:
    """How the last night ended; None if none is noted."""
    row = _read(_file(settings))
    if row is None:
        return None
    at, began, said = _time(row.get("ended_at")), _time(row.get("began_at")), row.get("said")
    return Night(row.get("ok") is True, at, began, str(said or ""))


def note_night(
    settings: Settings,
    outcome_headline: str,
    ok: bool,
    at: datetime,
    began: datetime | None = None,
) -> None:
    """Write down how a nightly run ended; one that found nothing new ended well.

    Args:
        settings: the pipeline's settings.
        outcome_headline: what it did, or why it failed, in one line.
        ok: whether it ended well.
        at: when it ended (UTC).
        began: when it began (UTC).

    Raises:
        ValueError: a time without a time zone.
        OSError: the file can't be written.
    """
    if at.tzinfo is None:
        raise ValueError(f"{at.isoformat()} names no time zone: give a time in UTC")
    known = _read(_file(settings)) or {}
    at_text = at.astimezone(UTC).isoformat()
    row = {
        "began_at": began.astimezone(UTC).isoformat() if began else None,
        "ended_at": at_text,
        "ok": ok,
        "said": " ".join(outcome_headline.split())[:1000],
        "last_ok_at": at_text if ok else known.get("last_ok_at"),
        "first_at": known.get("first_at") or at_text,
    }
    settings.home.mkdir(parents=True, exist_ok=True)
    with whole_file(_file(settings)) as stream:
        stream.write((json.dumps(row, indent=1) + "\n").encode())


def freshness(settings: Settings, now: datetime) -> Freshness:
    """How long ago a night last ended well.

    Before any has, it is counted from the end of the first one; where no night was ever noted,
    from the published snapshot.

    Args:
        settings: the pipeline's settings.
        now: the time it is (UTC).
    """
    night = _read(_file(settings))
    since, what, note = None, "", ""
    if night is not None:
        since, what = _time(night.get("last_ok_at")), "the last night that ended well was"
        if since is None:
            since, what = _time(night.get("first_at")), "no night has ended well; the first one was"
        if night.get("ok") is False:
            note = f"; the last one failed: {night.get('said', '')}"
    if since is None:
        since, what = _published_at(settings), "no night is noted; the snapshot was published"
    if since is None:
        said = "no night is noted and nothing is published yet: `locus run nightly`"
        return Freshness(None, None, False, said)
    age = now - since
    hours, limit = age.total_seconds() / 3600, settings.gates.stale_after_hours
    stale = hours > limit
    said = f"{what} {hours:.1f} hours ago (stale after {limit:g}){note}"
    if age < -CLOCKS_DIFFER:
        said = f"{what} {-hours:.1f} hours later than now: set the clock right{note}"
    if stale:
        said = (
            f"STALE: {said}. Look whether `locus serve` (or whatever starts the nights) runs, then "
            "`locus run nightly`"
        )
    return Freshness(since, age, stale, said)


def _file(settings: Settings) -> Path:
    return settings.home / LAST_NIGHT


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON object; None if there is none. What can't be read knows of no night that went well."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        return {"ok": False, "said": f"{path.name} can't be read ({type(error).__name__})"}
    return found if isinstance(found, dict) else {"ok": False, "said": f"{path.name} is damaged"}


def _time(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else None


def _published_at(settings: Settings) -> datetime | None:
    try:
        return _time(current(settings.published).manifest.get("created_at"))
    except SnapshotError:
        return None
