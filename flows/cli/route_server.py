"""`locus route-server`: routing as a service for programs that are not Python."""

from typing import Annotated

import typer

from flows.cli.terminal import start_progress


def register(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command()(route_server)


def route_server(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8700,
) -> None:
    """Say over HTTP which model should answer, until stopped.

    It answers from the published snapshot and takes each new one without a restart; with none
    published yet it waits for the first. If LOCUS_ROUTE_TOKEN holds a token, callers must send it;
    for any --host but this machine it must.

    POST /route ranks the pool for queries; GET /v1/models lists it; GET /health and GET /metrics
    tell how the service is; GET /openapi.json describes every field.

    Examples: `locus route-server`;
    `curl -s localhost:8700/route --json '{"queries": ["What is 5 plus 9?"], "k": 1}'`;
    `LOCUS_ROUTE_TOKEN=$(openssl rand -hex 24) locus route-server --host 0.0.0.0`
    """
    start_progress()
    from locus.routing.serving.app import serve
    from tasks.settings import load_settings

    serve(load_settings().published, host, port)
