"""The one path through the pipeline, which `nightly` and `add_model` both take."""

import logging
from dataclasses import dataclass, field

from prefect.task_runners import ThreadPoolTaskRunner

from locus.snapshots import Snapshot
from tasks.discover import Discovered, discover_models, sync_catalogue
from tasks.embed import embed_models, train_if_needed
from tasks.encode import encode_queries
from tasks.evaluate import Evaluated, PlannedModel, evaluate_model, plan_queries
from tasks.heal import heal_interrupted
from tasks.publish import parent_snapshot, publish_snapshot
from tasks.score import score_pool
from tasks.settings import Settings

log = logging.getLogger("locus.pipeline")


@dataclass
class Outcome:
    """What a run did.

    Attributes:
        asked: queries that were planned.
        recorded: scores added.
        failed: models whose evaluation ended early, with the reason.
        placed: models with a new embedding.
        trained: whether an encoder was trained.
        snapshot: what was published; None if nothing was new.
        dry_run: whether this was a rehearsal.
        plan: queries that were (or would be) asked, by model.
        later: queries that would be chosen in later rounds, by the answers to these; of a
            rehearsal only.
    """

    asked: int = 0
    recorded: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    placed: list[str] = field(default_factory=list)
    trained: bool = False
    snapshot: Snapshot | None = None
    dry_run: bool = False
    plan: dict[str, int] = field(default_factory=dict)
    later: int = 0

    @property
    def nothing_new(self) -> bool:
        """Nobody was asked and nothing was published."""
        return not self.asked and self.snapshot is None

    def headline(self) -> str:
        """The run in one line."""
        if self.dry_run:
            now = f"dry run: would ask {self.asked} queries of {len(self.plan)} models"
            return f"{now}, then {self.later} more, chosen by the answers" if self.later else now
        if self.nothing_new:
            return "nothing new: no model was asked anything, the published snapshot stays"
        parts = [f"asked {self.asked} queries", f"recorded {self.recorded} scores"]
        if self.trained:
            parts.append("trained an encoder")
        parts.append(f"placed {len(self.placed)} models")
        if self.failed:
            parts.append(f"{len(self.failed)} models failed")
        parts.append(
            f"published {self.snapshot.snapshot_id}" if self.snapshot else "published nothing"
        )
        return ", ".join(parts)


def run_pipeline(
    settings: Settings, *, only: str | None = None, may_train: bool, dry_run: bool = False
) -> Outcome:
    """Discover, plan, evaluate, record, encode, embed, score, publish.

    Plan, evaluate and record come round as long as a strategy wants to read answers before it
    chooses on (`evaluation.strategy` = adaptive); with any other, once.

    Args:
        settings: the pipeline's settings.
        only: one model id; None takes the whole registry.
        may_train: whether to train the first encoder.
        dry_run: say what would be asked and stop.

    Raises:
        NoEncoderError: there is no encoder and none may be trained.
    """
    heal_interrupted(settings)
    sync_catalogue(settings)
    models = discover_models(settings, only)
    outcome = Outcome(dry_run=dry_run)
    if dry_run:
        planned = _plan(settings, models, {}, outcome)
        outcome.later = sum(p.plan.later for p in planned)
        return outcome
    asked: dict[str, list[str]] = {}
    while planned := _plan(settings, models, asked, outcome):
        for result in _evaluate(settings, planned):
            outcome.recorded += result.n_recorded
            if result.error:
                outcome.failed[result.model_id] = result.error
        models = [
            p.model for p in planned if p.plan.later and p.model.spec.id not in outcome.failed
        ]
    place_and_publish(settings, outcome, may_train=may_train)
    return outcome


def _plan(
    settings: Settings,
    models: list[Discovered],
    asked: dict[str, list[str]],
    outcome: Outcome,
) -> list[PlannedModel]:
    """One round's plan, empty without models; ``asked`` and the outcome take it down.

    What was asked in an earlier round isn't asked again by this run, whatever came of it: a query
    that always fails must not make it go round for ever.
    """
    if not models:
        return []
    planned = [p for p in plan_queries(settings, models, asked) if p.plan.n_queries]
    for one in planned:
        name, plan = one.model.spec.id, one.plan
        asked.setdefault(name, []).extend(q for ids in plan.queries.values() for q in ids)
        outcome.plan[name] = outcome.plan.get(name, 0) + plan.n_queries
        outcome.asked += plan.n_queries
    return planned


def _evaluate(settings: Settings, planned: list[PlannedModel]) -> list[Evaluated]:
    with ThreadPoolTaskRunner[Evaluated](max_workers=settings.evaluation.parallel) as runner:
        futures = [
            runner.submit(evaluate_model, {"settings": settings, "planned": one}) for one in planned
        ]
        return [future.result() for future in futures]


def place_and_publish(
    settings: Settings, outcome: Outcome, *, may_train: bool, always: bool = False
) -> None:
    """Encode, embed, score and publish what is stored; the outcome takes down what was done.

    Args:
        settings: the pipeline's settings.
        outcome: what the run did so far.
        may_train: whether to train the first encoder.
        always: publish even if nothing is new.
    """
    encode_queries(settings)
    checkpoint_id, outcome.trained = train_if_needed(settings, may_train)
    outcome.placed = embed_models(settings, checkpoint_id)
    new = outcome.placed or outcome.trained or outcome.recorded
    if not (always or new or parent_snapshot(settings.published) is None):
        return
    score_pool(settings, checkpoint_id)
    outcome.snapshot = publish_snapshot(settings, checkpoint_id)
