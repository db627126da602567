"""A real HTTP server that speaks the model API of the Hugging Face hub, and fails when told to.

It shows, as the hub does, only what `expand` asks for; lists come in pages, linked by the Link
header.
"""

import copy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from serving import Handler, running

# What can be told to go wrong; `HubServer.fail` says where.
FAULTS = (
    "429", "500", "503", "401", "404", "hang", "hang-body", "malformed", "html", "object", "cut",
    "endless", "deep", "no-id", "bad-date", "numbers", "leads-astray", "page-astray", "bomb",
)  # fmt: skip


def commit(text: str) -> str:
    """A commit: 40 hexadecimal digits that follow from a text."""
    return sha1(text.encode(), usedforsecurity=False).hexdigest()


def repository(name: str, **other: Any) -> dict[str, Any]:
    """What the hub knows of a model that may be taken; ``other`` says what is different."""
    return {
        "id": name,
        "sha": commit(name),
        "createdAt": "2026-03-01T12:00:00.000Z",
        "lastModified": "2026-03-02T12:00:00.000Z",
        "private": False,
        "gated": False,
        "disabled": False,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["transformers", "safetensors", "text-generation", "license:apache-2.0", "en"],
        "config": {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "tokenizer_config": {"chat_template": "{{ messages }}"},
        },
        "safetensors": {"parameters": {"BF16": 1_500_000_000}, "total": 1_500_000_000},
        "siblings": [{"rfilename": "config.json"}, {"rfilename": "model.safetensors"}],
        **other,
    }


@dataclass
class HubServer:
    """A running hub.

    Attributes:
        address: where it is.
        models: what it has, by id.
        moved: new name by old.
        asked: path and parameters of every request, in order.
        tokens: Authorization header of every request.
        page: models on a page of a list.
    """

    address: str = ""
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, list[str]]]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    page: int = 100
    closing: threading.Event = field(default_factory=threading.Event)
    _faults: list[dict[str, Any]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str, **other: Any) -> dict[str, Any]:
        """Have a model; gives what is known of it, to be changed at will."""
        self.models[name] = repository(name, **other)
        return self.models[name]

    def fail(
        self, kind: str, where: str = "", times: int | None = None, retry_after: str | None = None
    ) -> None:
        """Let something go wrong from now on, for requests whose path and query have ``where``."""
        assert kind in FAULTS
        self._faults.append(
            {"kind": kind, "where": where, "times": times, "retry_after": retry_after}
        )

    def heal(self) -> None:
        """Let all be well again."""
        self._faults.clear()

    def due(self, target: str) -> dict[str, Any] | None:
        """The fault that a request meets."""
        with self._lock:
            for fault in self._faults:
                if fault["where"] in target and fault["times"] != 0:
                    if fault["times"] is not None:
                        fault["times"] -= 1
                    return fault
        return None

    def paths(self) -> list[str]:
        """Paths of all requests, in order."""
        return [path for path, _ in self.asked]


def _expanded(model: dict[str, Any], expand: list[str]) -> dict[str, Any]:
    """A model as an answer shows it."""
    if not expand:
        return copy.deepcopy(model)
    return {"_id": "6", "id": model["id"], **{k: model[k] for k in expand if k in model}}


class _Handler(Handler):
    state: HubServer

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = parse_qs(address.query)
        self.state.asked.append((address.path, query))
        self.state.tokens.append(self.headers.get("Authorization"))
        fault = self.state.due(unquote(self.path))
        kind = fault["kind"] if fault else ""
        if kind.isdigit():
            said = {"Retry-After": fault["retry_after"]} if fault and fault["retry_after"] else {}
            return self.answer(int(kind), b'{"error": "a fault"}', said)
        if kind == "hang":
            self.state.closing.wait(60)
            self.close_connection = True
            return None
        if kind == "endless":
            return self.answer_without_end(self.state.closing)
        if kind == "leads-astray":
            return self.answer(307, b"", {"Location": "http://127.0.0.1:9/api/models"})
        if address.path == "/api/models":
            return self._list(query, kind)
        if address.path.startswith("/api/models/"):
            return self._one(unquote(address.path.removeprefix("/api/models/")), query, kind)
        return self.answer(404, b'{"error": "no such path"}')

    def _list(self, query: dict[str, list[str]], kind: str) -> None:
        found = list(self.state.models.values())
        for author in query.get("author", []):
            found = [m for m in found if str(m["id"]).split("/")[0] == author]
        for text in query.get("search", []):
            found = [m for m in found if text.lower() in str(m["id"]).lower()]
        for tag in query.get("filter", []):
            found = [m for m in found if tag in m["tags"]]
        for key in query.get("sort", []):
            found.sort(key=lambda m: str(m[key]), reverse=True)
        start = int(query.get("cursor", ["0"])[0])
        end = start + min(self.state.page, int(query.get("limit", ["1000"])[0]))
        headers = {}
        if end < len(found):
            more = urlencode({**query, "cursor": [str(end)]}, doseq=True)
            headers["Link"] = f'<{self.state.address}/api/models?{more}>; rel="next"'
        if kind == "page-astray":
            headers["Link"] = '<http://127.0.0.1:9/api/models?cursor=1>; rel="next"'
        self._answer(
            [_expanded(m, query.get("expand", [])) for m in found[start:end]], kind, headers
        )

    def _one(self, name: str, query: dict[str, list[str]], kind: str) -> None:
        name, _, revision = name.partition("/revision/")
        if name in self.state.moved:
            new = f"{self.state.address}/api/models/{self.state.moved[name]}"
            return self.answer(307, b"", {"Location": f"{new}?{urlencode(query, doseq=True)}"})
        model = self.state.models.get(name)
        if model is None:
            return self.answer(401, b'{"error": "Repository not found"}')
        if revision and revision != model["sha"]:
            return self.answer(
                404, b'{"error": "Invalid rev id"}', {"X-Error-Code": "RevisionNotFound"}
            )
        return self._answer(_expanded(model, query.get("expand", [])), kind, {})

    def _answer(self, content: Any, kind: str, headers: dict[str, str]) -> None:
        one = content[0] if isinstance(content, list) and content else content
        if kind == "object":
            content = {"error": "maintenance"}
        elif kind == "numbers":
            content = [1, 2, 3]
        elif kind == "no-id":
            del one["id"]
        elif kind == "bad-date":
            one["createdAt"] = "yesterday"
        body = json.dumps(content).encode()
        if kind == "malformed":
            body = body[: len(body) // 2]
        elif kind == "html":
            body = b"<html>Bad gateway"
        elif kind == "deep":
            body = b"[" * 200_000
        elif kind == "bomb":
            import gzip

            body = gzip.compress(b"[" + b" " * (1 << 26) + b"]", compresslevel=1)
            headers = {**headers, "Content-Encoding": "gzip"}
        elif kind in ("cut", "hang-body"):
            self.answer(200, body[: len(body) // 2], {"Content-Length": str(len(body))})
            self.wfile.flush()
            self.state.closing.wait(60 if kind == "hang-body" else 0)
            self.close_connection = True
            return
        self.answer(200, body, headers)


@contextmanager
def serving() -> Iterator[HubServer]:
    """A hub on a free port of this machine, while the block runs."""
    state = HubServer()
    handler = type("Handler", (_Handler,), {"state": state})
    with running(handler, state.closing) as address:
        state.address = address
        yield state
