"""What an OpenAI-like service says about a request, as an outcome or a typed failure.

What belongs here: reading statuses, headers and bodies, all of them untrusted. Sending is
`locus.evaluation.service`'s business.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

# Not a status of the warehouse: the request was not sent, or its failure says nothing about it.
UNASKED = "unasked"
# The worst of a query's outcomes is the query's, from the harmless to the worst.
SEVERITY = ("ok", "empty", "truncated", "refused", "error", UNASKED)
# Tried again: too busy, too many requests, a fault of the service.
_PASSING = {408, 409, 425, 429}
# Of these: it is asked too much. So it is, whatever the status, if it says how long to wait.
_BUSY = {429, 503}
# Of the one query: its form, its length.
_OF_THE_QUERY = {400, 413, 422}
# Codes of an account that has no money left; waiting doesn't help.
_SPENT = {"insufficient_quota", "billing_hard_limit_reached"}
_FILTERED = {"content_filter", "content_policy_violation"}
_LARGEST_COUNT = 2**31 - 1
# The next step where the answer is none of a service of this kind.
WHO = "check what answers at args.base_url"


@dataclass(frozen=True)
class Outcome:
    """What came of one request.

    Attributes:
        status: one of `SEVERITY`.
        value: the answer, as the reader made it; None if there is none. A text is whatever the
            service wrote (`service.LARGEST_ANSWER_MIB` bounds it, nothing else), but for lone
            surrogates, halves of characters that no file can hold: they become U+FFFD.
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
        busy: whether the service says that it is asked too much.
    """

    def __init__(self, detail: str, after_s: float | None = None, busy: bool = False) -> None:
        super().__init__(detail)
        self.after_s = after_s
        self.busy = busy


class StopAskingError(Exception):
    """No request can succeed: a wrong key, model or address."""


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
        raise StopAskingError(
            f"the account can't pay (HTTP {status}: {said}); see to its balance and run again"
        )
    if status == 404 or 300 <= status < 400 or status == 405:
        raise StopAskingError(
            f"the service has no such model or address (HTTP {status}: {said}); check args.model "
            "and args.base_url in models.yaml"
        )
    detail = f"HTTP {status}: {said}"
    if status in _PASSING or status >= 500:
        busy = status in _BUSY or "Retry-After" in headers
        todo = (
            "lower args.num_concurrent or set the service's limits under `providers`"
            if busy
            else "a fault of the service: if it stays, ask who runs it"
        )
        after_s = _retry_after(headers.get("Retry-After"))
        raise TryAgainError(f"{detail}; {todo}", after_s, busy)
    if status in _OF_THE_QUERY and code in _FILTERED:
        raise RefusedError(f"{detail}; its filter refuses the query")
    raise RequestFailedError(f"{detail}; see what it says of this query or of args")


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
        raise TryAgainError(f"the answer has no text where one belongs; {WHO}")
    reason = choice.get("finish_reason")
    if reason == "content_filter" or message.get("refusal"):
        text = message.get("refusal") or message["content"]
        return Outcome(
            "refused",
            _whole(str(text or "")),
            "the service's filter or model refused; see the response that is kept",
        )
    text = _whole(text_of(body) or "") if message["content"] else ""
    if reason == "length":
        return Outcome(
            "truncated",
            text,
            "the answer was cut at the token limit; raise max_gen_toks of the task",
        )
    if not text.strip():
        return Outcome(
            "empty",
            text,
            "the answer is empty; if the model thinks first, raise max_gen_toks of the task",
        )
    return Outcome("ok", text)


def _whole(text: str) -> str:
    """A text that can be written as UTF-8: without halves of characters."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def one_choice(body: Mapping[str, Any]) -> dict[str, Any]:
    """The only choice of an answer.

    Raises:
        TryAgainError: there is not exactly one.
    """
    choices = body.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise TryAgainError(f"the answer has not exactly one choice; {WHO}")
    # lm-eval sorts by it, and not every service sends it.
    choices[0].setdefault("index", 0)
    return choices[0]


def count(usage: Any, name: str) -> int | None:
    """A number of tokens that the service reports; None if it reports none that can be."""
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and 0 <= value <= _LARGEST_COUNT else None


def _error_code(body: str) -> str | None:
    try:
        error = json.loads(body)["error"]
        return str(error.get("code") or error.get("type"))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
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


def said(text: str) -> str:
    """A service's words as one short line without control characters."""
    line = " ".join(text.split())[:200]
    return "".join(c for c in line if c.isprintable()) or "no text"
