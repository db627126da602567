"""Plan: which queries to ask each model; what it has answered is not asked again."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE

from locus.evaluation.backends import obstacle as can_not
from locus.selection import SPREAD, MapChooser, Plan, plan, plan_by_map, train_missing
from tasks.discover import Discovered
from tasks.settings import Settings
from warehouse.store import Warehouse

log = logging.getLogger("locus.pipeline")


@dataclass(frozen=True)
class PlannedModel:
    """A model and what it will be asked.

    Attributes:
        model: the model.
        plan: its queries.
        checkpoint_id: the map that a strategy chose by; None if none was read.
    """

    model: Discovered
    plan: Plan
    checkpoint_id: str | None = None

    def lineage(self) -> dict[str, object]:
        """Who chose the training queries, as it is recorded with the run."""
        return {"chosen_by": self.plan.chosen_by, "chosen_by_checkpoint": self.checkpoint_id}


@task(name="plan", cache_policy=NO_CACHE)
def plan_queries(
    settings: Settings,
    models: list[Discovered],
    asked: Mapping[str, Sequence[str]] | None = None,
) -> list[PlannedModel]:
    """Choose what each model is asked; what it has answered is not asked again.

    While there is no encoder, models are asked enough to train one (`bootstrap_queries`); once
    there is one, a model needs only `new_model_queries` to be placed, chosen by the configured
    strategy if the map is one of factors. The map is loaded only if somebody needs queries. A query
    that got no answer in `attempts` runs is given up for this version of the model.

    Args:
        settings: the pipeline's settings.
        models: whom to ask.
        asked: by model, queries that were asked already though the warehouse holds no answer.

    Raises:
        CheckpointError: the map can't be trusted.
    """
    ask = settings.evaluation
    chooser = None
    with Warehouse.open(settings.warehouse) as warehouse:
        bank, barred, answers = asked_so_far(settings, warehouse, models, asked or {})
        active = warehouse.checkpoints.active()
        obstacle = _obstacle(settings, active)
        needy = [
            model
            for model, scores in answers.items()
            if obstacle is None
            and not barred[model]
            and train_missing(bank, scores, ask.new_model_queries)
        ]
        if active is not None and needy:
            chooser = map_chooser(settings, ask.strategy, warehouse, active, bank)
            if ask.strategy == "adaptive":
                fill_in(answers, warehouse.scores.training_scores(["train"], models=needy))
    planned = []
    for model in models:
        scores = answers[model.spec.id]
        if active is not None and chooser is not None and model.spec.id in needy:
            by_map = plan_by_map(
                bank, model.spec.id, scores, chooser,
                n_train=ask.new_model_queries, n_test=ask.test_queries,
            )  # fmt: skip
            planned.append(PlannedModel(model, by_map, str(active["checkpoint_id"])))
            continue
        # Whom a map could choose for and who isn't needy has the training queries already. A map
        # knows nothing of what one model alone can't be asked: there the spread order chooses.
        no = barred[model.spec.id]
        n_new = ask.new_model_queries if obstacle or no else 0
        by_spread = plan(
            bank.filter(~pl.col("task").is_in(list(no))),
            scores,
            n_train=ask.bootstrap_queries if active is None else n_new,
            n_val=None if active is None else 0,
            n_test=ask.test_queries,
        )
        planned.append(PlannedModel(model, by_spread))
    _tell(planned, obstacle)
    for model_id, reasons in barred.items():
        for name, why in reasons.items():
            log.info("plan: %s is not asked task %r: %s", model_id, name, why)
    return planned


def asked_so_far(
    settings: Settings,
    warehouse: Warehouse,
    models: Sequence[Discovered],
    asked: Mapping[str, Sequence[str]],
) -> tuple[pl.DataFrame, dict[str, dict[str, str]], dict[str, dict[str, float]]]:
    """What can be asked, and what is settled.

    Args:
        settings: the pipeline's settings.
        warehouse: open.
        models: whom to ask.
        asked: by model, queries that were asked already though the warehouse holds no answer.

    Returns:
        The bank (query_id, task, split, ...); by model the tasks that it can't be asked, with the
        reason; and by model the queries that this version of it is not to be asked again, with NaN
        for a score.
    """
    version = ["task", "task_version"]
    askable = warehouse.catalogue.tasks("lm-eval").select(*version, "output_type")
    bank = warehouse.catalogue.queries(columns=["query_id", "split", *version])
    answers = {}
    for model in models:
        answered = warehouse.scores.answered(model.spec.id, model.revision)
        settled = (pl.col("status") == "ok") | (pl.col("tries") >= settings.evaluation.attempts)
        ids = [*answered.filter(settled)["query_id"], *asked.get(model.spec.id, ())]
        answers[model.spec.id] = dict.fromkeys(ids, float("nan"))
    barred = {model.spec.id: _barred(model, askable) for model in models}
    return bank.join(askable, on=version), barred, answers


def _barred(model: Discovered, tasks: pl.DataFrame) -> dict[str, str]:
    """Tasks that this model's backend can't be asked, with the reason."""
    reasons = {
        name: can_not(model.spec.backend, model.spec.args, output_type)
        for name, output_type in tasks.select("task", "output_type").iter_rows()
    }
    return {name: why for name, why in reasons.items() if why is not None}


def _obstacle(settings: Settings, active: Mapping[str, Any] | None) -> str | None:
    """Why the spread order chooses instead of the configured strategy; None if nothing does."""
    strategy = settings.evaluation.strategy
    if strategy == SPREAD:
        return "the settings say so"
    lacking = lack_of_map(settings, active)
    return lacking and f"{strategy!r} needs {lacking}"


def lack_of_map(settings: Settings, active: Mapping[str, Any] | None) -> str | None:
    """What keeps anybody from choosing by the active map; None if nothing does."""
    if active is None:
        return "a map, and there is none yet"
    if active["encoder"] != settings.encoder_identity:
        return "a map of the sentence encoder in use, and there is none yet"
    # Read from the record, so that a map of another kind (and torch with it) isn't loaded.
    if (active["config"] or {}).get("method") != "factors":
        return "a map made by factors, and the present one is not"
    return None


def map_chooser(
    settings: Settings,
    strategy: str,
    warehouse: Warehouse,
    active: Mapping[str, Any],
    bank: pl.DataFrame,
) -> MapChooser:
    """A strategy on the active map.

    Raises:
        CheckpointError: the map can't be trusted, or is not one of factors.
    """
    from locus.embedding import checkpoint
    from locus.embedding.maps import FactorMap

    ask = settings.evaluation
    folder = settings.checkpoints / str(active["checkpoint_id"])
    model_map = checkpoint.load(folder, str(active["encoder"])).map
    if not isinstance(model_map, FactorMap):
        raise checkpoint.CheckpointError(
            f"checkpoint {folder} is recorded as one of factors but is of the kind "
            f"{model_map.kind!r}: restore it from a backup, or train anew"
        )
    return MapChooser(
        strategy,
        model_map.placement,
        model_map.ids,
        dict(warehouse.catalogue.queries(columns=["query_id", "task"]).iter_rows()),
        active["n_models"],
        bank.filter(split="train")["query_id"].to_list(),
        seed=ask.seed,
        batch=ask.adaptive_batch,
    )


def fill_in(answers: Mapping[str, dict[str, float]], scores: pl.DataFrame) -> None:
    """Put the scores of what this version of each model has answered to its answers."""
    for model, query, score in scores.select("model_id", "query_id", "score").iter_rows():
        if query in answers[model]:
            answers[model][query] = score


def _tell(planned: Sequence[PlannedModel], obstacle: str | None) -> None:
    """Log who is asked how much, and who chose it."""
    for one in planned:
        if one.plan.n_queries:
            chosen = [f"{n} training queries by {who}" for who, n in one.plan.chosen_by.items()]
            chosen += [f"{one.plan.later} more by its answers"] if one.plan.later else []
            detail = ", ".join(chosen) or "no training queries"
            log.info("plan: %s: %d queries; %s", one.model.spec.id, one.plan.n_queries, detail)
    if obstacle and any(SPREAD in one.plan.chosen_by for one in planned):
        log.info("plan: training queries are chosen by the spread order: %s", obstacle)
    log.info(
        "plan: %d queries to ask %d of %d models",
        sum(p.plan.n_queries for p in planned),
        sum(p.plan.n_queries > 0 for p in planned),
        len(planned),
    )
