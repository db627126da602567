"""Budgets: the most that may be spent on asking models, in queries, tokens, money and minutes.

A run has one `Ledger`, and every model in it a `Purse`. A worker asks its purse how many queries it
may ask next; what they are expected to cost is set aside until it is known what they did cost, so
that models asked at the same time don't spend the same money twice.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from pydantic import ConfigDict, NonNegativeFloat, NonNegativeInt

# Queries asked first where tokens or money are limited and nothing is known of what one costs.
PROBE = 16


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

    def within(self, other: "Budget") -> "Budget":
        """This budget, with the other's limits where it has none."""
        mine = {name: value for name, value in vars(self).items() if value is not None}
        return replace(other, **mine)

    def exceeded_by(
        self, queries: int, tokens: float, usd: float | None, seconds: float | None
    ) -> list[str]:
        """Limits that would not do for so much, in words; what isn't known exceeds none."""
        minutes = None if seconds is None else seconds / 60
        wanted = {"queries": queries, "tokens": tokens, "usd": usd, "minutes": minutes}
        return [
            f"{limit:g} {name}"
            for name, limit in vars(self).items()
            if limit is not None and (much := wanted[name]) is not None and much > limit
        ]


@dataclass(frozen=True)
class Estimate:
    """What one query is expected to cost.

    Attributes:
        tokens: tokens read and written.
        usd: US dollars; None where there is no price.
        seconds: wall time; None where nothing is known.
        measured: whether it comes from this model's own answers, rather than from lengths of texts.
    """

    tokens: float
    usd: float | None = None
    seconds: float | None = None
    measured: bool = False


@dataclass(frozen=True)
class Spent:
    """What was spent.

    Attributes:
        queries: queries asked.
        tokens: tokens read and written, as far as they were counted.
        usd: US dollars, as far as prices are known.
    """

    queries: int = 0
    tokens: float = 0
    usd: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.queries + other.queries, self.tokens + other.tokens, self.usd + other.usd)

    def __sub__(self, other: "Spent") -> "Spent":
        return self + Spent(-other.queries, -other.tokens, -other.usd)


class Ledger:
    """What one run may spend on all models together. Purses may be used by several threads.

    Attributes:
        spent: what was spent so far.
    """

    def __init__(self, budget: Budget, clock: Callable[[], float] = time.monotonic) -> None:
        self.spent = Spent()
        self._budget = budget
        self._clock = clock
        self._started = clock()
        self._set_aside = Spent()
        self._purses: dict[str, Purse] = {}
        self._lock = threading.Lock()

    def purse(self, name: str, budget: Budget, estimate: Estimate) -> "Purse":
        """What one model may spend: its own budget, within what is left of all.

        One purse a model: what it has spent in an earlier round of this run counts.
        """
        with self._lock:
            purse = self._purses.get(name)
            if purse is None:
                purse = self._purses[name] = Purse(self, budget, estimate)
            return purse


class Purse:
    """What may still be spent on one model.

    Attributes:
        spent: what was spent on it so far.
        stopped: which limit ended it, one line; None as long as none did.
    """

    def __init__(self, ledger: Ledger, budget: Budget, estimate: Estimate) -> None:
        self.spent = Spent()
        self.stopped: str | None = None
        self._ledger = ledger
        self._budget = budget
        self._estimate = estimate
        self._started = ledger._clock()
        self._set_aside = Spent()
        self._busy_s = 0.0
        self._granted_at = self._started

    def may_ask(self) -> bool:
        """Whether anything at all may be asked: if not, no model need be loaded."""
        allowed = self.allow(1) > 0
        self.close()
        return allowed

    def allow(self, n: int) -> int:
        """How many of the next n queries may be asked; 0 ends the model's turn.

        What they are expected to cost is set aside until `settle` or `close`.
        """
        ledger = self._ledger
        with ledger._lock:
            allowed, why = n, ""
            limits = (
                (self._budget, self.spent + self._set_aside, self._started, "model"),
                (ledger._budget, ledger.spent + ledger._set_aside, ledger._started, "run"),
            )
            if self._estimate.usd is None and any(b.usd is not None for b, *_ in limits):
                self.stopped = (
                    "there is a budget in US dollars, and this service has no price: give it one "
                    "in models.yaml (0 if it costs nothing)"
                )
                return 0
            for budget, gone, began, whose in limits:
                for limit, left in self._left(budget, gone, began).items():
                    if left < allowed:
                        allowed, why = left, f"the {whose}'s budget of {limit} is spent"
            if allowed <= 0:
                self.stopped = why
                return 0
            limited = any(
                b.tokens is not None or b.usd is not None for b in (self._budget, ledger._budget)
            )
            if limited and not self._estimate.measured:
                allowed = min(allowed, PROBE)
            self._put_aside(allowed)
            self._granted_at = ledger._clock()
            return allowed

    def lent(self) -> tuple[Budget, Estimate]:
        """What the last `allow` set aside, for a worker that can't ask here chunk by chunk.

        Returns:
            That as a budget of its own, with limits where there are any here, its minutes those
            that are left; and what one query is expected to cost.
        """
        ledger = self._ledger
        with ledger._lock:
            kept, each = self._set_aside, self._estimate
            both = ((self._budget, self._started), (ledger._budget, ledger._started))
            minutes = [
                max(0.0, budget.minutes - (ledger._clock() - began) / 60)
                for budget, began in both
                if budget.minutes is not None
            ]
            # A sum of floats must not fall short of its last query.
            return Budget(
                queries=kept.queries,
                tokens=math.ceil(kept.tokens)
                if any(budget.tokens is not None for budget, _ in both)
                else None,
                usd=kept.usd * (1 + 1e-9)
                if any(budget.usd is not None for budget, _ in both)
                else None,
                minutes=min(minutes, default=None),
            ), each

    def settle(self, spent: Spent) -> None:
        """Take down what the queries that were allowed last have cost.

        The estimate follows what is measured.
        """
        ledger = self._ledger
        with ledger._lock:
            self._release()
            self.spent += spent
            ledger.spent += spent
            self._busy_s += ledger._clock() - self._granted_at
            if self.spent.queries:
                n = self.spent.queries
                self._estimate = Estimate(
                    tokens=self.spent.tokens / n,
                    usd=None if self._estimate.usd is None else self.spent.usd / n,
                    seconds=self._busy_s / n,
                    measured=True,
                )

    def close(self) -> None:
        """Give back what is still set aside: the worker has ended."""
        with self._ledger._lock:
            self._release()

    def _left(self, budget: Budget, gone: Spent, began: float) -> dict[str, int]:
        """By limit how many queries it leaves."""
        left: dict[str, int] = {}
        each = self._estimate
        if budget.queries is not None:
            left[f"{budget.queries} queries"] = budget.queries - gone.queries
        if budget.tokens is not None:
            left[f"{budget.tokens} tokens"] = _fit(budget.tokens - gone.tokens, each.tokens)
        if budget.usd is not None:
            left[f"{budget.usd:g} US dollars"] = _fit(budget.usd - gone.usd, each.usd)
        if budget.minutes is not None:
            seconds = 60 * budget.minutes - (self._ledger._clock() - began)
            left[f"{budget.minutes:g} minutes"] = _fit(seconds, each.seconds)
        return left

    def _put_aside(self, n: int) -> None:
        expected = Spent(n, n * self._estimate.tokens, n * (self._estimate.usd or 0.0))
        self._set_aside = expected
        self._ledger._set_aside += expected

    def _release(self) -> None:
        self._ledger._set_aside -= self._set_aside
        self._set_aside = Spent()


def _fit(left: float, each: float | None) -> int:
    """How many of a cost fit into what is left; what costs nothing fits without end."""
    if left <= 0:
        return 0
    return int(min(left / each, 2**31)) if each else 2**31
