"""Plan and evaluate: which queries to ask a model, and asking them in a process of its own."""

import logging
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE

from locus.encoding import encoder_identity
from locus.evaluation.backends import obstacle as can_not
from locus.evaluation.launch import EvaluationFailedError, Progress, evaluate
from locus.evaluation.request import Conditions, EvaluationRequest, Patience
from locus.ids import short_hash
from locus.selection import SPREAD, MapChooser, Plan, plan, plan_by_map, train_missing
from tasks.discover import Discovered
from tasks.lineage import git_sha, versions
from tasks.record import record_parts
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
    strategy if the map is one of factors. The map is loaded only if somebody needs queries.

    Args:
        settings: the pipeline's settings.
        models: whom to ask.
        asked: by model, queries that were asked already though the warehouse holds no answer.

    Raises:
        CheckpointError: the map can't be trusted.
    """
    ask, asked = settings.evaluation, asked or {}
    chooser = None
    with Warehouse.open(settings.warehouse) as warehouse:
        version = ["task", "task_version"]
        askable = warehouse.catalogue.tasks("lm-eval").select(*version, "output_type")
        bank = warehouse.catalogue.queries(columns=["query_id", "split", *version])
        bank = bank.join(askable, on=version)
        barred = {model.spec.id: _barred(model, askable) for model in models}
        answers = {}
        for model in models:
            answered = warehouse.scores.answered(model.spec.id, model.revision)
            ids = [*answered.filter(status="ok")["query_id"], *asked.get(model.spec.id, ())]
            answers[model.spec.id] = dict.fromkeys(ids, float("nan"))
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
            chooser = _chooser(settings, warehouse, active, bank)
            if ask.strategy == "adaptive":
                _fill_in(answers, warehouse.scores.training_scores(["train"], models=needy))
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
    if active is None:
        return f"{strategy!r} needs a map, and there is none yet"
    if active["encoder"] != encoder_identity(settings.encoder):
        return f"{strategy!r} needs a map of the sentence encoder in use, and there is none yet"
    # Read from the record, so that a map of another kind (and torch with it) isn't loaded.
    if (active["config"] or {}).get("method") != "factors":
        return f"{strategy!r} needs a map made by factors, and the present one is not"
    return None


def _chooser(
    settings: Settings, warehouse: Warehouse, active: Mapping[str, Any], bank: pl.DataFrame
) -> MapChooser:
    """The configured strategy on the active map.

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
        ask.strategy,
        model_map.placement,
        model_map.ids,
        dict(warehouse.catalogue.queries(columns=["query_id", "task"]).iter_rows()),
        active["n_models"],
        bank.filter(split="train")["query_id"].to_list(),
        seed=ask.seed,
        batch=ask.adaptive_batch,
    )


def _fill_in(answers: Mapping[str, dict[str, float]], scores: pl.DataFrame) -> None:
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


@dataclass(frozen=True)
class Evaluated:
    """What came of evaluating one model.

    Attributes:
        model_id: the model.
        n_recorded: scores added to the warehouse.
        error: why it ended early; None if it didn't.
    """

    model_id: str
    n_recorded: int
    error: str | None = None


@task(name="evaluate", task_run_name="evaluate-{planned.model.spec.id}", cache_policy=NO_CACHE)
def evaluate_model(settings: Settings, planned: PlannedModel) -> Evaluated:
    """Ask one model its queries and record every part that it finished.

    A failure of the model is a result, not an exception: it must not stop the others. Whatever
    was finished before it is kept.
    """
    spec, revision = planned.model.spec, planned.model.revision
    run_id = str(uuid.uuid4())
    request = _request(settings, planned, run_id)
    with Warehouse.open(settings.warehouse) as warehouse:
        warehouse.scores.start_run(
            run_id=run_id,
            kind="lm-eval",
            model_id=spec.id,
            revision=revision,
            settings={**request.settings(), **planned.lineage()},
            versions=versions(),
            git_sha=git_sha(),
            n_planned=request.n_queries,
        )

    def tell(progress: Progress) -> None:
        log.info("%s: %d of %d queries", spec.id, progress.done, progress.of)

    error = None
    try:
        parts = evaluate(
            request,
            settings.home / "runs" / run_id,
            timeout_s=60 * settings.evaluation.timeout_minutes,
            threads=max(1, (os.cpu_count() or 1) // settings.evaluation.parallel),
            on_progress=tell,
        )
    except EvaluationFailedError as failure:
        parts, error = failure.parts, failure.reason
        log.error("%s", failure)
    with Warehouse.open(settings.warehouse) as warehouse:
        recorded, refused = record_parts(warehouse, run_id, parts)
        error = error or refused
        warehouse.scores.finish_run(run_id, "failed" if error else "finished", error)
    return Evaluated(spec.id, recorded, error)


def _request(settings: Settings, planned: PlannedModel, run_id: str) -> EvaluationRequest:
    spec = planned.model.spec
    ask = settings.evaluation
    args = dict(spec.args)
    if spec.backend == "hf" and spec.local_folder is None:
        args["revision"] = planned.model.revision
    return EvaluationRequest(
        run_id=run_id,
        model_id=spec.id,
        revision=planned.model.revision,
        backend=spec.backend,
        args=args,
        queries=planned.plan.queries,
        # A folder per model and revision: parts outlive the run that wrote them.
        parts=str(settings.parts / short_hash(f"{spec.id}@{planned.model.revision}")),
        task_folders=[str(folder) for folder in settings.task_folders],
        patience=Patience(timeout_s=ask.request_timeout_seconds, attempts=ask.request_attempts),
        chunk_size=ask.chunk_size,
        batch_size=ask.batch_size,
        device=ask.device,
        prices=spec.price_list(),
        conditions=_conditions(settings, planned),
        rate=settings.rate_of(spec.args.get("base_url")),
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
