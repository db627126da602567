"""Asking a service over HTTP: every request ends as an outcome, and a failure is never an answer.

What belongs here: sending, trying again, giving up. When a request may be sent is the business of
`locus.evaluation.service_pace`, reading what the service says `locus.evaluation.service_answer`'s,
and what an answer is worth lm-eval's (`locus.evaluation.service_model`).
"""

import asyncio
import json
import random
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from locus.evaluation.request import Patience, Rate
from locus.evaluation.service_answer import (
    SEVERITY,
    UNASKED,
    WHO,
    Outcome,
    RefusedError,
    RequestFailedError,
    StopAskingError,
    TryAgainError,
    count,
    raise_for,
    said,
)
from locus.evaluation.service_pace import Pace, tokens_of

__all__ = ["LARGEST_ANSWER_MIB", "SEVERITY", "UNASKED", "Call", "Caller", "Outcome"]

# An answer that is longer is none: nobody is asked for as much.
LARGEST_ANSWER_MIB = 16
_JITTER = random.SystemRandom()


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes:
        payload: what is sent, as JSON.
        read: makes an outcome of the service's answer; raises TryAgainError or RequestFailedError
            where that is no answer.
    """

    payload: Mapping[str, Any]
    read: Callable[[dict[str, Any]], Outcome]


class Caller:
    """Sends requests to one service, a few at a time, and no more often than it may be asked.

    A request that fails in a way that may pass is sent again, a bounded number of times, after
    growing, jittered waits and never before the service's Retry-After. After a number of failed
    requests in a row, or one that shows a wrong key, model or address, nothing more is sent.

    One event loop serves all calls of `ask`: what the pace knows of the last minute holds for the
    next call too.

    Attributes:
        stopped: why nothing more is sent, one line; None while all is well.
    """

    def __init__(
        self,
        url: str,
        patience: Patience,
        key: str | None = None,
        concurrent: int = 4,
        verify: bool = True,
        ca_file: str | None = None,
        rate: Rate | None = None,
    ) -> None:
        self.stopped: str | None = None
        self._url = url
        self._patience = patience
        self._key = key
        self._concurrent = max(1, concurrent)
        self._verify = verify
        self._ca_file = ca_file
        self._failed_in_a_row = 0
        self._pace = Pace(self._concurrent, rate or Rate())
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        # Each `ask` ends all that it began, so there is nothing else for the runner to close.
        weakref.finalize(self, self._runner.get_loop().close)

    def ask(self, calls: Sequence[Call]) -> list[Outcome]:
        """Outcomes of requests, in their order."""
        return self._runner.run(self._ask(calls))

    async def _ask(self, calls: Sequence[Call]) -> list[Outcome]:
        from aiohttp import ClientSession, ClientTimeout, TCPConnector

        # Of requests with all their attempts, so that a service that is down is given up after a
        # few of them, not after the first attempts of all.
        gate = asyncio.Semaphore(self._concurrent)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        async with ClientSession(
            connector=TCPConnector(limit=self._concurrent, ssl=self._tls()),
            timeout=ClientTimeout(total=self._patience.timeout_s),
            headers=headers,
        ) as session:

            async def one(call: Call) -> Outcome:
                async with gate:
                    return await self._one(session, call)

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(call)) for call in calls]
            return [task.result() for task in tasks]

    def _tls(self) -> Any:
        if not self._verify:
            return False
        if self._ca_file is None:
            return True
        import ssl

        return ssl.create_default_context(cafile=self._ca_file)

    async def _one(self, session: Any, call: Call) -> Outcome:
        """A request with its attempts."""
        patience = self._patience
        detail = ""
        for attempt in range(1, patience.attempts + 1):
            try:
                outcome = await self._in_turn(session, call)
            except StopAskingError as error:
                self._stop(str(error))
                return Outcome(UNASKED, detail=str(error))
            except RefusedError as error:
                self._failed_in_a_row = 0
                return Outcome("refused", detail=str(error))
            except RequestFailedError as error:
                return self._failed(str(error))
            except TryAgainError as error:
                detail = f"{error} ({attempt} attempt{'s' if attempt > 1 else ''})"
                if (error.after_s or 0) > patience.longest_wait_s:
                    return self._failed(
                        f"{detail}; it asks to wait {error.after_s:.0f} s: run later"
                    )
                if attempt < patience.attempts:
                    own = min(patience.longest_wait_s, patience.wait_s * 2 ** (attempt - 1))
                    await asyncio.sleep(own * _JITTER.uniform(0.5, 1.0))
            else:
                if outcome.status != UNASKED:
                    self._failed_in_a_row = 0
                return outcome
        return self._failed(detail)

    async def _in_turn(self, session: Any, call: Call) -> Outcome:
        """One attempt, when it is its turn."""
        async with self._pace.turn(tokens_of(call.payload)) as turn:
            if self.stopped:
                return Outcome(UNASKED, detail=self.stopped)
            try:
                outcome = await self._attempt(session, call)
            except TryAgainError as error:
                if error.busy:
                    wait_s = error.after_s
                    too_long = wait_s is not None and wait_s > self._patience.longest_wait_s
                    self._pace.turned_down(turn, None if too_long else wait_s)
                raise
            counts = (outcome.tokens_in, outcome.tokens_out)
            self._pace.answered(turn, None if None in counts else sum(n or 0 for n in counts))
            return outcome

    def _stop(self, why: str) -> None:
        self.stopped = self.stopped or why
        self._pace.end()

    def _failed(self, detail: str) -> Outcome:
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= self._patience.stop_after:
            self._stop(f"{self._failed_in_a_row} requests in a row failed, the last: {detail}")
        return Outcome("error", detail=detail)

    async def _attempt(self, session: Any, call: Call) -> Outcome:
        from aiohttp import ClientError

        started = time.perf_counter()
        try:
            # A redirect could carry the key to another host.
            async with session.post(
                self._url, json=call.payload, allow_redirects=False
            ) as response:
                status, headers = response.status, response.headers
                text = (await _body(response)).decode("utf-8", errors="replace")
        except TimeoutError as error:
            # Not sent again: the service may have done, and charged, the work.
            raise RequestFailedError(
                f"no whole answer within {self._patience.timeout_s:g} s; if the service is that "
                "slow, raise args.timeout"
            ) from error
        except (ClientError, OSError) as error:
            words = self._clean(str(error)) or type(error).__name__
            raise TryAgainError(
                f"the connection failed: {words}; check that the service runs and args.base_url"
            ) from error
        if self._key:
            text = text.replace(self._key, "[key]")
        if status != 200:
            raise_for(status, headers, said(text), text)
        try:
            body = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise TryAgainError(f"the answer is not JSON: {said(text)}; {WHO}") from error
        if not isinstance(body, dict):
            raise TryAgainError(f"the answer is no JSON object: {said(text)}; {WHO}")
        try:
            outcome = call.read(body)
        except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
            # lm-eval's readers take the form of an answer for granted.
            words = self._clean(f"{type(error).__name__}: {error}")
            raise TryAgainError(f"the answer has another form: {words}; {WHO}") from error
        usage = body.get("usage")
        return replace(
            outcome,
            tokens_in=count(usage, "prompt_tokens"),
            tokens_out=count(usage, "completion_tokens"),
            latency_ms=1000 * (time.perf_counter() - started),
        )

    def _clean(self, text: str) -> str:
        return said(text.replace(self._key, "[key]") if self._key else text)


async def _body(response: Any) -> bytes:
    """The body of an answer, as far as it is one.

    Raises:
        RequestFailedError: it is too large. Not sent again: the next would be as large.
    """
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > LARGEST_ANSWER_MIB * 2**20:
            raise RequestFailedError(f"the answer is larger than {LARGEST_ANSWER_MIB} MiB; {WHO}")
    return bytes(body)
