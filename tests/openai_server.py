"""A real HTTP server that speaks OpenAI's protocol, answers by a rule, and fails when told to.

The rule: the answer to a prompt is the last number in it, or "none". A log-probability of a token
follows from the token alone.
"""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from serving import Handler, running

MODEL = "number-reader"
# What can be told to go wrong; `OpenAIServer.fail` says when.
FAULTS = (
    "429", "429-spent", "500", "401", "400", "400-filter", "redirect", "hang", "malformed", "list",
    "cut", "null", "empty", "length", "filter", "no-choices", "no-logprobs", "no-usage",
    "hang-body", "short-logprobs", "number", "503", "endless", "deep", "half-character",
    "huge-logprobs",
)  # fmt: skip


@dataclass
class Fault:
    """One thing that goes wrong.

    Attributes:
        kind: one of `FAULTS`.
        prompt: only for prompts that contain this.
        times: how often it still happens; None for ever.
        retry_after: value of the Retry-After header.
        delay_s: seconds that it takes; None for as many as an answer.
    """

    kind: str
    prompt: str = ""
    times: int | None = None
    retry_after: str | None = None
    delay_s: float | None = None


@dataclass
class OpenAIServer:
    """A running server.

    Attributes:
        root: its address, up to and including ``/v1``.
        key: the key that it wants; None if it wants none.
        asked: (prompt, payload, Authorization header) of every request, in order.
        came: when each of them was there, in seconds of `time.monotonic`.
        beside: how many were in flight then, itself among them. A request is so from when all of
            it is there to just before its answer is sent: never when its sender knows the answer.
        sent: (when, status) of every answer, just before it was sent.
        delay_s: seconds that an answer takes.
    """

    root: str = ""
    key: str | None = None
    asked: list[tuple[str, dict[str, Any], str | None]] = field(default_factory=list)
    came: list[float] = field(default_factory=list)
    beside: list[int] = field(default_factory=list)
    sent: list[tuple[float, int]] = field(default_factory=list)
    delay_s: float = 0.0
    _in_flight: int = 0
    _faults: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)

    def fail(
        self,
        kind: str,
        prompt: str = "",
        times: int | None = None,
        retry_after: str | None = None,
        delay_s: float | None = None,
    ) -> None:
        """Let something go wrong from now on."""
        assert kind in FAULTS
        self._faults.append(Fault(kind, prompt, times, retry_after, delay_s))

    def heal(self) -> None:
        """Let all be well again."""
        self._faults.clear()

    def prompts(self) -> list[str]:
        """The prompts of all requests, in order."""
        return [prompt for prompt, _, _ in self.asked]

    def arrive(self, prompt: str, payload: dict[str, Any], key: str | None) -> None:
        """Note a request."""
        with self._lock:
            self._in_flight += 1
            self.asked.append((prompt, payload, key))
            self.came.append(time.monotonic())
            self.beside.append(self._in_flight)

    def leave(self, status: int) -> None:
        """Note that a request is about to be answered."""
        with self._lock:
            self._in_flight -= 1
            self.sent.append((time.monotonic(), status))

    def due(self, prompt: str) -> Fault | None:
        """The fault that this request meets."""
        with self._lock:
            for fault in self._faults:
                if fault.prompt in prompt and fault.times != 0:
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None


def answer_to(prompt: str) -> str:
    """The answer, by the rule."""
    numbers = re.findall(r"\d+", prompt)
    return numbers[-1] if numbers else "none"


def logprob_of(token: Any) -> float:
    """The log-probability of a token, by the rule: -0.1 to -1.0."""
    number = token if isinstance(token, int) else sum(map(ord, str(token)))
    return -(1 + number % 10) / 10


class _Handler(Handler):
    state: OpenAIServer

    def do_POST(self) -> None:
        payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        given = self.headers.get("Authorization")
        chat = self.path.endswith("/chat/completions")
        prompt = payload["messages"][-1]["content"] if chat else payload["prompt"]
        text = prompt if isinstance(prompt, str) else json.dumps(prompt)
        state = self.state
        state.arrive(text, payload, given)
        fault = state.due(text)
        own = fault.delay_s if fault else None
        state.closing.wait(state.delay_s if own is None else own)
        if self.path not in ("/v1/completions", "/v1/chat/completions"):
            return self._error(404, "no such path")
        if state.key is not None and given != f"Bearer {state.key}":
            return self._error(401, f"Incorrect API key provided: {given}")
        if payload["model"] != MODEL:
            return self._error(404, f"The model {payload['model']!r} does not exist")
        kind = fault.kind if fault else ""
        if kind[:3].isdigit():
            code = {"429-spent": "insufficient_quota", "400-filter": "content_filter"}.get(kind)
            # As some services do, the error repeats what it was sent, key and all.
            said = f"fault {kind}, sent with {given}"
            return self._error(int(kind[:3]), said, code, fault.retry_after if fault else None)
        if kind == "redirect":
            return self._send(307, b"", {"Location": "http://127.0.0.1:9/v1/completions"})
        if kind == "hang":
            state.closing.wait(60)
            self.close_connection = True
            return None
        if kind == "endless":
            state.leave(200)
            return self.answer_without_end(state.closing)
        if kind == "deep":
            return self._send(200, b"[" * 200_000)
        if kind == "malformed":
            return self._send(200, b"<html>Bad gateway")
        if kind == "list":
            return self._send(200, b"[]")
        body = json.dumps(self._answer(payload, prompt, chat, kind)).encode()
        if kind == "cut":
            self._send(200, body[: len(body) // 2], {"Content-Length": str(len(body))})
            self.close_connection = True
            return None
        if kind == "hang-body":
            self._send(200, body[: len(body) // 2], {"Content-Length": str(len(body))})
            state.closing.wait(60)
            self.close_connection = True
            return None
        return self._send(200, body)

    def _answer(self, payload: dict[str, Any], prompt: Any, chat: bool, kind: str) -> Any:
        content: Any = answer_to(str(prompt))
        unlike = {"null": None, "empty": "", "number": 7, "half-character": f"{content}\ud83d"}
        content = unlike.get(kind, content)
        reason = {"length": "length", "filter": "content_filter"}.get(kind, "stop")
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
        tokens = 0
        if chat:
            choice["message"] = {"role": "assistant", "content": content}
        else:
            choice["text"] = content
        if payload.get("echo"):
            sent = prompt[0] if isinstance(prompt[0], list) else prompt
            tokens = len(sent)
            values = [None, *map(logprob_of, sent[1:]), -0.5]
            tops = [None if v is None else {"a": v} for v in values]
            choice["logprobs"] = {"token_logprobs": values, "top_logprobs": tops}
            if kind == "short-logprobs":
                choice["logprobs"] = {"token_logprobs": values[:-1], "top_logprobs": tops[:-1]}
            if kind == "huge-logprobs":  # JSON has them, floats don't
                choice["logprobs"]["token_logprobs"] = [None, *[-(10**400)] * (len(values) - 1)]
            if kind == "no-logprobs":
                choice["logprobs"] = None
        choices = [] if kind == "no-choices" else [choice]
        usage = {"prompt_tokens": tokens or len(str(prompt)), "completion_tokens": 3}
        answer = {"object": "answer", "model": MODEL, "choices": choices}
        return answer if kind == "no-usage" else {**answer, "usage": usage}

    def _error(
        self, status: int, said: str, code: str | None = None, retry_after: str | None = None
    ) -> None:
        body = json.dumps({"error": {"message": said, "code": code}}).encode()
        self._send(status, body, {"Retry-After": retry_after} if retry_after else {})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.state.leave(status)
        self.answer(status, body, headers)


@contextmanager
def serving(key: str | None = None, port: int = 0) -> Iterator[OpenAIServer]:
    """A server on a port of this machine, a free one by default, while the block runs."""
    state = OpenAIServer(key=key)
    handler = type("Handler", (_Handler,), {"state": state})
    with running(handler, state.closing, port) as address:
        state.root = f"{address}/v1"
        yield state
