"""The flow for one model: ask it a sample of queries and place it, without retraining."""

from prefect import flow

from flows.outcome import Outcome
from flows.pipeline import run_pipeline
from flows.seen import of_what, show
from locus.ids import model_id as valid_model_id
from tasks.embed import has_map
from tasks.lock import pipeline_lock
from tasks.settings import Settings, SettingsError, load_settings


@flow(name="add-model", flow_run_name=of_what("add-model"), persist_result=False)
def add_model(
    model_id: str,
    revision: str | None = None,
    dry_run: bool = False,
    wait_s: float = 600,
    queries: int | None = None,
) -> Outcome:
    """Evaluate one model of the registry on sampled queries, place it and publish.

    Args:
        model_id: its id in `models.yaml`.
        revision: the revision that was announced, if an event started this; what is evaluated is
            the revision that the registry has now.
        dry_run: say what would be asked, and stop.
        wait_s: seconds to wait for another run to end.
        queries: training queries to ask in all, instead of the setting `new_model_queries`; what
            was asked before counts, so a larger number later asks the missing ones only.

    Raises:
        InvalidIdError: not a model id.
        NoEncoderError: no encoder was trained yet.
        PipelineBusyError: another run is still going on.
        RegistryError: the model is not in the registry.
        SettingsError: fewer than two queries.
    """
    settings = load_settings()
    if queries is not None:
        settings = with_budget(settings, queries)
    with pipeline_lock(settings, wait_s):
        if revision is not None and not has_map(settings):
            # Nobody waits for this run, so that is no failure of it.
            outcome = Outcome(waiting=f"there is no map yet: the next nightly asks {model_id} too")
        else:
            outcome = run_pipeline(
                settings, only=[valid_model_id(model_id)], may_train=False, dry_run=dry_run
            )
    show("add-model", outcome)
    return outcome


def with_budget(settings: Settings, queries: int) -> Settings:
    """The same settings with another number of training queries for a new model.

    Raises:
        SettingsError: fewer than two queries: a place takes some.
    """
    if queries < 2:
        raise SettingsError(f"{queries} queries can't place a model: ask 2 or more")
    asked = settings.evaluation.model_copy(update={"new_model_queries": queries})
    return settings.model_copy(update={"evaluation": asked})
