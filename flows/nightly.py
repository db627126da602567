"""The nightly flow: bring everything up to date and publish what is new."""

from datetime import UTC, datetime

from prefect import flow

from flows.outcome import Outcome
from flows.pipeline import run_pipeline
from flows.seen import show, timed
from tasks.freshness import note_night
from tasks.lock import pipeline_lock
from tasks.notify import Kind, notify
from tasks.settings import Settings, load_settings


@flow(name="nightly", flow_run_name=timed("nightly"), persist_result=False)
def nightly(dry_run: bool = False, wait_s: float = 0) -> Outcome:
    """Evaluate what is new, place it, publish; ask nobody anything twice.

    How it ended is noted, for whoever asks how fresh the data is; models that failed and models
    that have changed behind their address are told to people, once a night.

    Args:
        dry_run: say what would be asked, and stop.
        wait_s: seconds to wait for another run to end.

    Raises:
        GateFailedError: a gate keeps the old snapshot.
        PipelineBusyError: another run is going on.
    """
    settings = load_settings()
    with pipeline_lock(settings, wait_s):
        began = datetime.now(UTC)
        try:
            outcome = run_pipeline(settings, may_train=True, dry_run=dry_run)
        except Exception as error:
            if not dry_run:
                note_night(settings, str(error), False, datetime.now(UTC), began)
            raise
        if not dry_run:
            note_night(settings, outcome.headline(), True, datetime.now(UTC), began)
    show("nightly", outcome)
    _tell(settings, outcome)
    return outcome


def _tell(settings: Settings, outcome: Outcome) -> None:
    told: tuple[tuple[Kind, str, dict[str, str]], ...] = (
        ("models-failed", "evaluation of {} model(s) failed", outcome.failed),
        ("drift", "{} model(s) changed behind their address", outcome.drifted),
    )
    for kind, subject, found in told:
        if found:
            body = "\n".join(f"{model}: {why}" for model, why in sorted(found.items()))
            notify(settings.notify, kind, f"LOCUS: {subject.format(len(found))}", body)
