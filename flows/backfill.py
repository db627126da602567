"""The flow that asks what is missing: all or some models, the configured tasks, nightly's code."""

import logging

from prefect import flow

from flows.add_model import with_budget
from flows.outcome import Outcome
from flows.pipeline import run_pipeline
from flows.seen import of_what, show
from locus.ids import model_id as valid_model_id
from tasks.lock import pipeline_lock
from tasks.settings import Settings, load_settings

log = logging.getLogger("locus.pipeline")


@flow(name="backfill", flow_run_name=of_what("backfill"), persist_result=False)
def backfill(
    models: list[str] | None = None,
    queries: int | None = None,
    dry_run: bool = False,
    wait_s: float = 600,
) -> Outcome:
    """Ask models what they have not answered of the configured tasks, place them and publish.

    For tasks that were added to the settings, and for more queries of models that are there. What
    was answered is not asked again; one that fails stops no other.

    Args:
        models: ids of the registry; all by default.
        queries: training queries to ask each in all, instead of the setting `new_model_queries`
            (`bootstrap_queries` while there is no map).
        dry_run: say what would be asked, and stop.
        wait_s: seconds to wait for another run to end.

    Raises:
        InvalidIdError: not a model id.
        NoEncoderError: some models, and no encoder was trained yet.
        PipelineBusyError: another run is still going on.
        RegistryError: a model is not in the registry; nobody is asked anything.
        SettingsError: fewer than two queries.
    """
    settings = load_settings()
    if queries is not None:
        settings = _more(settings, queries)
    with pipeline_lock(settings, wait_s):
        only = None if models is None else [valid_model_id(one) for one in models]
        outcome = run_pipeline(settings, only=only, may_train=models is None, dry_run=dry_run)
    show("backfill", outcome)
    return outcome


def _more(settings: Settings, queries: int) -> Settings:
    """The same settings with another number of training queries, before and after the first map."""
    settings = with_budget(settings, queries)
    asked = settings.evaluation.model_copy(update={"bootstrap_queries": queries})
    return settings.model_copy(update={"evaluation": asked})
