"""Promise 8: "nothing new" is a success that says so; stale data raises an alert, once."""

from datetime import UTC, datetime, timedelta

import pytest
from bell import bell
from nights import Pipeline, snapshot

from flows.freshness import StaleDataError, freshness_check
from tasks.freshness import note_night
from tasks.settings import load_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_nothing_new_and_stale_data(
    after_first: Pipeline, prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCUS_CONFIG", str(after_first.folder / "locus.toml"))
    monkeypatch.setenv("LOCUS_GATES__STALE_AFTER_HOURS", "30")
    settings = load_settings()
    old = snapshot(after_first)
    long_ago = datetime.now(UTC) - timedelta(hours=31)
    note_night(settings, "published", True, long_ago)
    with bell() as ringing:
        monkeypatch.setenv("LOCUS_NOTIFY_URLS", ringing.url)
        ringing.status = 500
        with pytest.raises(StaleDataError, match=r"STALE: .* 31\.0 hours ago"):
            freshness_check()
        # Nobody has heard of it, so it rings again; then it has been told.
        ringing.status = 200
        for _ in range(3):
            assert freshness_check(return_state=True).is_failed()
        assert len(ringing.rung) == 2

        # A night that finds nothing to do is a night that ended well.
        quiet = after_first.locus("run", "nightly")
        assert quiet.returncode == 0, quiet.stderr
        assert "nothing new: no model was asked anything" in quiet.stdout
        assert snapshot(after_first) == old
        assert "0.0 hours ago" in freshness_check()
        note_night(settings, "published", True, long_ago)
        assert freshness_check(return_state=True).is_failed()
    assert len(ringing.rung) == 3
    assert all("STALE" in one["message"] for one in ringing.rung)
