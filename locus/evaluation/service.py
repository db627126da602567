"""Asking a service over HTTP: every request ends as an outcome, and a failure is never an answer.

What belongs here: sending, waiting, giving up, and reading what an OpenAI-like service says about
a request. What an answer is worth is lm-eval's business (`locus.evaluation.service_model`).
"""

import asyncio
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from locus.evaluation.request import Patience

# Not a status of the warehouse: the request was not sent, or its failure says nothing about it.
UNASKED = "unasked"
# The worst of a query's outcomes is the query's, from the harmless to the worst.
SEVERITY = ("ok", "empty", "truncated", "refused", "error", UNASKED)
# Tried again: too busy, too many requests, a fault of the service.
_PASSING = {408, 409, 425, 429}
# Of the one query: its form, its length.
_OF_THE_QUERY = {400, 413, 422}
# Codes of an account that has no money left; waiting doesn't help.
_SPENT = {"insufficient_quota", "billing_hard_limit_reached"}
_FILTERED = {"content_filter", "content_policy_violation"}
_JITTER = random.SystemRandom()


@dataclass(frozen=True)
class Outcome:
    """What came of one request.

    Attributes:
        status: one of `SEVERITY`.
        value: the answer, as the reader made it; None if there is none.
        detail: why it is not ok, one line.
        tokens_in: tokens read, as the service counts them; None if it doesn't say.
        tokens_out: tokens written.
        latency_ms: time of the last attempt, without waits between attempts.
    """

    status: str
    value: Any = None
    detail: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    latency_ms: float = 0.0


class RequestFailedError(Exception):
    """This request has failed and asking it again is no use."""


class RefusedError(Exception):
    """The service's filter refuses the query: it has answered, in its way."""


class TryAgainError(Exception):
    """This attempt has failed in a way that may pass.

    Attributes:
        after_s: seconds that the service asks to wait; None if it doesn't say.
    """

    def __init__(self, detail: str, after_s: float | None = None) -> None:
        super().__init__(detail)
        self.after_s = after_s


class StopAskingError(Exception):
    """No request can succeed: a wrong key, model or address."""


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
    """Sends requests to one service, a few at a time.

    A request that fails in a way that may pass is sent again, a bounded number of times, after
    growing, jittered waits and never before the service's Retry-After. After a number of failed
    requests in a row, or one that shows a wrong key, model or address, nothing more is sent.

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
    ) -> None:
        self.stopped: str | None = None
        self._url = url
        self._patience = patience
        self._key = key
        self._concurrent = max(1, concurrent)
        self._verify = verify
        self._ca_file = ca_file
        self._failed_in_a_row = 0
        self._not_before = 0.0

    def ask(self, calls: Sequence[Call]) -> list[Outcome]:
        """Outcomes of requests, in their order."""
        return asyncio.run(self._ask(calls))

    async def _ask(self, calls: Sequence[Call]) -> list[Outcome]:
        from aiohttp import ClientSession, ClientTimeout, TCPConnector

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

            return list(await asyncio.gather(*map(one, calls)))

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
            # Whoever is told to wait makes all wait: the limit is the service's, not a request's.
            while (wait := self._not_before - time.monotonic()) > 0 and not self.stopped:
                await asyncio.sleep(wait)
            if self.stopped:
                return Outcome(UNASKED, detail=self.stopped)
            try:
                outcome = await self._attempt(session, call)
            except StopAskingError as error:
                self.stopped = self.stopped or str(error)
                return Outcome(UNASKED, detail=str(error))
            except RefusedError as error:
                self._failed_in_a_row = 0
                return Outcome("refused", detail=str(error))
            except RequestFailedError as error:
                return self._failed(str(error))
            except TryAgainError as error:
                detail = f"{error} ({attempt} attempt{'s' if attempt > 1 else ''})"
                if (error.after_s or 0) > patience.longest_wait_s:
                    return self._failed(f"{detail}; it asks to wait {error.after_s:.0f} s")
                if error.after_s is not None:
                    until = time.monotonic() + error.after_s
                    self._not_before = max(self._not_before, until)
                if attempt < patience.attempts:
                    own = min(patience.longest_wait_s, patience.wait_s * 2 ** (attempt - 1))
                    await asyncio.sleep(own * _JITTER.uniform(0.5, 1.0))
            else:
                self._failed_in_a_row = 0
                return outcome
        return self._failed(detail)

    def _failed(self, detail: str) -> Outcome:
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= self._patience.stop_after and not self.stopped:
            self.stopped = f"{self._failed_in_a_row} requests in a row failed, the last: {detail}"
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
                text = (await response.read()).decode("utf-8", errors="replace")
        except TimeoutError as error:
            # Not sent again: the service may have done, and charged, the work.
            raise RequestFailedError(f"no answer within {self._patience.timeout_s:g} s") from error
        except (ClientError, OSError) as error:
            said = self._clean(str(error)) or type(error).__name__
            raise TryAgainError(f"the connection failed: {said}") from error
        if self._key:
            text = text.replace(self._key, "[key]")
        if status != 200:
            raise_for(status, headers, _said(text), text)
        try:
            body = json.loads(text)
        except ValueError as error:
            raise TryAgainError(f"the answer is not JSON: {_said(text)}") from error
        if not isinstance(body, dict):
            raise TryAgainError(f"the answer is no JSON object: {_said(text)}")
        try:
            outcome = call.read(body)
        except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
            # lm-eval's readers take the form of an answer for granted.
            said = self._clean(f"{type(error).__name__}: {error}")
            raise TryAgainError(f"the answer has another form: {said}") from error
        usage = body.get("usage")
        return replace(
            outcome,
            tokens_in=_count(usage, "prompt_tokens"),
            tokens_out=_count(usage, "completion_tokens"),
            latency_ms=1000 * (time.perf_counter() - started),
        )

    def _clean(self, text: str) -> str:
        return _said(text.replace(self._key, "[key]") if self._key else text)


def raise_for(status: int, headers: Mapping[str, str], said: str, body: str) -> None:
    """Raise what an HTTP status other than 200 means.

    Raises:
        StopAskingError: wrong key, model or address, or no money left.
        TryAgainError: may pass.
        RefusedError: a filter refuses the query.
        RequestFailedError: of this one request.
    """
    code = _error_code(body)
    if status in (401, 403):
        raise StopAskingError(
            f"the service refuses the key (HTTP {status}: {said}); check the environment variable "
            "that holds it and what the key may use"
        )
    if status == 402 or code in _SPENT:
        raise StopAskingError(f"the account can't pay (HTTP {status}: {said})")
    if status == 404 or 300 <= status < 400 or status == 405:
        raise StopAskingError(
            f"the service has no such model or address (HTTP {status}: {said}); check args.model "
            "and args.base_url in models.yaml"
        )
    detail = f"HTTP {status}: {said}"
    if status in _PASSING or status >= 500:
        raise TryAgainError(detail, _retry_after(headers.get("Retry-After")))
    if status in _OF_THE_QUERY and code in _FILTERED:
        raise RefusedError(detail)
    raise RequestFailedError(detail)


def read_text(body: Mapping[str, Any], chat: bool, text_of: Callable[[Any], Any]) -> Outcome:
    """The outcome of a generation.

    Args:
        body: the service's answer.
        chat: whether it is one of chat completions.
        text_of: the answer's text, as lm-eval reads it.

    Raises:
        TryAgainError: the answer has not the form of one.
    """
    choice = one_choice(body)
    message = choice.get("message") if chat else {"content": choice.get("text", 0)}
    if not isinstance(message, dict) or not isinstance(message.get("content", 0), str | None):
        raise TryAgainError("the answer has no text where one belongs")
    reason = choice.get("finish_reason")
    if reason == "content_filter" or message.get("refusal"):
        text = message.get("refusal") or message["content"]
        return Outcome("refused", str(text or ""), "the service's filter or model refused")
    text = text_of(body) if message["content"] else ""
    if reason == "length":
        return Outcome("truncated", text, "the answer was cut at the token limit")
    if not text or not text.strip():
        return Outcome("empty", text, "the answer is empty")
    return Outcome("ok", text)


def one_choice(body: Mapping[str, Any]) -> dict[str, Any]:
    """The only choice of an answer.

    Raises:
        TryAgainError: there is not exactly one.
    """
    choices = body.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise TryAgainError("the answer has not exactly one choice")
    # lm-eval sorts by it, and not every service sends it.
    choices[0].setdefault("index", 0)
    return choices[0]


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and value >= 0 else None


def _error_code(body: str) -> str | None:
    try:
        error = json.loads(body)["error"]
        return str(error.get("code") or error.get("type"))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None  # Not every service writes its errors as OpenAI does; the text is told anyway.


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header: a number or a date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = parsedate_to_datetime(value)
        except ValueError:
            return None
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        seconds = (when - datetime.now(UTC)).total_seconds()
    return seconds if 0 <= seconds < float("inf") else None


def _said(text: str) -> str:
    """A service's words as one short line without control characters."""
    line = " ".join(text.split())[:200]
    return "".join(c for c in line if c.isprintable()) or "no text"
