"""The nightly flow: bring everything up to date and publish what is new."""

from prefect import flow

from flows.outcome import Outcome
from flows.pipeline import run_pipeline
from flows.seen import show
from tasks.lock import pipeline_lock
from tasks.settings import load_settings


@flow(name="nightly", persist_result=False)
def nightly(dry_run: bool = False, wait_s: float = 0) -> Outcome:
    """Evaluate what is new, place it, publish; ask nobody anything twice.

    Args:
        dry_run: say what would be asked, and stop.
        wait_s: seconds to wait for another run to end.

    Raises:
        PipelineBusyError: another run is going on.
    """
    settings = load_settings()
    with pipeline_lock(settings, wait_s):
        outcome = run_pipeline(settings, may_train=True, dry_run=dry_run)
    show("nightly", outcome)
    return outcome
