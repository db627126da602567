"""The webhook: others tell of a model over HTTP; it is filed and announced, never evaluated here.

`POST /models` takes an entry of `models.yaml` as JSON, a short form of it for models of the hub,
and the body that the Hugging Face hub's own webhooks send. docs/watching.md shows the calls.
"""

import json
import logging
import os
import threading
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from locus.http_server import Gate, Secret, http_server
from locus.hub import WatchSettings, WebhookSettings
from locus.ids import InvalidIdError
from locus.registry import ModelSpec, RegistryError
from locus.registry.faults import reasons
from locus.registry.revision import folder_of
from tasks.settings import Settings
from tasks.watch import ConflictError, RegistryBusyError, event_obstacle, file_model, take_event

if TYPE_CHECKING:
    import uvicorn

log = logging.getLogger("locus.webhook")

SECRET_VARIABLE = "LOCUS_WEBHOOK_SECRET"  # noqa: S105 - the variable's name
SECRET_HEADER = "X-Webhook-Secret"  # noqa: S105 - the hub sends its secret in this one, too
SECRET_LEAST = 16
BODY_MOST = 1 << 16
BODY_WAIT_S = 10.0
# Words of the hub that wait their turn.
EVENTS_WAITING = 64
_CONNECTIONS = 64
_FAULTS_TOLD = 10


class WebhookError(RuntimeError):
    """The webhook can't be served; says what to set."""


class _Refused(Exception):  # noqa: N818 - an answer, not a fault of ours
    """An answer other than a good one."""

    def __init__(
        self, status: int, detail: Any = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status)
        self.status, self.detail, self.headers = status, detail, headers


def secret_of_environment() -> str:
    """The secret that callers must send.

    Raises:
        WebhookError: none is set, or a short one.
    """
    secret = os.environ.get(SECRET_VARIABLE, "")
    if len(secret) < SECRET_LEAST:
        raise WebhookError(
            f"{SECRET_VARIABLE} must hold a secret of {SECRET_LEAST} characters or more, for "
            f"example: export {SECRET_VARIABLE}=$(openssl rand -hex 24)"
        )
    return secret


def serve_webhook(
    settings: Settings,
    watch: WatchSettings,
    webhook: WebhookSettings,
    host: str,
    port: int,
    proxy: str | None = None,
) -> None:
    """Serve until stopped.

    Args:
        settings: the pipeline's settings.
        watch: which models of the hub are taken when the hub sends word.
        webhook: what is accepted.
        host: address to listen on.
        port: port to listen on.
        proxy: address of a proxy whose X-Forwarded-For header is believed; None believes nobody.

    Raises:
        WebhookError: no secret is set, or the address can't be listened on.
    """
    app = build_app(settings, watch, webhook, secret_of_environment())
    log.info("webhook: http://%s:%d/models", host, port)
    try:
        server_of(app, host, port, proxy).run()
    except SystemExit as error:  # uvicorn's way to say that it could not listen
        if error.code:
            raise WebhookError(
                f"nothing can listen on {host}:{port}: is the port in use? Try another --port"
            ) from error


def server_of(app: FastAPI, host: str, port: int, proxy: str | None = None) -> "uvicorn.Server":
    """The HTTP server: few connections at once, and no log of requests, whose headers are secret.

    Args:
        app: what `build_app` gave.
        host: address to listen on.
        port: port to listen on.
        proxy: address of a proxy whose X-Forwarded-For header is believed.
    """
    return http_server(
        app,
        host,
        port,
        _CONNECTIONS,
        proxy_headers=proxy is not None,
        forwarded_allow_ips=proxy or "",
    )


def build_app(
    settings: Settings, watch: WatchSettings, webhook: WebhookSettings, secret: str
) -> FastAPI:
    """The application.

    Args:
        settings: the pipeline's settings.
        watch: which models of the hub are taken when the hub sends word.
        webhook: what is accepted.
        secret: what callers must send.
    """
    desk = _Desk(settings, watch)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        desk.close()

    app = FastAPI(title="LOCUS", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.add_middleware(
        Gate,
        secret=Secret(secret, SECRET_HEADER, wrong_per_minute=webhook.wrong_secrets_per_minute),
        # All of them: a path that is compared here and again by the router could pass between.
        guards=lambda scope: scope["method"] == "POST",
        body_most=BODY_MOST,
        body_wait_s=BODY_WAIT_S,
    )

    @app.exception_handler(_Refused)
    async def refused(_: Request, error: _Refused) -> JSONResponse:
        body = None if error.detail is None else {"detail": error.detail}
        return JSONResponse(body or {}, error.status, error.headers)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/models")
    async def models(request: Request) -> JSONResponse:
        try:
            content = _parsed(await request.body())
        except ClientDisconnect as error:
            raise _Refused(400) from error
        if isinstance(content, dict) and "event" in content:
            status, answer = desk.take_word(content)
        else:
            spec = _spec(content, settings, webhook)
            status, answer = await run_in_threadpool(_file, settings, spec)
        return JSONResponse(answer, status)

    return app


def _parsed(body: bytes) -> Any:
    def no_number(text: str) -> NoReturn:
        raise ValueError(f"{text} is no number of JSON")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            raise ValueError("a name stands twice in one object")
        return content

    try:
        return json.loads(body, parse_constant=no_number, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise _Refused(422, [f"the body is not JSON: {why[:200]}"]) from error


def _few(lines: list[str]) -> list[str]:
    """The first faults, so that an answer is never much longer than what it answers."""
    more = len(lines) - _FAULTS_TOLD
    return [*lines[:_FAULTS_TOLD], f"and {more} more"] if more > 0 else lines


def _spec(content: Any, settings: Settings, webhook: WebhookSettings) -> ModelSpec:
    """The model that a body describes."""
    if not isinstance(content, dict):
        raise _Refused(422, ["the body is an object with at least `id`"])
    entry = dict(content)
    if entry.keys() <= {"id", "revision"}:
        # A model of the hub is called there what it is called here.
        entry["args"] = {"pretrained": entry.get("id")}
    args = entry.get("args")
    if isinstance(args, dict) and isinstance(args.get("pretrained"), str):
        folder = folder_of(args["pretrained"], settings.models_file.parent)
        if folder is not None:
            entry["args"] = {**args, "pretrained": str(folder)}
    try:
        spec = ModelSpec.model_validate(entry)
    except ValidationError as error:
        raise _Refused(422, _few(reasons(error, list(ModelSpec.model_fields)))) from error
    if spec.backend not in webhook.backends:
        raise _Refused(
            422, [f"backend: {spec.backend} is not one of {', '.join(webhook.backends)}"]
        )
    return spec


def _file(settings: Settings, spec: ModelSpec) -> tuple[int, dict[str, Any]]:
    try:
        filed = file_model(settings, spec, "webhook")
    except ConflictError as error:
        raise _Refused(409, str(error)) from error
    except InvalidIdError as error:
        raise _Refused(422, [str(error)]) from error
    except RegistryBusyError as error:
        log.exception("webhook: %s is not filed", spec.id)
        raise _Refused(503, "busy: try again", {"Retry-After": "30"}) from error
    except (RegistryError, OSError) as error:
        # Of the file here, not of what was sent: its faults are nothing for a stranger.
        log.exception("webhook: %s is not filed", spec.id)
        raise _Refused(500, "models.yaml can't be added to: see the server's log") from error
    return 202, {"accepted": True, "announced": filed.announced}


class _Event(BaseModel):
    action: str
    scope: str


class _Repository(BaseModel):
    type: str
    name: str
    headSha: str | None = None


class _Word(BaseModel):
    """What the hub's webhooks send, as far as it matters here."""

    event: _Event
    repo: _Repository


class _Desk:
    """Acts upon words of the hub, one after another: the hub has to be asked, which takes time."""

    def __init__(self, settings: Settings, watch: WatchSettings) -> None:
        self._settings, self._watch = settings, watch
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="webhook-hub")
        self._waiting: set[tuple[str, str | None]] = set()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Drop what waits; a poll finds it."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def take_word(self, content: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Answer a word of the hub; acting upon it comes later."""
        try:
            word = _Word.model_validate(content)
        except ValidationError as error:
            raise _Refused(422, _few(reasons(error, ["event", "repo"]))) from error
        obstacle = self._obstacle(word)
        if obstacle:
            # Not an error: the hub ends a webhook that is refused too often.
            return 200, {"accepted": False, "announced": False, "why": obstacle}
        what = (word.repo.name, _commit(word.repo.headSha))
        with self._lock:
            if what not in self._waiting:
                if len(self._waiting) >= EVENTS_WAITING:
                    raise _Refused(503, "busy: try again", {"Retry-After": "60"})
                self._waiting.add(what)
                self._worker.submit(self._act, what)
        return 202, {"accepted": True, "announced": False}

    def _obstacle(self, word: _Word) -> str | None:
        if word.repo.type != "model":
            return "it is not about a model"
        content = word.event.scope in ("repo", "repo.content")
        if not content or word.event.action not in ("create", "update"):
            return "it is not about a new model or a new commit"
        return event_obstacle(word.repo.name, self._watch)

    def _act(self, what: tuple[str, str | None]) -> None:
        # Taken off first: a word that comes from now on may tell of something newer.
        with self._lock:
            self._waiting.discard(what)
        try:
            outcome = take_event(self._settings, self._watch, *what)
        except Exception:
            log.exception("webhook: word of %s came to nothing; the next poll looks again", what[0])
            return
        log.info("webhook: word of %s: %s", what[0], outcome.headline())
        for name, why in outcome.left.items():
            log.info("webhook: %s is left out: %s", name, why)
        for line in outcome.failed:
            log.warning("webhook: %s", line)


def _commit(text: str | None) -> str | None:
    """A commit as the hub names it; anything else is as good as none."""
    digits = set("0123456789abcdef")
    return text if text is not None and len(text) == 40 and set(text) <= digits else None
