"""Going back to a snapshot, and removing old ones, one run at a time."""

from locus.snapshots import Snapshot
from tasks.lock import pipeline_lock
from tasks.settings import load_settings
from tasks.snapshots import prunable, roll_back
from tasks.snapshots import prune as remove_old


def rollback(name: str | None = None, wait_s: float = 0) -> Snapshot:
    """Make another snapshot the current one; nothing is computed.

    Args:
        name: how its id or hash begins; None takes the one before the current.
        wait_s: seconds to wait for another run to end.

    Raises:
        PipelineBusyError: another run is going on.
        SnapshotError: there is none, it is current already, or it is damaged.
    """
    settings = load_settings()
    with pipeline_lock(settings, wait_s):
        return roll_back(settings, name)


def prune(keep: int | None = None, dry_run: bool = False, wait_s: float = 0) -> list[str]:
    """Remove old snapshots, never the current one nor the one before it.

    Args:
        keep: how many of the newest stay; None takes the settings' `keep_snapshots`.
        dry_run: only say which would go.
        wait_s: seconds to wait for another run to end.

    Returns:
        Their ids, the oldest first.

    Raises:
        PipelineBusyError: another run is going on.
    """
    settings = load_settings()
    if dry_run:
        return [one.snapshot_id for one in prunable(settings, keep)]
    with pipeline_lock(settings, wait_s):
        return remove_old(settings, keep)
