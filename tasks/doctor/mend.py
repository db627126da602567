"""Mending what can be mended without losing anything; the rest is for a person to decide."""

import logging
from contextlib import suppress
from pathlib import Path

from locus.durable import sync
from locus.snapshots import Snapshot, SnapshotError, current, make_current
from tasks.doctor.holdings import CORRUPT, damaged_part, parts_of, snapshots
from tasks.doctor.leftovers import leftovers, remove
from tasks.lock import pipeline_lock, while_held
from tasks.record import REFUSED
from tasks.settings import Settings
from warehouse.errors import WarehouseBusyError
from warehouse.examine import examine
from warehouse.sql import query
from warehouse.store import Warehouse

log = logging.getLogger("locus.pipeline")


def mend(settings: Settings, wait_s: float = 0) -> list[str]:
    """Move what is damaged out of the way, remove leftovers, show readers a whole snapshot.

    Nothing that somebody could still read is removed: damaged parts and snapshots keep lying where
    they were, under another name.

    Args:
        settings: the pipeline's settings.
        wait_s: seconds to wait for another run to end.

    Returns:
        What was done, a line each; empty where nothing had to be, or the home isn't there.

    Raises:
        PipelineBusyError: another run is going on.
        WarehouseError: the warehouse is damaged; nothing was touched.
        OSError: something can't be moved or removed; what was done until then stays done.
    """
    if not settings.warehouse.is_file():
        return []
    # Taking the lease writes, which is no good to a file that is damaged.
    with suppress(WarehouseBusyError):
        examine(settings.warehouse)
    done = []
    with pipeline_lock(settings, wait_s, "locus doctor"), while_held(settings):
        for act in (_leftovers, _parts, _published):
            done += act(settings)
    for line in done:
        log.info("%s", line)
    return done


def _leftovers(settings: Settings) -> list[str]:
    done = []
    for path in leftovers(settings):
        remove(path)
        done.append(f"removed {path}")
    return done


def _parts(settings: Settings) -> list[str]:
    with Warehouse.open(settings.warehouse) as warehouse:
        recorded = frozenset(warehouse.read("SELECT part_sha256 FROM score_part")["part_sha256"])
    return [
        _set_aside(part, REFUSED) for part in parts_of(settings) if damaged_part(part, recorded)
    ]


def _published(settings: Settings) -> list[str]:
    """Readers first, then what is damaged."""
    intact, damaged = snapshots(settings)
    with Warehouse.open(settings.warehouse) as warehouse:
        hashes = dict(warehouse.snapshots.list()["snapshot_id", "manifest_sha256"].iter_rows())
        last = warehouse.read(query("shown_snapshot"))["snapshot_id"].to_list()
    # Exchanged with its manifest: every hash fits, and yet it is not what was published.
    bad = [*damaged, *(s.folder for s in intact if not _is_published(s, hashes, unknown=True))]
    # Only what the gates let through once: a snapshot that the warehouse doesn't know is not shown.
    whole = [one for one in intact if _is_published(one, hashes, unknown=False)]
    done = []
    try:
        now = current(settings.published)
        needed, was = now.folder in bad, now.snapshot_id
        if needed and not whole:
            # Files of it that are whole are still better than none.
            bad.remove(now.folder)
    except SnapshotError as error:
        needed, was = bool(intact or damaged), str(error)
    if needed and whole:
        chosen = next((one for one in whole if one.snapshot_id in last), whole[0])
        with Warehouse.open(settings.warehouse) as warehouse:
            warehouse.audit("snapshot repair", chosen.snapshot_id, {"was": was})
        make_current(settings.published, chosen)
        done.append(f"readers see {chosen.snapshot_id} now")
    return done + [_set_aside(folder, CORRUPT) for folder in bad]


def _is_published(one: Snapshot, hashes: dict[str, str | None], *, unknown: bool) -> bool:
    """Whether a snapshot is what the warehouse says was published; `unknown` if it says nothing."""
    if one.snapshot_id not in hashes:
        return unknown
    return hashes[one.snapshot_id] in (None, one.manifest_sha256)


def _set_aside(path: Path, ending: str) -> str:
    """Rename a file or folder, under a number too if one is there already."""
    aside = path.with_name(path.name + ending)
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}{ending}-{number}")
    path.rename(aside)
    sync(aside.parent)
    return f"set {path} aside as {aside.name}"
