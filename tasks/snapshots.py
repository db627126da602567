"""Snapshots after they were published: going back to one, and removing old ones.

Callers hold the pipeline's lock.
"""

import logging
import shutil

from locus.snapshots import (
    REMOVING,
    SNAPSHOTS,
    Snapshot,
    SnapshotError,
    all_snapshots,
    current,
    find,
    make_current,
    remove,
    verify,
)
from tasks.lock import while_held
from tasks.settings import Settings
from warehouse.store import Warehouse

log = logging.getLogger("locus.pipeline")


def roll_back(settings: Settings, name: str | None = None) -> Snapshot:
    """Make another snapshot the current one, after every byte of it was checked.

    Args:
        settings: the pipeline's settings.
        name: how its id or hash begins; None takes the newest one that is older than the current.

    Raises:
        SnapshotError: there is none, it is current already, or it is damaged; the current
            one stays.
    """
    now = current(settings.published)
    if name is None:
        kept = all_snapshots(settings.published)
        # Ids begin with the time.
        older = [one for one in kept if one.snapshot_id < now.snapshot_id]
        if not older:
            raise SnapshotError(
                f"no snapshot older than {now.snapshot_id} is kept: `locus snapshots list` shows "
                "what there is"
            )
        chosen = older[0]
    else:
        chosen = find(settings.published, name)
        if chosen.snapshot_id == now.snapshot_id:
            raise SnapshotError(f"snapshot {now.snapshot_id} is the current one already")
    chosen = verify(chosen.folder)
    # A run that has lost its lease must not switch what readers see.
    with while_held(settings):
        with Warehouse.open(settings.warehouse) as warehouse:
            active = warehouse.checkpoints.active()
            held = warehouse.snapshots.held(active["checkpoint_id"]) if active else None
            detail = {"from": now.snapshot_id, "holds": held}
            warehouse.audit("snapshot rollback", chosen.snapshot_id, detail)
        make_current(settings.published, chosen)
    log.info("snapshot %s is current; it was %s", chosen.snapshot_id, now.snapshot_id)
    return chosen


def prunable(settings: Settings, keep: int | None = None) -> list[Snapshot]:
    """Snapshots that `prune` would remove, the oldest first.

    Args:
        settings: the pipeline's settings.
        keep: how many of the newest stay, besides the current one and the one before it; None
            takes `keep_snapshots`.
    """
    kept = all_snapshots(settings.published)
    try:
        now = current(settings.published).snapshot_id
    except SnapshotError:
        return []  # without a current one nobody can say which may go
    before = [one.snapshot_id for one in kept if one.snapshot_id < now][:1]
    stays = {now, *before}
    stays |= {one.snapshot_id for one in kept[: settings.keep_snapshots if keep is None else keep]}
    return [one for one in reversed(kept) if one.snapshot_id not in stays]


def prune(settings: Settings, keep: int | None = None) -> list[str]:
    """Remove old snapshots; their rows stay in the warehouse.

    Returns:
        Ids of those that were removed, the oldest first.
    """
    for half in (settings.published / SNAPSHOTS).glob(f"{REMOVING}*"):
        shutil.rmtree(half, ignore_errors=True)
    removed = []
    for snapshot in prunable(settings, keep):
        remove(snapshot)
        removed.append(snapshot.snapshot_id)
    if removed:
        log.info("%d old snapshots are removed; %s is the newest", len(removed), removed[-1])
    return removed
