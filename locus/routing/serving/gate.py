"""What stands before the application: the token, the body's limits, and the counting."""

import asyncio
import hmac
import time
from hashlib import sha256

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from locus.routing.serving.metrics import Metrics

BODY_MOST = 1 << 23
BODY_WAIT_S = 30.0
OPEN = frozenset({"/health"})
"""Paths that need no token."""


class Gate:
    """Refuses before anything is read or parsed: a wrong token, a body too long or too slow.

    Args:
        app: what stands behind it.
        token: what callers must send; None lets everybody in.
        body_most: bytes of a body.
        body_wait_s: seconds until the whole body must be there.
    """

    def __init__(
        self,
        app: ASGIApp,
        token: str | None,
        body_most: int = BODY_MOST,
        body_wait_s: float = BODY_WAIT_S,
    ) -> None:
        self._app, self._most, self._wait_s = app, body_most, body_wait_s
        self._digest = None if token is None else sha256(token.encode()).digest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if scope["path"] not in OPEN and not self._known(headers.get(b"authorization", b"")):
            said = "send the token: Authorization: Bearer TOKEN"
            refused = JSONResponse({"detail": said}, 401, {"WWW-Authenticate": "Bearer"})
            await refused(scope, receive, send)
            return
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > self._most:
            await JSONResponse({"detail": self._too_long()}, 413)(scope, receive, send)
            return
        await self._app(scope, self._limited(receive), send)

    def _known(self, header: bytes) -> bool:
        if self._digest is None:
            return True
        scheme, _, token = header.partition(b" ")
        # Of the same length, whatever was sent: so a comparison tells nothing of the token's.
        right = hmac.compare_digest(sha256(token.strip()).digest(), self._digest)
        return right and scheme.lower() == b"bearer"

    def _too_long(self) -> str:
        return f"a body has at most {self._most} bytes"

    def _limited(self, receive: Receive) -> Receive:
        read, whole = 0, False
        deadline = asyncio.get_running_loop().time() + self._wait_s

        async def limited() -> Message:
            nonlocal read, whole
            if whole:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                said = f"the body did not come within {self._wait_s:g} s"
                raise HTTPException(408, said) from error
            read += len(message.get("body", b""))
            if read > self._most:
                raise HTTPException(413, self._too_long())
            whole = not message.get("more_body", False)
            return message

        return limited


class Counted:
    """Counts every answer and how long it took, whoever gave it."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            self._metrics.answered(scope["path"], status, time.perf_counter() - began)
