"""How our HTTP services listen: without a log of requests, whose headers are secret."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp


def http_server(
    app: "ASGIApp", host: str, port: int, connections: int, **options: Any
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
