"""Budgets: the most that may be spent on asking models, in queries, tokens, money and minutes."""

from dataclasses import dataclass

from pydantic import ConfigDict, NonNegativeFloat, NonNegativeInt


@dataclass(frozen=True)
class Budget:
    """The most that may be spent; None is no limit.

    Attributes:
        queries: queries asked.
        tokens: tokens read and written.
        usd: US dollars.
        minutes: wall time.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    queries: NonNegativeInt | None = None
    tokens: NonNegativeInt | None = None
    usd: NonNegativeFloat | None = None
    minutes: NonNegativeFloat | None = None
