"""What a run did, or would do, in words and figures."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from locus.snapshots import Snapshot
from tasks.estimate import Expected


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
        over: limits of the run's budget that the plan would reach; of a rehearsal only.
        later: queries that would be chosen in later rounds, by the answers to these; of a
            rehearsal only.
    """

    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    asked: int = 0
    recorded: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    stopped: dict[str, str] = field(default_factory=dict)
    resting: dict[str, str] = field(default_factory=dict)
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
    over: list[str] = field(default_factory=list)
    later: int = 0

    @property
    def nothing_new(self) -> bool:
        """Nobody was asked and nothing was published."""
        return not (self.plan or self.asked or self.waiting) and self.snapshot is None

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
        parts = [f"asked {self.asked} queries", f"recorded {self.recorded} scores"]
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
        if self.plan or self.canary_plan:
            said += f"; {in_words([*self.plan.values(), *self.canary_plan.values()])}"
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
