"""When the next request may be sent: how many are in flight, pauses, and limits of a minute.

What belongs here: waiting for one's turn. What is sent, and what an answer means, is the business
of `locus.evaluation.service`.

In flight. The number of requests in flight follows TCP's congestion control (Chiu and Jain, 1989;
RFC 5681): halved when the service says that it is too busy, one more after a run of answers. As
there (RFC 6582), requests sent before a decrease tell nothing new: of a burst that is turned down
as one, the first counts.

Limits of a minute. They are spread evenly, by aiolimiter's leaky buckets: n requests a minute are
one every 60/n seconds, n tokens a minute are n/60 a second. A bucket of a whole minute would let
one minute's allowance out at once and, since it leaks meanwhile, twice the allowance within the
first minute; and each new process would begin with such a burst. So a stretch of w seconds holds
1 + w * n / 60 requests at most.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from aiolimiter import AsyncLimiter

from locus.evaluation.request import Rate

log = logging.getLogger(__name__)

# Answers since the last change after which one more request may be in flight.
RUN_OF_ANSWERS = 10
_CHARACTERS_OF_A_TOKEN = 4


@dataclass(frozen=True)
class Turn:
    """Leave to send one request.

    Attributes:
        epoch: decreases so far, when it was given.
        reserved: tokens reserved for it.
    """

    epoch: int
    reserved: float


class Pace:
    """Gives turns, in the order they were asked for. It lives in one event loop.

    Attributes:
        limit: requests that may be in flight now.
        in_flight: requests that are.
    """

    def __init__(self, ceiling: int, rate: Rate) -> None:
        self.limit = self._ceiling = max(1, ceiling)
        self.in_flight = 0
        per_minute = rate.requests_per_minute
        self._requests = None if per_minute is None else AsyncLimiter(1, 60 / per_minute)
        per_minute = rate.tokens_per_minute
        self._tokens = None if per_minute is None else _Tokens(per_minute)
        # One waits for the limits, all others for it: aiolimiter would let the small go first.
        self._queue = asyncio.Lock()
        self._changed = asyncio.Event()
        self._not_before = 0.0
        self._epoch = 0
        self._answers = 0
        self._over = False

    @asynccontextmanager
    async def turn(self, tokens: int) -> AsyncIterator[Turn]:
        """Wait for a turn; the request is in flight as long as the block runs.

        Args:
            tokens: tokens that it will read and write, by estimate.
        """
        async with self._queue:
            # Not before there is room: those in flight may give back what they have reserved.
            await self._room()
            reserved = await self._tokens.reserve(tokens, self) if self._tokens else 0.0
            while not self._over:
                await self._room()
                await self._pause()
                if self._requests:
                    await self._requests.acquire()
                # The service may have turned down another request meanwhile.
                if self.in_flight < self.limit and self._pause_s() <= 0:
                    break
            self.in_flight += 1
            turn = Turn(self._epoch, reserved)
        try:
            yield turn
        finally:
            self.in_flight -= 1
            self._changed.set()

    def answered(self, turn: Turn, tokens: int | None) -> None:
        """Tell that the service has answered.

        Args:
            turn: the turn of the request.
            tokens: tokens it has read and written; None if it doesn't say, then the estimate
                stands, as it does for what failed.
        """
        if self._tokens and tokens is not None:
            self._tokens.settle(turn.reserved, tokens)
        if turn.epoch != self._epoch or self.limit == self._ceiling:
            return
        self._answers += 1
        if self._answers == RUN_OF_ANSWERS:
            self._answers = 0
            self.limit += 1
            self._changed.set()
            log.info("%d requests at a time from now on", self.limit)

    def turned_down(self, turn: Turn, wait_s: float | None) -> None:
        """Tell that the service was too busy.

        Args:
            turn: the turn of the request.
            wait_s: seconds in which nothing may be sent; None if it doesn't say.
        """
        if wait_s is not None:
            until = asyncio.get_running_loop().time() + wait_s
            self._not_before = max(self._not_before, until)
        if turn.epoch != self._epoch:
            return
        self._epoch += 1
        self._answers = 0
        if self.limit > 1:
            self.limit //= 2
            log.warning("the service is busy: %d requests at a time from now on", self.limit)

    @property
    def over(self) -> bool:
        """Whether turns are given without waiting, because nothing will be sent."""
        return self._over

    def end(self) -> None:
        """Let nobody wait any more."""
        self._over = True
        self._changed.set()

    async def _room(self) -> None:
        while self.in_flight >= self.limit and not self._over:
            self._changed.clear()
            await self._changed.wait()

    async def _pause(self) -> None:
        """Whoever is told to wait makes all wait: the limit is the service's, not a request's."""
        while (wait := self._pause_s()) > 0 and not self._over:
            self._changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait)

    def _pause_s(self) -> float:
        return self._not_before - asyncio.get_running_loop().time()


class _Tokens:
    """Tokens of a minute: paid before a request is sent, and settled by what it has used.

    aiolimiter takes nothing back, so what was reserved too much is kept here, as credit of the
    requests to come, and what was reserved too little as their debt. Neither is ever more than a
    minute's allowance: what a service says it has used is its word only.
    """

    def __init__(self, per_minute: float) -> None:
        self._most = per_minute
        self._limiter = AsyncLimiter(per_minute / 60, 1)
        self._credit = 0.0

    async def reserve(self, tokens: int, pace: Pace) -> float:
        """Wait until so many tokens may be used, and no more than a minute's.

        Returns:
            The tokens that were reserved.
        """
        reserved = owed = min(float(tokens), self._most)
        while owed > 0 and not pace.over:
            # In every round: answers come in meanwhile.
            credit = min(owed, self._credit)
            self._credit -= credit
            owed -= credit
            piece = min(owed, self._limiter.max_rate)
            await self._limiter.acquire(piece)
            owed -= piece
        return reserved

    def settle(self, reserved: float, used: int) -> None:
        """Correct a reservation by what was used."""
        credit = self._credit + reserved - used
        self._credit = max(-self._most, min(credit, self._most))


def tokens_of(payload: Mapping[str, Any]) -> int:
    """The tokens that a request will read and write at most, by estimate.

    Four characters of the prompt are one token, as in English text; tokens that are sent as such
    are counted. Whatever may be written is written.
    """
    read = _size(payload.get("prompt")) + _size(payload.get("messages"))
    longest = payload.get("max_completion_tokens", payload.get("max_tokens"))
    return round(read) + (longest if isinstance(longest, int) and longest > 0 else 0)


def _size(prompt: Any) -> float:
    """Tokens of a prompt: a text, a message, a token, or a list of them."""
    if isinstance(prompt, str):
        return len(prompt) / _CHARACTERS_OF_A_TOKEN
    if isinstance(prompt, int):
        return 1.0
    if isinstance(prompt, dict):
        return _size(prompt.get("content"))
    return sum(map(_size, prompt)) if isinstance(prompt, list) else 0.0
