"""More: what placed models are asked beyond what all are, where it tells most.

docs/design/more-questions.md says why, and what it was measured to be worth.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE

from locus.budget import Budget
from locus.evaluation.backends import SERVICES
from locus.selection import SPREAD, Known, MapChooser, Plan
from tasks.canaries import ONCE_A_NIGHT
from tasks.discover import Discovered
from tasks.estimate import Expected, expect
from tasks.plan import PlannedModel, asked_so_far, fill_in, lack_of_map, map_chooser
from tasks.settings import Settings
from warehouse.store import Warehouse

log = logging.getLogger("locus.pipeline")

BY = "expected information"
"""Who gave a model its share; recorded with the run, followed by the strategy that then chose."""


@task(name="plan-more", cache_policy=NO_CACHE)
def plan_more(
    settings: Settings,
    models: Sequence[Discovered],
    left: Budget,
    taken: Mapping[str, Expected] | None = None,
    *,
    at: datetime | None = None,
) -> list[PlannedModel]:
    """Choose what placed models are asked beyond what every model is.

    `more_queries` a night go where they lower the mean predictive variance over the bank most, per
    US dollar if every model has a price, else per query; nobody gets more than `new_model_queries`
    of them, and none are asked that are worth less than `more_min_gain`. Which queries a model is
    asked, the configured strategy chooses (stratified in place of spread), among training queries
    of the active map's bank that it has not answered and that its backend can be asked.

    Args:
        settings: the pipeline's settings.
        models: whom to ask; those that have answered nothing in the bank are left out.
        left: what the run may still spend on all of them.
        taken: by model, what this run has taken (or would take) of its own budget already.
        at: the time it is (UTC); now by default.

    Raises:
        CheckpointError: the map can't be trusted.
    """
    ask = settings.evaluation
    if ask.more_queries == 0 or not models:
        return []
    with Warehouse.open(settings.warehouse) as warehouse:
        active = warehouse.checkpoints.active()
        lacking = lack_of_map(settings, active)
        if active is None or lacking:
            log.info("more: no placed model is asked more: that needs %s", lacking)
            return []
        n = ask.more_queries - _asked_tonight(warehouse, at or datetime.now(UTC))
        n = n if left.queries is None else min(n, left.queries)
        if n <= 0:
            log.info("more: no placed model is asked more: tonight's queries are spent")
            return []
        bank, barred, answers = asked_so_far(settings, warehouse, models, {})
        fill_in(answers, warehouse.scores.training_scores(["train"], models=list(answers)))
        placed = [m for m in models if not np.isnan(list(answers[m.spec.id].values())).all()]
        train = bank.filter(split="train")
        for model_id, names in barred.items():
            closed = train.filter(pl.col("task").is_in(list(names)))["query_id"]
            answers[model_id] = dict.fromkeys(closed, np.nan) | answers[model_id]
        every = _everything(train, placed, answers)
        expected = expect(warehouse, every)
        known = [
            one
            for plan in every
            if (one := _known(settings, plan, answers, expected, left, taken or {}))
        ]
        if not known:
            return []
        strategy = "stratified" if ask.strategy == SPREAD else ask.strategy
        chooser = map_chooser(settings, strategy, warehouse, active, bank)
        found = _choose(settings, chooser, known, n, left)
    checkpoint_id = str(active["checkpoint_id"])
    task_of = dict(train.select("query_id", "task").iter_rows())
    planned = []
    for model in placed:
        if ids := found.get(model.spec.id):
            queries: dict[str, list[str]] = {}
            for query in sorted(ids):
                queries.setdefault(task_of[query], []).append(query)
            chosen_by = {f"{BY}, {strategy}": len(ids)}
            plan = Plan(dict(sorted(queries.items())), len(ids), 0, chosen_by=chosen_by)
            planned.append(PlannedModel(model, plan, checkpoint_id))
            log.info("more: %s: %d training queries by %s", model.spec.id, len(ids), *chosen_by)
    total = sum(one.plan.n_queries for one in planned)
    log.info("more: %d queries to ask %d of %d placed models", total, len(planned), len(placed))
    return planned


def left_of(
    budget: Budget, queries: float, tokens: float, usd: float | None, seconds: float | None
) -> Budget:
    """What a budget has left when so much of it is spent; what isn't known took nothing."""
    return Budget(
        queries=_less(budget.queries, queries),
        tokens=_less(budget.tokens, tokens),
        usd=None if budget.usd is None else max(0.0, budget.usd - (usd or 0.0)),
        minutes=None if budget.minutes is None else max(0.0, budget.minutes - (seconds or 0) / 60),
    )


def _less(limit: int | None, spent: float) -> int | None:
    return None if limit is None else max(0, int(limit - spent))


def _asked_tonight(warehouse: Warehouse, at: datetime) -> int:
    """More queries that were planned within the night: a second run must not double them."""
    runs = warehouse.scores.runs().filter(pl.col("started_at") > at - ONCE_A_NIGHT)
    chosen = [json.loads(text or "{}").get("chosen_by") or {} for text in runs["settings"]]
    return sum(int(n) for one in chosen for who, n in one.items() if who.startswith(BY))


def _everything(
    train: pl.DataFrame,
    models: Sequence[Discovered],
    answers: Mapping[str, Mapping[str, float]],
) -> list[PlannedModel]:
    """All that each model could still be asked: its cost is told by the mean of it."""
    found = []
    for model in models:
        done = pl.Series(list(answers[model.spec.id]), dtype=pl.String).implode()
        rows = train.filter(~pl.col("query_id").is_in(done))
        queries = dict(rows.group_by("task").agg("query_id").sort("task").iter_rows())
        found.append(PlannedModel(model, Plan(queries, rows.height, 0)))
    return found


def _known(
    settings: Settings,
    every: PlannedModel,
    answers: Mapping[str, Mapping[str, float]],
    expected: Mapping[str, Expected],
    left: Budget,
    taken: Mapping[str, Expected],
) -> Known | None:
    """A model as the choice sees it; None if nothing more can be asked of it."""
    ask, spec = settings.evaluation, every.model.spec
    each = expected[spec.id].each()
    # A model that runs here costs no money if nobody says that it does; a service may.
    usd = 0.0 if each.usd is None and spec.backend not in SERVICES else each.usd
    own = spec.budget.within(ask.model_budget)
    if usd is None and (left.usd is not None or own.usd is not None):
        log.info("more: %s is not asked more: it has no price, and there is a budget", spec.id)
        return None
    if before := taken.get(spec.id):
        own = left_of(
            own, before.queries, before.tokens_in + before.tokens_out, before.usd, before.seconds
        )
    most = min(ask.new_model_queries, every.plan.n_queries)
    needs = (each.tokens, usd or 0.0, each.seconds or 0.0)
    limits = (own.tokens, own.usd, None if own.minutes is None else 60 * own.minutes)
    for limit, need in zip((own.queries, *limits), (1.0, *needs), strict=True):
        if limit is not None and need > 0:
            most = min(most, int(limit / need))
    if most <= 0:
        return None
    return Known(spec.id, answers[spec.id], most, each.usd, needs)


def _choose(
    settings: Settings, chooser: MapChooser, known: Sequence[Known], n: int, left: Budget
) -> dict[str, list[str]]:
    """The choice within what is left of tokens, US dollars and time."""
    ask = settings.evaluation
    seconds = None if left.minutes is None else 60 * left.minutes * ask.parallel
    limits = [np.inf if limit is None else limit for limit in (left.tokens, left.usd, seconds)]
    # A model is loaded for every block: a handful would cost more in loading than it tells.
    return chooser.more(known, n, block=ask.adaptive_batch, least=ask.more_min_gain, left=limits)
