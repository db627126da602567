"""The one path through the pipeline, which `nightly` and `add_model` both take."""

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

from prefect.task_runners import ThreadPoolTaskRunner

from flows.deployments import register_evaluation
from flows.outcome import Outcome
from flows.seen import progress, show_plan, show_results
from locus.budget import Ledger
from locus.evaluation.backends import address
from tasks.canaries import canary_plan, check_drift
from tasks.discover import Discovered, discover_models, sync_catalogue
from tasks.embed import embed_models, has_map, train_if_needed
from tasks.encode import encode_queries
from tasks.estimate import Expected, expect
from tasks.evaluate import EVALUATION, Evaluated, evaluate_model
from tasks.gates import Canaries, gatekeeper
from tasks.heal import heal_interrupted
from tasks.more import left_of, plan_more
from tasks.plan import PlannedModel, plan_queries
from tasks.publish import is_behind, is_blocked, publish_snapshot
from tasks.rest import resting
from tasks.retrain import is_published
from tasks.score import score_pool
from tasks.settings import Settings
from warehouse.canaries import KIND as CANARY
from warehouse.store import Warehouse

log = logging.getLogger("locus.pipeline")


def run_pipeline(
    settings: Settings, *, only: Sequence[str] | None = None, may_train: bool, dry_run: bool = False
) -> Outcome:
    """Discover, plan, evaluate, record, encode, embed, score, publish.

    Plan, evaluate and record come round as long as a strategy wants to read answers before it
    chooses on (`evaluation.strategy` = adaptive); with any other, once. Then canaries are asked,
    and of a whole registry what `evaluation.more_queries` allows of models that are placed.

    Args:
        settings: the pipeline's settings.
        only: these models, also those that rest; None takes the whole registry.
        may_train: whether to train the first encoder.
        dry_run: say what would be asked and stop.

    Raises:
        NoEncoderError: there is no encoder and none may be trained.
    """
    heal_interrupted(settings)
    sync_catalogue(settings)
    models = discover_models(settings, only)
    say_what_is_not_named(settings, models)
    outcome = Outcome(dry_run=dry_run)
    if only is None:
        models = _awake(settings, models, outcome)
    if dry_run:
        planned, expected = _plan(settings, models, {}, outcome)
        show_plan(planned, expected)
        outcome.later = sum(p.plan.later for p in planned)
        _plan_canaries(settings, models, outcome)
        outcome.over = settings.evaluation.budget.exceeded_by(*_expected(settings, outcome))
        if only is None:
            _plan_more(settings, models, outcome, _expected(settings, outcome))
        return outcome
    ledger = Ledger(settings.evaluation.budget)
    asked: dict[str, list[str]] = {}
    in_this_round = models
    with progress(outcome, ledger):
        while (plan := _plan(settings, in_this_round, asked, outcome))[0]:
            planned, expected = plan
            show_plan(planned, expected)
            for result in _evaluate(settings, planned, expected, ledger):
                outcome.asked += result.n_asked
                outcome.recorded += result.n_recorded
                outcome.results.append(result)
                _note(result, outcome)
            ended = outcome.failed.keys() | outcome.stopped.keys()
            in_this_round = [
                p.model for p in planned if p.plan.later and p.model.spec.id not in ended
            ]
        well = [m for m in models if m.spec.id not in outcome.failed]
        _ask_canaries(settings, well, outcome, ledger)
        if only is None:
            _ask_more(settings, models, outcome, ledger)
    show_results(outcome)
    if outcome.stopped and not has_map(settings):
        # A map learned from what a budget left half done would be taken for the real one, and the
        # rest would never be asked.
        outcome.waiting = "the first map is learned once a budget lets all models be asked"
        log.warning("%s", outcome.waiting)
        return outcome
    place_and_publish(settings, outcome, may_train=may_train)
    return outcome


def say_what_is_not_named(settings: Settings, models: Sequence[Discovered]) -> None:
    """Whoever has just begun would otherwise see zeros and wonder."""
    if models and not settings.tasks:
        log.warning(
            "no model is asked anything: `tasks` in locus.toml names no task of lm-eval "
            "(`lm_eval ls tasks` lists them)"
        )
    if settings.tasks and not models:
        log.warning("nobody is asked: %s names no model (`locus models add`)", settings.models_file)
    if not settings.tasks and not models:
        log.info(
            "neither locus.toml names a task nor %s a model: nothing to ask", settings.models_file
        )


def _awake(settings: Settings, models: list[Discovered], outcome: Outcome) -> list[Discovered]:
    """Models but those that rest; the outcome takes these down."""
    with Warehouse.open(settings.warehouse) as warehouse:
        outcome.resting = resting(settings, warehouse, models)
    for model_id, why in outcome.resting.items():
        log.warning("%s: %s", model_id, why)
    return [model for model in models if model.spec.id not in outcome.resting]


def _plan(
    settings: Settings,
    models: list[Discovered],
    asked: dict[str, list[str]],
    outcome: Outcome,
) -> tuple[list[PlannedModel], dict[str, Expected]]:
    """One round's plan and what it is expected to take; ``asked`` and the outcome take it down.

    What was asked in an earlier round isn't asked again by this run, whatever came of it: a query
    that always fails must not make it go round for ever.
    """
    if not models:
        return [], {}
    planned = [p for p in plan_queries(settings, models, asked) if p.plan.n_queries]
    for one in planned:
        ids = [query for queries in one.plan.queries.values() for query in queries]
        asked.setdefault(one.model.spec.id, []).extend(ids)
    if not planned:
        return [], {}
    with Warehouse.open(settings.warehouse) as warehouse:
        expected = expect(warehouse, planned)
    for name, one_more in expected.items():
        before = outcome.plan.get(name)
        outcome.plan[name] = one_more if before is None else before + one_more
    return planned, expected


Taken = tuple[int, float, float | None, float | None]
"""Queries, tokens, US dollars and seconds that a run has taken, or will; None where unknown."""


def _expected(settings: Settings, outcome: Outcome) -> Taken:
    """What the plan of new models and canaries is expected to take."""
    expected = [*outcome.plan.values(), *outcome.canary_plan.values()]
    dollars = [one.usd for one in expected if one.usd is not None]
    seconds = [one.seconds for one in expected if one.seconds is not None]
    return (
        sum(one.queries for one in expected),
        sum(one.tokens_in + one.tokens_out for one in expected),
        sum(dollars) if dollars else None,
        sum(seconds) / settings.evaluation.parallel if seconds else None,
    )


def _evaluate(
    settings: Settings,
    planned: list[PlannedModel],
    expected: Mapping[str, Expected],
    ledger: Ledger,
    kind: str = EVALUATION,
) -> list[Evaluated]:
    hosts = Counter(_host(one) for one in planned)
    ask = settings.evaluation
    if ask.pool:
        register_evaluation(ask.pool)
    workers = min(len(planned), ask.pool_parallel if ask.pool else ask.parallel)
    with ThreadPoolTaskRunner[Evaluated](max_workers=workers) as runner:
        futures = [
            runner.submit(
                evaluate_model,
                {
                    "settings": settings,
                    "planned": one,
                    "expected": expected[one.model.spec.id],
                    "ledger": ledger,
                    "kind": kind,
                    "beside": min(workers, hosts[_host(one)]),
                },
            )
            for one in planned
        ]
        return [future.result() for future in futures]


def _host(planned: PlannedModel) -> str:
    """Host of the service that is asked; empty for a local model."""
    spec = planned.model.spec
    return urlsplit(address(spec.backend, spec.args) or "").netloc


def _note(result: Evaluated, outcome: Outcome) -> None:
    """Take down how the evaluation of a model ended."""
    if result.error:
        outcome.failed[result.model_id] = result.error
    if result.stopped:
        outcome.stopped[result.model_id] = result.stopped


def _plan_canaries(
    settings: Settings, models: list[Discovered], outcome: Outcome
) -> list[PlannedModel]:
    with Warehouse.open(settings.warehouse) as warehouse:
        planned = canary_plan(settings, warehouse, models)
        outcome.canary_plan = expect(warehouse, planned) if planned else {}
    show_plan(planned, outcome.canary_plan, key="canary-plan")
    return planned


def _ask_canaries(
    settings: Settings, models: list[Discovered], outcome: Outcome, ledger: Ledger
) -> None:
    """Ask each model its canaries and look for drift."""
    planned = _plan_canaries(settings, models, outcome)
    if not planned:
        return
    outcome.watched = [one.model.spec.id for one in planned]
    for result in _evaluate(settings, planned, outcome.canary_plan, ledger, CANARY):
        outcome.canaries += result.n_asked
        outcome.canary_results.append(result)
        _note(result, outcome)
    with Warehouse.open(settings.warehouse) as warehouse:
        for drift in check_drift(warehouse, [one.model for one in planned]):
            if drift.drifted:
                outcome.drifted[drift.model] = drift.said
                log.warning("%s: %s", drift.model, drift.said)


def _plan_more(
    settings: Settings, models: list[Discovered], outcome: Outcome, taken: Taken
) -> list[PlannedModel]:
    """What placed models are asked more, within what the run has left; the outcome takes it down.

    Not those that this run asks what every model is, nor those whose answers can't be relied on
    tonight.
    """
    if not settings.evaluation.more_queries:
        return []
    out = {*outcome.plan, *outcome.failed, *outcome.stopped, *outcome.drifted}
    left = left_of(settings.evaluation.budget, *taken)
    known = [model for model in models if model.spec.id not in out]
    if planned := plan_more(settings, known, left, outcome.canary_plan):
        with Warehouse.open(settings.warehouse) as warehouse:
            outcome.more_plan = expect(warehouse, planned)
    show_plan(planned, outcome.more_plan, key="more-plan")
    return planned


def _ask_more(
    settings: Settings, models: list[Discovered], outcome: Outcome, ledger: Ledger
) -> None:
    """Ask placed models more; last, so that new models and canaries come first."""
    passed = (datetime.now(UTC) - outcome.began).total_seconds()
    gone = ledger.spent
    planned = _plan_more(settings, models, outcome, (gone.queries, gone.tokens, gone.usd, passed))
    for result in _evaluate(settings, planned, outcome.more_plan, ledger) if planned else ():
        outcome.more += result.n_asked
        outcome.recorded += result.n_recorded
        outcome.results.append(result)
        _note(result, outcome)


def place_and_publish(
    settings: Settings,
    outcome: Outcome,
    *,
    may_train: bool,
    always: bool = False,
    accept: Collection[str] = (),
) -> None:
    """Encode, embed, score and publish what is stored; the outcome takes down what was done.

    Args:
        settings: the pipeline's settings.
        outcome: what the run did so far.
        may_train: whether to train the first encoder.
        always: publish even if nothing is new.
        accept: gates whose failure a person accepts, this once.

    Raises:
        GateFailedError: a gate keeps the old snapshot.
        UnknownGateError: there is no such gate to accept.
    """
    canaries = Canaries(outcome.watched, outcome.drifted)
    gate = gatekeeper(settings, since=outcome.began, canaries=canaries, accept=accept)
    encode_queries(settings)
    checkpoint_id, outcome.trained = train_if_needed(settings, may_train)
    outcome.placed = embed_models(settings, checkpoint_id)
    new = outcome.placed or outcome.trained or outcome.recorded
    # Nothing need be new after a rollback, or a night that a gate or a kill ended, and yet what is
    # published is not what there is.
    behind = (
        not is_published(settings, checkpoint_id)
        or is_blocked(settings.published)
        or is_behind(settings, checkpoint_id)
    )
    if not (always or new or behind):
        return
    score_pool(settings, checkpoint_id)
    outcome.snapshot = publish_snapshot(settings, checkpoint_id, gate)
