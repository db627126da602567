"""What a benchmark of speed says: two sides timed in turns, and the ratio of their medians.

What belongs here: the words and the arithmetic. Each module beside this one makes the rows of one
subject; nothing here asserts anything.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median
from typing import Any

Say = Callable[[str], None]


class Size(StrEnum):
    """How much is measured: ``quick`` shows that it runs, ``full`` is what figures come from."""

    QUICK = "quick"
    FULL = "full"


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
        label: what ran.
        seconds: wall time of every repetition.
        work: units of work in one repetition (rows, queries, models, 1 for a whole job).
        unit: what one unit of work is.
        peak_mb: peak resident memory of the process that ran it, in MB; None if not measured.
    """

    label: str
    seconds: tuple[float, ...]
    work: float = 1.0
    unit: str = "job"
    peak_mb: float | None = None

    @property
    def median_s(self) -> float:
        """Median wall time of a repetition, in seconds."""
        return median(self.seconds)

    @property
    def per_second(self) -> float:
        """Units of work a second, at the median."""
        return self.work / self.median_s


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: what is measured, with its size.
        ours: the pipeline's side.
        peer: what it is compared with; None where there is only a limit in words.
        goal: what was aimed at, in words.
        notes: further figures by name, JSON values.
    """

    what: str
    ours: Side
    peer: Side | None
    goal: str
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """How many times as fast as the peer, per unit of work; above 1 is faster."""
        return None if self.peer is None else self.ours.per_second / self.peer.per_second


def in_turns(
    ours: Callable[[], object], peer: Callable[[], object], repeats: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Time both, one after the other, so that a busy moment of the machine meets both.

    Args:
        ours: one repetition of our side.
        peer: one repetition of the other.
        repeats: how often; a first one of each, not timed, warms caches.

    Returns:
        Wall seconds of every repetition, ours and the peer's.
    """
    ours(), peer()
    sides: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for run, seconds in zip((ours, peer), sides, strict=True):
            seconds.append(timed(run))
    return tuple(sides[0]), tuple(sides[1])


def timed(run: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def growth(sizes: Mapping[float, float]) -> float:
    """Exponent with which time grows with size: slope of log time over log size, least squares.

    Args:
        sizes: seconds by size; two sizes at least.
    """
    import numpy as np

    slope, _ = np.polyfit(np.log(list(sizes)), np.log(list(sizes.values())), 1)
    return float(slope)
