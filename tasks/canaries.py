"""Canaries: the same few queries every night, so that a change behind an address is seen.

Planned here, asked like any evaluation, recorded in a table of their own, and held against the
nights before. docs/design/canaries.md says why.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import polars as pl

from locus.drift import Answer, Drift, Night, drift
from locus.evaluation.backends import SERVICES
from locus.selection import Plan, spread_order
from tasks.discover import Discovered
from tasks.plan import PlannedModel
from tasks.settings import Settings
from warehouse.store import Warehouse

log = logging.getLogger("locus.pipeline")

CHOSEN_BY = "canary"
"""Who chose the queries, as it is recorded with the run."""

ONCE_A_NIGHT = timedelta(hours=20)
"""A model is asked again after this long: a second run of one night asks nothing, and a run that
starts an hour earlier than yesterday's is no second run."""


def canary_plan(
    settings: Settings,
    warehouse: Warehouse,
    models: Sequence[Discovered],
    *,
    at: datetime | None = None,
) -> list[PlannedModel]:
    """Whom to ask which canaries now.

    A version of a model that has a baseline is asked that baseline's queries; any other as many
    training queries as the settings say that it has answered with status ok, in the spread order.

    Args:
        settings: the pipeline's settings.
        warehouse: open.
        models: models to look after.
        at: the time it is (UTC); now by default.

    Returns:
        Only models that are asked something: not those whose canaries were answered within
        `ONCE_A_NIGHT`, nor those that have answered nothing yet.
    """
    due = [m for m in models if _watched(settings, m) and _is_due(warehouse, m, at)]
    if not due:
        return []
    version = ["task", "task_version"]
    askable = warehouse.catalogue.tasks("lm-eval").select(version)
    bank = warehouse.catalogue.queries(columns=["query_id", "split", *version])
    bank = bank.join(askable, on=version)
    planned = []
    for model in due:
        rows = _queries(settings, warehouse, model, bank)
        if rows.is_empty():
            log.info("canaries: %s has answered nothing to ask again yet", model.spec.id)
            continue
        by_task = rows.group_by("task").agg(pl.col("query_id").sort()).sort("task")
        queries = dict(by_task.iter_rows())
        plan = Plan(queries, rows.height, 0, chosen_by={CHOSEN_BY: rows.height})
        planned.append(PlannedModel(model, plan))
    n = sum(p.plan.n_queries for p in planned)
    log.info("canaries: %d queries to ask %d of %d models", n, len(planned), len(models))
    return planned


def _watched(settings: Settings, model: Discovered) -> bool:
    """Whether the settings want canaries of a model."""
    which = settings.evaluation.canaries
    return which == "all" or (which == "services" and model.spec.backend in SERVICES)


def _is_due(warehouse: Warehouse, model: Discovered, at: datetime | None) -> bool:
    last = warehouse.canaries.last_asked(model.spec.id, model.revision)
    return last is None or (at or datetime.now(UTC)) - last >= ONCE_A_NIGHT


def _queries(
    settings: Settings, warehouse: Warehouse, model: Discovered, bank: pl.DataFrame
) -> pl.DataFrame:
    """Rows of the bank that are a model's canaries."""
    fixed = warehouse.canaries.asked(model.spec.id, model.revision)
    if fixed:
        return bank.filter(pl.col("query_id").is_in(fixed))
    answered = warehouse.scores.answered(model.spec.id, model.revision).filter(status="ok")
    known = pl.col("query_id").is_in(answered["query_id"].implode())
    return spread_order(bank.filter(known, split="train")).head(settings.evaluation.canary_queries)


def check_drift(warehouse: Warehouse, models: Sequence[Discovered]) -> list[Drift]:
    """Hold each model's latest canaries against the nights before.

    Returns:
        What is found, of every model that has a baseline.
    """
    found = []
    for model in models:
        nights = _nights(warehouse.canaries.history(model.spec.id, model.revision))
        if not nights:
            continue
        one = drift(model.spec.id, nights)
        if not one.drifted:
            log.info("canaries: %s: %s", one.model, one.said)
        found.append(one)
    return found


def _nights(history: pl.DataFrame) -> list[Night]:
    """Rows of `Canaries.history`, night by night."""
    nights: dict[str, dict[str, Answer]] = {}
    columns = ("run_id", "query_id", "status", "score", "response_sha256")
    for run, query, status, score, text in history.select(columns).iter_rows():
        nights.setdefault(run, {})[query] = Answer(status, score, text)
    return list(nights.values())
