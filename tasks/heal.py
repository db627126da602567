"""Heal: what a killed run left behind is finished before anything new is asked."""

import logging
import shutil
from pathlib import Path
from uuid import UUID

from prefect import task
from prefect.cache_policies import NO_CACHE

from locus.durable import remove_leftovers
from locus.evaluation.request import EvaluationRequest
from locus.snapshots import CURRENT, SnapshotError, all_snapshots, current
from locus.storage import StorageAddressError, StorageError
from tasks.changed import DIGESTS
from tasks.freshness import LAST_NIGHT
from tasks.lock import note_file
from tasks.pool import fetch_left, forget
from tasks.record import record_parts
from tasks.settings import Settings
from tasks.unfinished import half_made
from warehouse.store import Warehouse

log = logging.getLogger("locus.pipeline")


@task(name="heal", cache_policy=NO_CACHE)
def heal_interrupted(settings: Settings) -> int:
    """Close evaluation runs that nobody runs any more and record the parts they finished.

    The caller holds the pipeline, so a run that is still open belongs to a process that is dead, or
    that was taken for dead and can write no more.

    Returns:
        Scores recorded.

    Raises:
        LeaseLostError: the caller lost the pipeline; nothing is touched.
    """
    recorded = 0
    with Warehouse.open(settings.warehouse) as warehouse:
        # Only while the warehouse is open: what lies there now is no other run's that goes on.
        for half in [*half_made(settings), *_unpublished(settings, warehouse)]:
            shutil.rmtree(half, ignore_errors=True)
        notes = (settings.home / LAST_NIGHT, settings.home / DIGESTS, note_file(settings))
        for file in (settings.published / CURRENT, *notes):
            if file.parent.is_dir():
                remove_leftovers(file)
        for run_id in warehouse.scores.open_runs():
            request_path = settings.home / "runs" / run_id / "request.json"
            if request_path.parent.is_dir():
                remove_leftovers(request_path)
            if request_path.exists():
                request = EvaluationRequest.read(request_path)
                try:
                    fetch_left(settings, run_id, request)
                except (StorageError, StorageAddressError) as error:
                    log.warning(
                        "run %s stays open, its answers lie in storage: %s; to give them up, "
                        "remove %s", run_id, error, request_path,
                    )  # fmt: skip
                    continue
                parts = Path(request.parts)
                added, _ = record_parts(warehouse, run_id, sorted(parts.glob("*.parquet")))
                recorded += added
                forget(settings, run_id, request)
            warehouse.scores.finish_run(run_id, "failed", "interrupted")
            log.warning("run %s was interrupted; its finished parts are kept", run_id)
    return recorded


def close_flow_run(flow_run_id: str, why: str) -> bool:
    """Mark a flow run as crashed that Prefect takes for running, though its process is dead.

    Does nothing outside of a flow run: there is no server then, or none that is worth starting.

    Args:
        flow_run_id: the dead run's.
        why: what it says of it.

    Returns:
        Whether it was marked. That it couldn't be is no reason to stop; it is logged.
    """
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
    from prefect.runtime import flow_run
    from prefect.states import Crashed

    if not flow_run.get_id():
        return False
    try:
        with get_client(sync_client=True) as client:
            found = client.read_flow_run(UUID(flow_run_id))
            if found.state is None or found.state.is_final():
                return False
            client.set_flow_run_state(found.id, Crashed(message=why), force=True)
    except ObjectNotFound:
        return False  # another server's
    except (httpx.HTTPError, PrefectHTTPStatusError, ValueError) as error:
        log.warning("flow run %s couldn't be marked as crashed: %s", flow_run_id, error)
        return False
    log.warning("flow run %s is marked as crashed: %s", found.name, why)
    return True


def _unpublished(settings: Settings, warehouse: Warehouse) -> list[Path]:
    """Snapshots that were sealed by a run that was killed before the gates let them through.

    Nobody may go back to one of these. Older ones that the warehouse doesn't know are left: they
    are those of a warehouse that a backup has replaced.
    """
    known = set(warehouse.snapshots.list()["snapshot_id"])
    try:
        now = current(settings.published).snapshot_id
    except SnapshotError:
        now = ""
    # Ids begin with the time.
    return [
        one.folder
        for one in all_snapshots(settings.published)
        if one.snapshot_id not in known and one.snapshot_id > now
    ]
