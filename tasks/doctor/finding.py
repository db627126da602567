"""One thing that was looked at, and how it is."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How an item is: as it should be, worth knowing, or in need of somebody's hand."""

    ok = "ok"
    warning = "warning"
    broken = "broken"


@dataclass(frozen=True)
class Finding:
    """What was found of one item.

    Attributes:
        item: what was looked at.
        state: how it is.
        said: in words.
        next_step: what to do about it; empty where nothing need be done.
    """

    item: str
    state: State
    said: str
    next_step: str = ""


def ok(item: str, said: str) -> Finding:
    """Found in order."""
    return Finding(item, State.ok, said)


def warning(item: str, said: str, next_step: str = "") -> Finding:
    """Worth knowing; runs go on."""
    return Finding(item, State.warning, said, next_step)


def broken(item: str, said: str, next_step: str) -> Finding:
    """Needs a hand."""
    return Finding(item, State.broken, said, next_step)


def some(names: list[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
