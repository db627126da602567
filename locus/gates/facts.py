"""What gates judge, what they say, and the error that ends a run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from locus.gates.settings import GATES, Level

Floats = NDArray[np.floating[Any]]

Found = tuple[str, bool, float | None, float | None, str]
"""Of one gate: name, whether it passed, value, limit, reason."""

FIRST = "there is no snapshot before this one"
"""Why a gate that needs a parent passes without one."""


@dataclass(frozen=True)
class Holds:
    """What a snapshot holds.

    Attributes:
        snapshot_id: its id.
        checkpoint_id: the map behind it.
        models: published models.
        answers: scored answers: model_id, task, n.
        routed: the row ``routed`` of its routing quality, or None.
    """

    snapshot_id: str
    checkpoint_id: str
    models: frozenset[str]
    answers: pl.DataFrame
    routed: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Beside:
    """Candidate and parent on the same queries, judged by the same answers.

    Attributes:
        right_T: score of the model that the candidate chooses, on held-out queries.
        right_parent_T: the same of the parent; equal lengths.
        moved: of each model in both, the root mean square change of its P(correct) over the
            reference queries.
        unsure: of each, how unsure its place was, in the same unit; NaN where unknown.
        n_reference: reference queries.
        n_changed: those whose best model, of the models in both, is another.
    """

    right_T: Floats
    right_parent_T: Floats
    moved: Mapping[str, float] = field(default_factory=dict)
    unsure: Mapping[str, float] = field(default_factory=dict)
    n_reference: int = 0
    n_changed: int = 0


@dataclass(frozen=True)
class Asked:
    """What one model was asked in this run.

    Attributes:
        n: queries.
        without: those that ended without an answer.
    """

    n: int
    without: int


@dataclass(frozen=True)
class Watched:
    """Models whose canaries were asked.

    Attributes:
        n: how many.
        drifted: those that changed, and had not when the parent was published.
    """

    n: int = 0
    drifted: Sequence[str] = ()


@dataclass(frozen=True)
class GateResult:
    """How one gate ended.

    Attributes:
        name: the gate.
        passed: whether the candidate is within the limit.
        value: what was measured; None where there was nothing to measure.
        limit: what it was held against.
        reason: what was found, in words; of a failure, with the next step.
        level: what a failure means.
        accepted: whether a person has accepted a failure.
    """

    name: str
    passed: bool
    value: float | None
    limit: float | None
    reason: str
    level: Level = "block"
    accepted: bool = False

    @property
    def blocks(self) -> bool:
        """Whether the snapshot must not be published."""
        return not self.passed and self.level == "block" and not self.accepted

    @property
    def verdict(self) -> str:
        """One word: passed, blocked, warned or accepted."""
        if self.passed:
            return "passed"
        if self.accepted:
            return "accepted"
        return "blocked" if self.level == "block" else "warned"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "verdict": self.verdict}


class GateFailedError(RuntimeError):
    """A snapshot that was not published; the message names gates, values, limits and next step."""

    def __init__(self, results: Sequence[GateResult], snapshot_id: str, kept: Path) -> None:
        """Take what the gates said.

        Args:
            results: all results.
            snapshot_id: the candidate.
            kept: where it lies now.
        """
        super().__init__(tuple(results), snapshot_id, kept)
        self.results = tuple(results)
        self.snapshot_id = snapshot_id
        self.kept = kept

    @property
    def failed(self) -> list[GateResult]:
        """The gates that block."""
        return [one for one in self.results if one.blocks]

    def __str__(self) -> str:
        said = "; ".join(f"gate {one.name}: {one.reason}" for one in self.failed)
        names = [one.name for one in self.failed if one.name in GATES]
        accept = " ".join(f"--accept {name}" for name in names)
        step = f"Look at {self.kept / 'similarity' / 'report.html'}"
        if len(names) == len(self.failed):
            step += f"; if it is right: `locus publish {accept}`"
        return f"snapshot {self.snapshot_id} is not published, the old one stays: {said}. {step}"
