"""The freshness flow: fails while the data is stale, and tells people once."""

import json
import logging
from datetime import UTC, datetime
from pathlib import Path

from prefect import flow

from flows.seen import timed
from locus.durable import whole_file
from tasks.events import STALE, post_event
from tasks.freshness import Freshness, freshness
from tasks.logs import keep_log
from tasks.notify import notify, receivers
from tasks.settings import Settings, load_settings

log = logging.getLogger("locus.pipeline")


class StaleDataError(RuntimeError):
    """No night has ended well for too long; the message says since when and what to do."""


@flow(name="freshness", flow_run_name=timed("freshness"), persist_result=False)
def freshness_check() -> str:
    """Fail if no night has ended well for `gates.stale_after_hours`; tell people once of it.

    Raises:
        StaleDataError: the data is stale.
    """
    settings = load_settings()
    keep_log(settings)
    found = freshness(settings, datetime.now(UTC))
    marker = settings.home / "stale.json"
    if not found.stale:
        marker.unlink(missing_ok=True)
        log.info("%s", found.said)
        return found.said
    _tell(settings, found, marker)
    raise StaleDataError(found.said)


def _tell(settings: Settings, found: Freshness, marker: Path) -> None:
    """Tell people, once per staleness; again in an hour if nobody could be reached."""
    rung = {"since": found.since.isoformat() if found.since else None}
    try:
        before = json.loads(marker.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or damaged: better twice than never
        before = None
    if before == rung:
        return
    failures = notify(settings.notify, "stale", "LOCUS: the data is stale", found.said)
    post_event(settings, STALE, "locus.data", {**rung, "said": found.said})
    if failures and len(failures) == receivers(settings.notify):
        return
    with whole_file(marker) as stream:
        stream.write((json.dumps(rung) + "\n").encode())
