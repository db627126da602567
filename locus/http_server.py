"""What our HTTP services share: how they listen, and the gate before them.

They listen without a log of requests, whose headers are secret.
"""

import asyncio
import hmac
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    import uvicorn

log = logging.getLogger(__name__)

ADDRESSES_MOST = 10_000
"""Addresses whose wrong secrets are counted."""

_MINUTE_S = 60.0


def http_server(
    app: ASGIApp, host: str, port: int, connections: int, **options: Any
) -> "uvicorn.Server":
    """A server that is not running yet.

    Args:
        app: what answers.
        host: address to listen on.
        port: port to listen on.
        connections: most at once; more are answered 503.
        options: further ones of `uvicorn.Config`.
    """
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=connections,
            **options,
        )
    )


class Secret:
    """What callers must send.

    Args:
        secret: the secret.
        header: name of the header that carries it.
        scheme: word before it there, such as ``Bearer``; empty for none.
        said: what a caller without it is told; empty for nothing.
        wrong_per_minute: wrong ones after which an address is refused whatever it sends, so that
            guessing stays slow; None counts nothing. They are logged, without what was sent.
        clock: seconds; its zero doesn't matter.
    """

    def __init__(
        self,
        secret: str,
        header: str,
        scheme: str = "",
        said: str = "",
        wrong_per_minute: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._digest = sha256(secret.encode()).digest()
        self._header, self._scheme = header.lower().encode(), scheme
        self._said, self._most, self._clock = said, wrong_per_minute, clock
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def refusal(self, scope: Scope) -> Response | None:
        """The answer to a request without the secret; None where it has it."""
        address = (scope.get("client") or ("",))[0]
        now, wrong = self._clock(), self._wrong.get(address, deque())
        while wrong and wrong[0] <= now - _MINUTE_S:
            wrong.popleft()
        if self._most is not None and len(wrong) >= self._most:
            wait = str(int(wrong[0] + _MINUTE_S - now) + 1)
            return JSONResponse({"detail": "too many wrong secrets"}, 429, {"Retry-After": wait})
        if self._is_right(dict(scope["headers"]).get(self._header, b"")):
            return None
        if self._most is not None:
            wrong.append(now)
            self._wrong[address] = wrong
            self._wrong.move_to_end(address)
            if len(self._wrong) > ADDRESSES_MOST:
                self._wrong.popitem(last=False)
            log.warning("a wrong secret from %s", address)
        headers = {"WWW-Authenticate": self._scheme} if self._scheme else None
        return JSONResponse({"detail": self._said} if self._said else {}, 401, headers)

    def _is_right(self, value: bytes) -> bool:
        scheme, _, secret = value.partition(b" ") if self._scheme else (b"", b"", value)
        # Of the same length, whatever was sent: so a comparison tells nothing of the secret's.
        same = hmac.compare_digest(sha256(secret.strip()).digest(), self._digest)
        return same and scheme.lower() == self._scheme.lower().encode()


class Gate:
    """Refuses before anything is read or parsed: a wrong secret, a body too long or too slow.

    Args:
        app: what stands behind it.
        secret: what callers must send; None lets everybody in.
        guards: whether a request needs the secret.
        body_most: bytes of a body.
        body_wait_s: seconds until the whole body must be there.
    """

    def __init__(
        self,
        app: ASGIApp,
        secret: Secret | None,
        guards: Callable[[Scope], bool],
        body_most: int,
        body_wait_s: float,
    ) -> None:
        self._app, self._secret, self._guards = app, secret, guards
        self._most, self._wait_s = body_most, body_wait_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = None
        if self._secret is not None and self._guards(scope):
            refusal = self._secret.refusal(scope)
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if refusal is None and length.isdigit() and int(length[:20]) > self._most:
            refusal = JSONResponse({"detail": self._too_long()}, 413)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await self._app(scope, self._limited(receive), send)

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
