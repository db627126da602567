"""The flow that publishes by hand: a new snapshot of what the warehouse holds now."""

from prefect import flow

from flows.outcome import Outcome
from flows.pipeline import place_and_publish
from flows.seen import show, timed
from tasks.lock import pipeline_lock
from tasks.settings import load_settings


@flow(name="publish", flow_run_name=timed("publish"), persist_result=False)
def publish(wait_s: float = 0, accept: list[str] | None = None) -> Outcome:
    """Encode, embed and score what is stored, and publish it; no model is asked anything.

    Args:
        wait_s: seconds to wait for another run to end.
        accept: gates whose failure is accepted, this once.

    Raises:
        GateFailedError: a gate keeps the old snapshot.
        NotEnoughScoresError: nothing to train an encoder on.
        PipelineBusyError: another run is going on.
        UnknownGateError: there is no such gate to accept.
    """
    settings = load_settings()
    outcome = Outcome()
    with pipeline_lock(settings, wait_s):
        place_and_publish(settings, outcome, may_train=True, always=True, accept=accept or ())
    show("publish", outcome)
    return outcome
