"""The HTTP application and its server; docs/serving.md shows the calls."""

import ipaddress
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, HTTPException, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException as AnyHTTPException

from locus.http_server import Gate, Secret, http_server
from locus.routing.policy import PolicyError
from locus.routing.router import Routed, RoutingError
from locus.routing.serving.aliases import ALIASES
from locus.routing.serving.desk import BusyError, Desk
from locus.routing.serving.follow import LOOK_S, Follower, Serving
from locus.routing.serving.metrics import Counted, Metrics
from locus.routing.serving.wire import (
    AwayTold,
    ChoiceTold,
    HealthTold,
    ModelsTold,
    ModelTold,
    Problem,
    QueryTold,
    RouteAsked,
    RouteTold,
    TopicTold,
)

if TYPE_CHECKING:
    import uvicorn

log = logging.getLogger(__name__)

TOKEN_VARIABLE = "LOCUS_ROUTE_TOKEN"  # noqa: S105 - the variable's name
TOKEN_LEAST = 16
BODY_MOST = 1 << 23
BODY_WAIT_S = 30.0
OPEN = frozenset({"/health"})
"""Paths that need no token."""
_CONNECTIONS = 256
_FAULTS_TOLD = 10


class ServingError(RuntimeError):
    """The service can't be started; says what to set."""


def token_of_environment(host: str) -> str | None:
    """The token that callers must send; None lets everybody in.

    Args:
        host: address to listen on. Without a token, only this machine may call.

    Raises:
        ServingError: a short token, or none where other machines may call.
    """
    token = os.environ.get(TOKEN_VARIABLE, "")
    example = f"export {TOKEN_VARIABLE}=$(openssl rand -hex 24)"
    if token and len(token) < TOKEN_LEAST:
        raise ServingError(
            f"{TOKEN_VARIABLE} must hold {TOKEN_LEAST} characters or more, for example: {example}"
        )
    if not token and not _loopback(host):
        raise ServingError(
            f"other machines can call {host}: set a token, for example: {example}; or leave "
            "--host out"
        )
    return token or None


def serve(published: Path, host: str, port: int) -> None:
    """Serve until stopped.

    Args:
        published: the published folder.
        host: address to listen on.
        port: port to listen on.

    Raises:
        ServingError: see `token_of_environment`; or the address can't be listened on.
    """
    app = create_app(published, token=token_of_environment(host))
    log.info("routing: http://%s:%d/route", host, port)
    try:
        server_of(app, host, port).run()
    except SystemExit as error:  # uvicorn's way to say that it could not listen
        if error.code:
            raise ServingError(
                f"nothing can listen on {host}:{port}: is the port in use? Try another --port"
            ) from error


def server_of(app: FastAPI, host: str, port: int) -> "uvicorn.Server":
    """The HTTP server, without a log of requests: /metrics counts them.

    Args:
        app: what `create_app` gave.
        host: address to listen on.
        port: port to listen on.
    """
    return http_server(app, host, port, _CONNECTIONS, timeout_graceful_shutdown=30)


def create_app(
    published: Path,
    *,
    token: str | None = None,
    encoder: str | None = None,
    look_s: float = LOOK_S,
    body_most: int = BODY_MOST,
    body_wait_s: float = BODY_WAIT_S,
) -> FastAPI:
    """The application; it follows the published folder while it runs.

    Args:
        published: the published folder, the one with ``current.json``.
        token: what callers must send as a bearer token; None lets everybody in.
        encoder: sentence encoder to use; None takes the one that is named in the manifest.
        look_s: seconds between two looks at ``current.json``.
        body_most: bytes of a request's body.
        body_wait_s: seconds until the whole body must be there.
    """
    follower, desk = Follower(published, encoder, look_s), Desk()
    metrics = Metrics(follower, desk)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        follower.start()
        yield
        desk.close()
        follower.close()

    app = FastAPI(
        title="LOCUS routing",
        summary="Which language model should answer a query.",
        version=_version(),
        # Its pages load scripts from elsewhere; /openapi.json says the same.
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_middleware(
        Gate,
        secret=_secret(token),
        guards=lambda scope: scope["path"] not in OPEN,
        body_most=body_most,
        body_wait_s=body_wait_s,
    )
    app.add_middleware(Counted, metrics=metrics)
    _tell_faults(app)
    guarded = [] if token is None else [Security(HTTPBearer(auto_error=False))]
    refusals = _refusals(*([] if token is None else [401]))

    def serving() -> Serving:
        now = follower.serving
        if now is None:
            raise HTTPException(503, "no snapshot is loaded: see /health", {"Retry-After": "5"})
        return now

    @app.post(
        "/route",
        dependencies=guarded,
        summary="Choose a model for each query",
        responses={**refusals, **_refusals(400, 408, 413, 422, 503)},
    )
    async def route(asked: RouteAsked) -> RouteTold:
        """Rank the published pool for queries never seen, under a policy."""
        now, texts, policy = serving(), asked.texts(), asked.policy.policy()
        try:
            routed = await desk.run(
                lambda: now.router.decide(
                    texts,
                    asked.k,
                    asked.exclude,
                    policy,
                    only=asked.only,
                    unavailable=asked.unavailable,
                    confidence=asked.confidence,
                )
            )
        except (RoutingError, PolicyError) as error:
            raise HTTPException(400, str(error)) from error
        except BusyError as error:
            raise HTTPException(503, str(error), {"Retry-After": "1"}) from error
        metrics.routed(c[0].model_id if c else None for c in routed.choices)
        return _told(now.snapshot_id, routed, asked.explain)

    @app.get(
        "/v1/models",
        dependencies=guarded,
        summary="List the pool, as OpenAI's API does",
        responses={**refusals, **_refusals(503)},
    )
    async def models() -> ModelsTold:
        """The models of the snapshot in use, then the aliases that gateways' hooks know."""
        now = serving()
        created = int(now.created_at.timestamp())
        owners = {m: m.split("/")[0] if "/" in m else "unknown" for m in now.router.models}
        owners |= dict.fromkeys(ALIASES, "locus")
        return ModelsTold(
            data=[ModelTold(id=m, created=created, owned_by=owner) for m, owner in owners.items()]
        )

    @app.get(
        "/health",
        summary="Tell how the service is",
        responses={503: {"model": HealthTold, "description": "No snapshot is loaded."}},
    )
    async def health(response: Response) -> HealthTold:
        """Needs no token. 503 until a snapshot is loaded; degraded is 200: queries are answered."""
        now = follower.serving
        if now is None:
            response.status_code = 503
            said = "no snapshot is loaded yet"
            if follower.faults:
                said = "what is published can't be used, or nothing is: see the server's log"
            return HealthTold(status="empty", snapshot_id=None, age_seconds=None, problem=said)
        # Messages name folders, and strangers may read this.
        problem = "a newer snapshot can't be used: see the server's log"
        bad = follower.problem is not None
        return HealthTold(
            status="degraded" if bad else "ok",
            snapshot_id=now.snapshot_id,
            age_seconds=round(now.age_seconds, 3),
            problem=problem if bad else None,
        )

    @app.get(
        "/metrics",
        dependencies=guarded,
        summary="Counters for Prometheus",
        response_class=PlainTextResponse,
        responses=refusals,
    )
    async def counters() -> Response:
        """Requests, latencies, queries, first choices, and how old the snapshot is."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return app


def _secret(token: str | None) -> Secret | None:
    if token is None:
        return None
    said = "send the token: Authorization: Bearer TOKEN"
    return Secret(token, "Authorization", "Bearer", said)


def _told(snapshot_id: str, routed: Routed, explain: bool) -> RouteTold:
    return RouteTold(
        snapshot_id=snapshot_id,
        results=[
            QueryTold(
                choices=[ChoiceTold(**choice.to_dict()) for choice in choices],
                reason=why if explain or not choices else None,
                topic=None if topic is None else TopicTold(**asdict(topic)),
            )
            for choices, why, topic in zip(
                routed.choices, routed.reasons, routed.topics, strict=True
            )
        ],
        away=[
            AwayTold(model_id=a.model_id, would_answer=a.would_answer, stand_ins=a.stand_ins)
            for a in routed.away
        ],
        unknown_price=routed.unknown_price,
        cost=routed.cost,
        expected=routed.expected,
    )


_REFUSALS = {
    400: "It can't be routed: an unknown model, nobody left, no prices, or no JSON.",
    401: "The token is missing or wrong.",
    408: "The body did not come in time.",
    413: "The body is too long.",
    422: "A field is missing, unknown or out of its limits.",
    503: "No snapshot is loaded, or too many requests wait; Retry-After says when to try again.",
}


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {s: {"model": Problem, "description": _REFUSALS[s]} for s in statuses}


def _tell_faults(app: FastAPI) -> None:
    """Every refusal is one line of text, and repeats nothing of what was sent but names."""

    @app.exception_handler(AnyHTTPException)
    async def refused(_: Request, error: AnyHTTPException) -> JSONResponse:
        return JSONResponse({"detail": str(error.detail)}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        faults = error.errors()
        lines = [_fault(fault) for fault in faults[:_FAULTS_TOLD]]
        if len(faults) > _FAULTS_TOLD:
            lines.append(f"and {len(faults) - _FAULTS_TOLD} more")
        return JSONResponse({"detail": "; ".join(lines)}, 422)

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> JSONResponse:
        log.exception("a request failed", exc_info=error)
        return JSONResponse({"detail": "a defect of locus: see the server's log"}, 500)


def _fault(fault: dict[str, Any]) -> str:
    if fault["type"] == "json_invalid":
        return f"the body is not JSON: {fault.get('ctx', {}).get('error', '')}"[:200]
    place = ".".join(str(part)[:60] for part in fault["loc"] if part != "body") or "the body"
    said = str(fault["msg"]).removeprefix("Value error, ")
    # A name of the caller's may hold half a character, which no answer can.
    return f"{place}: {said}".encode("utf-8", "replace").decode()


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _version() -> str:
    try:
        return version("locus-map")
    except PackageNotFoundError:  # run from a folder that isn't installed
        return "0"
