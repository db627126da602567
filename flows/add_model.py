"""The flow for one model: ask it a sample of queries and place it, without retraining."""

from prefect import flow

from flows.pipeline import Outcome, run_pipeline
from flows.seen import show
from locus.ids import model_id as valid_model_id
from tasks.lock import pipeline_lock
from tasks.settings import load_settings


@flow(name="add-model", flow_run_name="add-model-{model_id}", persist_result=False)
def add_model(model_id: str, dry_run: bool = False, wait_s: float = 600) -> Outcome:
    """Evaluate one model of the registry on sampled queries, place it and publish.

    Args:
        model_id: its id in `models.yaml`.
        dry_run: say what would be asked, and stop.
        wait_s: seconds to wait for another run to end.

    Raises:
        InvalidIdError: not a model id.
        NoEncoderError: no encoder was trained yet.
        PipelineBusyError: another run is still going on.
        RegistryError: the model is not in the registry.
    """
    settings = load_settings()
    with pipeline_lock(settings, wait_s):
        outcome = run_pipeline(
            settings, only=valid_model_id(model_id), may_train=False, dry_run=dry_run
        )
    show("add-model", outcome)
    return outcome
