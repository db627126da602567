"""What a run did, or would do, in words and figures."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from locus.snapshots import Snapshot
from tasks.estimate import Expected
from tasks.evaluate import Evaluated
from tasks.markdown import line


class Ended(StrEnum):
    """How a model's evaluation ended; `locus.evaluation.failure` has the kinds of failure."""

    ANSWERED = "all asked"
    BUDGET = "a budget"
    FAILED = "failure"
    RESTING = "left alone"


@dataclass
class Outcome:
    """What a run did.

    Attributes:
        began: when it began (UTC).
        asked: queries that were asked.
        recorded: scores added.
        failed: models whose evaluation ended early, with the reason.
        stopped: models whose evaluation was ended by a budget, with the budget.
        resting: models that were left alone because they keep failing, with the reason.
        more: queries that placed models were asked beyond what every model is.
        canaries: canary queries that were asked.
        watched: models that were asked canaries.
        drifted: models that answer their canaries otherwise than they did, with the evidence.
        placed: models with a new embedding.
        trained: whether an encoder was trained.
        waiting: why nothing was placed and published though there is something; None otherwise.
        snapshot: what was published; None if nothing was new.
        dry_run: whether this was a rehearsal.
        plan: what was (or would be) asked and what that was expected to take, by model.
        canary_plan: the same of canaries.
        more_plan: the same of what placed models are asked more.
        over: limits of the run's budget that the plan would reach; of a rehearsal only.
        later: queries that would be chosen in later rounds, by the answers to these; of a
            rehearsal only.
        results: what came of each evaluation; one a model and round.
        canary_results: the same of canaries.
    """

    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    asked: int = 0
    recorded: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    stopped: dict[str, str] = field(default_factory=dict)
    resting: dict[str, str] = field(default_factory=dict)
    more: int = 0
    canaries: int = 0
    watched: list[str] = field(default_factory=list)
    drifted: dict[str, str] = field(default_factory=dict)
    placed: list[str] = field(default_factory=list)
    trained: bool = False
    waiting: str | None = None
    snapshot: Snapshot | None = None
    dry_run: bool = False
    plan: dict[str, Expected] = field(default_factory=dict)
    canary_plan: dict[str, Expected] = field(default_factory=dict)
    more_plan: dict[str, Expected] = field(default_factory=dict)
    over: list[str] = field(default_factory=list)
    later: int = 0
    results: list[Evaluated] = field(default_factory=list)
    canary_results: list[Evaluated] = field(default_factory=list)

    @property
    def nothing_new(self) -> bool:
        """Nobody was asked and nothing was published."""
        asked = self.plan or self.more_plan or self.asked
        return not (asked or self.waiting) and self.snapshot is None

    def ended(self, model_id: str) -> tuple[Ended, str]:
        """How a model ended, and why."""
        for how, found in (
            (Ended.FAILED, self.failed),
            (Ended.BUDGET, self.stopped),
            (Ended.RESTING, self.resting),
        ):
            if model_id in found:
                return how, found[model_id]
        return Ended.ANSWERED, ""

    def result_rows(self) -> list[dict[str, Any]]:
        """A row for each model that was to be asked, and each that was left alone."""
        asked = {one.model_id for one in (*self.results, *self.canary_results)}
        rows = []
        for model in sorted(asked | self.resting.keys()):
            mine = [one for one in self.results if one.model_id == model]
            canaries = [one for one in self.canary_results if one.model_id == model]
            how, why = self.ended(model)
            rows.append(
                {
                    "model": line(model),
                    "asked": sum(one.n_asked for one in mine),
                    "recorded": sum(one.n_recorded for one in mine),
                    "canaries": sum(one.n_asked for one in canaries),
                    "ended by": how.value,
                    "failure": ", ".join(
                        dict.fromkeys(one.kind.value for one in (*mine, *canaries) if one.kind)
                    ),
                    "because": line(why),
                }
            )
        return rows

    def headline(self) -> str:
        """The run in one line."""
        if self.dry_run:
            return self._rehearsed()
        tail = [f"asked {self.canaries} canary queries"] if self.canaries else []
        if self.drifted:
            tail.append(f"{len(self.drifted)} models have changed behind their address")
        if self.resting:
            tail.append(f"{len(self.resting)} models rest")
        if self.nothing_new:
            return ", ".join(
                ["nothing new: no model was asked anything, the published snapshot stays", *tail]
            )
        parts = [f"asked {self.asked} queries"] if self.asked or not self.more_plan else []
        if self.more_plan:
            parts.append(f"asked {self.more} more of {len(self.more_plan)} known models")
        parts.append(f"recorded {self.recorded} scores")
        if self.trained:
            parts.append("trained an encoder")
        if not self.waiting:
            parts.append(f"placed {len(self.placed)} models")
        if self.failed:
            parts.append(f"{len(self.failed)} models failed")
        if self.stopped:
            parts.append(f"a budget ended {len(self.stopped)} models")
        parts += tail
        parts.append(
            f"published {self.snapshot.snapshot_id}"
            if self.snapshot
            else self.waiting or "published nothing"
        )
        return ", ".join(parts)

    def _rehearsed(self) -> str:
        asked = sum(one.queries for one in self.plan.values())
        said = f"dry run: would ask {asked} queries of {len(self.plan)} models"
        if self.later:
            said += f", then {self.later} more, chosen by the answers"
        if self.canary_plan:
            canaries = sum(one.queries for one in self.canary_plan.values())
            said += f", and {canaries} canary queries of {len(self.canary_plan)} models"
        if self.more_plan:
            more = sum(one.queries for one in self.more_plan.values())
            said += f", and {more} more of {len(self.more_plan)} known models"
        plans = (self.plan, self.canary_plan, self.more_plan)
        if any(plans):
            said += f"; {in_words([one for plan in plans for one in plan.values()])}"
        if self.over:
            said += f"; the budget of {' and '.join(self.over)} would end it before"
        return said


def in_words(expected: list[Expected]) -> str:
    """What some plans are expected to take together, each unknown named."""
    tokens = sum(one.tokens_in + one.tokens_out for one in expected)
    parts = [f"about {tokens:,.0f} tokens"]
    for values, form, name in (
        ([one.usd for one in expected], "{:,.2f} US dollars", "price"),
        (
            [one.seconds and one.seconds / 60 for one in expected],
            "{:,.1f} minutes of asking",
            "time",
        ),
    ):
        known = [value for value in values if value is not None]
        missing = len(values) - len(known)
        if known:
            parts.append(form.format(sum(known)))
        if missing:
            parts.append(f"{name} unknown for {missing} of {len(values)} models")
    return ", ".join(parts)
