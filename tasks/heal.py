"""Heal: what a killed run left behind is finished before anything new is asked."""

import logging
import shutil
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from locus.evaluation.request import EvaluationRequest
from tasks.record import record_parts
from tasks.settings import Settings
from warehouse.store import Warehouse

log = logging.getLogger("locus.pipeline")


@task(name="heal", cache_policy=NO_CACHE)
def heal_interrupted(settings: Settings) -> int:
    """Close evaluation runs that nobody runs any more and record the parts they finished.

    The caller holds the pipeline's lock, so a run that is still open belongs to a dead process.

    Returns:
        Scores recorded.
    """
    for half in _half_built(settings):
        shutil.rmtree(half, ignore_errors=True)
    recorded = 0
    with Warehouse.open(settings.warehouse) as warehouse:
        for run_id in warehouse.scores.open_runs():
            request_path = settings.home / "runs" / run_id / "request.json"
            if request_path.exists():
                parts = Path(EvaluationRequest.read(request_path).parts)
                added, _ = record_parts(warehouse, run_id, sorted(parts.glob("*.parquet")))
                recorded += added
            warehouse.scores.finish_run(run_id, "failed", "interrupted")
            log.warning("run %s was interrupted; its finished parts are kept", run_id)
    return recorded


def _half_built(settings: Settings) -> list[Path]:
    """Private folders that a killed build left behind."""
    parents = (settings.published / "snapshots", settings.checkpoints, settings.home / "catalogue")
    return [half for parent in parents if parent.is_dir() for half in parent.glob(".building-*")]
