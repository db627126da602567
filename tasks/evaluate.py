"""Plan and evaluate: which queries to ask a model, and asking them in a process of its own."""

import logging
import os
import uuid
from dataclasses import dataclass

from prefect import task
from prefect.cache_policies import NO_CACHE

from locus.evaluation.launch import EvaluationFailedError, Progress, evaluate
from locus.evaluation.request import EvaluationRequest
from locus.ids import short_hash
from locus.selection import Plan, plan
from tasks.discover import Discovered
from tasks.lineage import git_sha, versions
from tasks.record import record_parts
from tasks.settings import Settings
from warehouse.store import Warehouse

log = logging.getLogger("locus.pipeline")


@dataclass(frozen=True)
class PlannedModel:
    """A model and what it will be asked."""

    model: Discovered
    plan: Plan


@task(name="plan", cache_policy=NO_CACHE)
def plan_queries(settings: Settings, models: list[Discovered]) -> list[PlannedModel]:
    """Choose what each model is asked; what it has answered is not asked again.

    While there is no encoder, models are asked enough to train one (`bootstrap_queries`); once
    there is one, a model needs only `new_model_queries` to be placed.
    """
    ask = settings.evaluation
    with Warehouse.open(settings.warehouse) as warehouse:
        version = ["task", "task_version"]
        askable = warehouse.catalogue.tasks("lm-eval").select(version)
        bank = warehouse.catalogue.queries(columns=["query_id", "split", *version])
        bank = bank.join(askable, on=version, how="semi")
        placed = warehouse.checkpoints.active() is not None
        planned = []
        for model in models:
            answered = warehouse.scores.answered(model.spec.id, model.revision)
            planned.append(
                PlannedModel(
                    model,
                    plan(
                        bank,
                        answered.filter(status="ok")["query_id"],
                        n_train=ask.new_model_queries if placed else ask.bootstrap_queries,
                        n_val=0 if placed else None,
                        n_test=ask.test_queries,
                    ),
                )
            )
    missing = sum(p.plan.n_queries for p in planned)
    log.info(
        "plan: %d queries to ask %d of %d models",
        missing,
        sum(p.plan.n_queries > 0 for p in planned),
        len(planned),
    )
    return planned


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
            settings=request.settings(),
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
        chunk_size=ask.chunk_size,
        batch_size=ask.batch_size,
        device=ask.device,
        price_in_usd_per_mtok=spec.price_in_usd_per_mtok,
        price_out_usd_per_mtok=spec.price_out_usd_per_mtok,
    )
