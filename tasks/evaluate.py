"""Evaluate: asking models their queries, each in a process of its own, within a budget.

That process is here, or on another machine where `[evaluation] pool` names a work pool.
"""

import logging
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run

from locus.budget import Estimate, Ledger, Purse
from locus.evaluation.backends import SERVICES, address
from locus.evaluation.failure import Failure
from locus.evaluation.launch import EvaluationFailedError, Progress, evaluate
from locus.evaluation.request import Conditions, EvaluationRequest, Patience, Rate
from locus.ids import short_hash
from tasks.estimate import Expected
from tasks.lineage import git_sha, versions
from tasks.lock import raise_if_lost
from tasks.logs import log_ids
from tasks.markdown import run_name, versioned
from tasks.plan import PlannedModel
from tasks.pool import evaluate_in_pool, forget
from tasks.record import record_parts
from tasks.settings import Settings
from warehouse.store import Warehouse

log = logging.getLogger("locus.pipeline")


EVALUATION = "lm-eval"


@dataclass(frozen=True)
class Evaluated:
    """What came of evaluating one model.

    Attributes:
        model_id: the model.
        n_asked: queries that were asked.
        n_recorded: answers added to the warehouse.
        error: why it ended early; None if it didn't.
        stopped: which budget ended it; None if none did.
        kind: what kind of failure it was; None if it was none.
    """

    model_id: str
    n_asked: int
    n_recorded: int
    error: str | None = None
    stopped: str | None = None
    kind: Failure | None = None


def _run_name() -> str:
    """Such as ``evaluate-org/name@1a2b3c``, and ``canary-...`` of canaries."""
    given = task_run.get_parameters()
    model = given["planned"].model
    what = "evaluate" if given["kind"] == EVALUATION else given["kind"]
    return run_name(what, versioned(model.spec.id, model.revision))


@task(name="evaluate", task_run_name=_run_name, cache_policy=NO_CACHE)
def evaluate_model(
    settings: Settings,
    planned: PlannedModel,
    expected: Expected,
    ledger: Ledger,
    kind: str = EVALUATION,
    beside: int = 1,
) -> Evaluated:
    """Ask one model its queries and record every part that it finished.

    A failure of the model is a result, not an exception: it must not stop the others. Whatever
    was finished before it is kept.

    Args:
        settings: the pipeline's settings.
        planned: the model and its queries.
        expected: what they are expected to take.
        ledger: what this run may spend on all models.
        kind: EVALUATION, or `warehouse.canaries.KIND`, whose answers are kept apart.
        beside: models of the same provider that are asked at the same time, this one included;
            they share its rate limit.
    """
    run_id = str(uuid.uuid4())
    with log_ids(run_id=run_id, model_id=planned.model.spec.id, revision=planned.model.revision):
        return _evaluate(settings, planned, expected, ledger, kind, beside, run_id)


def _evaluate(
    settings: Settings,
    planned: PlannedModel,
    expected: Expected,
    ledger: Ledger,
    kind: str,
    beside: int,
    run_id: str,
) -> Evaluated:
    """`evaluate_model` as the run of this id."""
    spec, revision = planned.model.spec, planned.model.revision
    budget = spec.budget.within(settings.evaluation.model_budget)
    purse = ledger.purse(spec.id, budget, _free_if_local(expected.each(), spec.backend))
    with Warehouse.open(settings.warehouse) as warehouse:
        places = _places(warehouse, planned)
        request = _request(settings, planned, run_id, kind, beside, places)
        warehouse.scores.start_run(
            run_id=run_id,
            kind=kind,
            model_id=spec.id,
            revision=revision,
            settings={
                **request.settings(),
                **planned.lineage(),
                "examples": _examples(warehouse, request),
            },
            versions=versions(),
            git_sha=git_sha(),
            n_planned=request.n_queries,
        )

    spent_before = purse.spent.queries

    def tell(progress: Progress) -> None:
        # Ends the worker too: what it asks on would be asked by the run that took over.
        raise_if_lost(settings)
        left = "" if progress.remaining_s is None else f", {_duration(progress.remaining_s)} left"
        log.info("%s: %d of %d queries%s", spec.id, progress.done, progress.of, left)

    parts, error, kind_of_failure = [], None, None
    try:
        if purse.may_ask():
            parts = _asked(settings, request, purse, tell)
    except EvaluationFailedError as failure:
        parts, error, kind_of_failure = failure.parts, failure.reason, failure.kind
        log.error("%s", failure)
    with Warehouse.open(settings.warehouse) as warehouse:
        recorded, refused = record_parts(warehouse, run_id, parts)
        if refused and not error:
            error, kind_of_failure = refused, Failure.ANSWERS
        stopped = None if error else purse.stopped
        if stopped:
            log.warning("%s: %s; what was answered is kept", spec.id, stopped)
        warehouse.scores.finish_run(run_id, "failed" if error else "finished", error or stopped)
    forget(settings, run_id, request)
    asked = purse.spent.queries - spent_before
    return Evaluated(spec.id, asked, recorded, error, stopped, kind_of_failure)


def _asked(
    settings: Settings, request: EvaluationRequest, purse: Purse, tell: Callable[[Progress], None]
) -> list[Path]:
    """Ask a model, here or by a pool; the parts that were finished.

    Raises:
        EvaluationFailedError: not everything was answered.
        LeaseLostError: the pipeline is another's.
    """
    ask = settings.evaluation
    if ask.pool:
        return evaluate_in_pool(settings, request, purse, tell, partial(raise_if_lost, settings))
    return evaluate(
        request,
        settings.home / "runs" / request.run_id,
        timeout_s=60 * ask.timeout_minutes,
        threads=max(1, (os.cpu_count() or 1) // ask.parallel),
        on_progress=tell,
        purse=purse,
        memory_gb=ask.memory_gb,
    )


def _places(warehouse: Warehouse, planned: PlannedModel) -> dict[str, int]:
    """Where the planned queries stood among their task's documents, as far as that was noted."""
    ids = [query for queries in planned.plan.queries.values() for query in queries]
    rows = warehouse.catalogue.queries(ids=ids, columns=["query_id", "source_id"])
    return {q: int(place) for q, place in rows.iter_rows() if place and place.isdecimal()}


def _examples(warehouse: Warehouse, request: EvaluationRequest) -> dict[str, int | None]:
    """Examples before a question, by task: as the settings say, else as the task says."""
    said = dict(warehouse.catalogue.tasks("lm-eval").select("task", "num_fewshot").iter_rows())
    own = request.conditions.num_fewshot
    return {task: own.get(task, said.get(task)) for task in request.queries}


def _free_if_local(each: Estimate, backend: str) -> Estimate:
    """A model that runs here costs no money if nobody says that it does; a service may."""
    return each if each.usd is not None or backend in SERVICES else replace(each, usd=0.0)


def _duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _request(
    settings: Settings,
    planned: PlannedModel,
    run_id: str,
    kind: str,
    beside: int,
    places: dict[str, int],
) -> EvaluationRequest:
    spec = planned.model.spec
    ask = settings.evaluation
    return EvaluationRequest(
        run_id=run_id,
        model_id=spec.id,
        revision=planned.model.revision,
        backend=spec.backend,
        args=spec.backend_args(),
        queries=planned.plan.queries,
        places=places,
        # A folder per model and revision: parts outlive the run that wrote them. What a canary
        # answers stands in for nothing, so it is found by its own run only.
        parts=str(
            settings.parts / short_hash(f"{spec.id}@{planned.model.revision}")
            if kind == EVALUATION
            else settings.home / "canaries" / run_id
        ),
        task_folders=[str(folder) for folder in settings.task_folders],
        patience=Patience(timeout_s=ask.request_timeout_seconds, attempts=ask.request_attempts),
        chunk_size=ask.chunk_size,
        batch_size=ask.batch_size,
        device=ask.device,
        prices=spec.price_list(),
        conditions=_conditions(settings, planned),
        rate=_share(settings.rate_of(address(spec.backend, spec.args)), beside),
        trusted_code=f"{spec.id}@{planned.model.revision}" in ask.trusted_code,
    )


def _conditions(settings: Settings, planned: PlannedModel) -> Conditions:
    """How this model is asked; of the tasks only those that it is asked."""
    own = {name: settings.task_settings.get(name) for name in planned.plan.queries}
    return Conditions(
        chat_template=planned.model.spec.chat_template,
        system_instruction=planned.model.spec.system_instruction,
        num_fewshot={n: o.num_fewshot for n, o in own.items() if o and o.num_fewshot is not None},
        metrics={n: o.metric for n, o in own.items() if o and o.metric is not None},
    )


def _share(rate: Rate, beside: int) -> Rate:
    """One model's share of a provider's rate limit."""
    limits = (rate.requests_per_minute, rate.tokens_per_minute)
    return Rate(*(None if limit is None else limit / beside for limit in limits))
