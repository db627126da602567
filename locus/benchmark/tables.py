"""Numbers and tables in Markdown."""

import math
from collections.abc import Sequence

Cells = Sequence[str]

NONE = "-"
"""Stands where there is no number."""


def number(value: float | None, digits: int = 3) -> str:
    """A number, or a dash where there is none."""
    return NONE if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def with_spread(mean: float | None, std: float | None) -> str:
    """Mean, and the standard deviation over seeds where there are several."""
    if std is None or not math.isfinite(std):
        return number(mean)
    return f"{number(mean)} ± {number(std)}"


def with_interval(value: float | None, low: float | None, high: float | None) -> str:
    """A value with its 95 % interval."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return number(value)
    return f"{number(value)} [{number(low)}, {number(high)}]"


def difference(value: float | None, low: float | None, high: float | None) -> str:
    """A difference with its 95 % interval, bold where the interval leaves out 0."""
    if value is None or low is None or high is None:
        return NONE
    if not (math.isfinite(value) and math.isfinite(low) and math.isfinite(high)):
        return NONE
    text = f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"
    return f"**{text}**" if low > 0 or high < 0 else text


def table(head: Cells, rows: Sequence[Cells]) -> list[str]:
    """Lines of a Markdown table; the first column is left-aligned, the others right."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def plain(text: str) -> str:
    """Text from outside that can't break a table, a link or a line."""
    kept = "".join(c for c in text if c.isprintable())
    for mark in "\\|`*_[]<>":
        kept = kept.replace(mark, " " if mark in "|`<>" else "\\" + mark)
    return kept
