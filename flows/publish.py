"""The flow that publishes by hand: a new snapshot of what the warehouse holds now."""

from prefect import flow

from flows.pipeline import Outcome
from flows.seen import show
from tasks.embed import embed_models, train_if_needed
from tasks.encode import encode_queries
from tasks.lock import pipeline_lock
from tasks.publish import publish_snapshot
from tasks.score import score_pool
from tasks.settings import load_settings


@flow(name="publish", persist_result=False)
def publish(wait_s: float = 0) -> Outcome:
    """Encode, embed and score what is stored, and publish it; no model is asked anything.

    Args:
        wait_s: seconds to wait for another run to end.

    Raises:
        NotEnoughScoresError: nothing to train an encoder on.
        PipelineBusyError: another run is going on.
    """
    settings = load_settings()
    with pipeline_lock(settings, wait_s):
        encode_queries(settings)
        checkpoint_id, trained = train_if_needed(settings)
        placed = embed_models(settings, checkpoint_id)
        score_pool(settings, checkpoint_id)
        snapshot = publish_snapshot(settings, checkpoint_id)
    outcome = Outcome(placed=placed, trained=trained, snapshot=snapshot)
    show("publish", outcome)
    return outcome
