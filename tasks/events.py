"""Events: what happened, told to the Prefect server, where automations can act on it.

An event is posted in one request that is answered once the server has it, so nothing is left to
flush when the process ends, as it would be with an emitter that works in the background.
"""

import json
import logging
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.settings import Settings

if TYPE_CHECKING:
    from prefect.events import Event

log = logging.getLogger("locus.pipeline")

GATE_FAILED = "locus.gate.failed"
STALE = "locus.data.stale"
TIMEOUT_S = 10.0
NO_SERVER = "no Prefect server is configured and no `locus serve` runs"


class NotSentError(RuntimeError):
    """A server did not take an event.

    Attributes:
        status: what it answered; None if it could not be reached.
        cause: what went wrong.
    """

    def __init__(self, status: int | None, cause: Exception) -> None:
        super().__init__(f"answered {status}" if status else "can't be reached")
        self.status = status
        self.cause = cause


def server_file(settings: Settings) -> Path:
    """Where `locus serve` leaves the address of a server that it started itself."""
    return settings.home / "serve.json"


def api_url(settings: Settings) -> str | None:
    """Address of the Prefect API: as Prefect is configured, or else of a running `locus serve`."""
    from prefect.settings import get_current_settings

    configured = get_current_settings().api.url
    if configured:
        return str(configured)
    try:
        found = json.loads(server_file(settings).read_text(encoding="utf-8"))
        return str(found["api_url"])
    except (OSError, ValueError, KeyError, TypeError):  # none runs, or it is being written
        return None


def send(
    event: "Event", url: str | None, *, deployment: str | None = None, retries: int | None = None
) -> None:
    """Send one event.

    Args:
        event: what happened.
        url: address of the API; None for that of the run that this is part of.
        deployment: ``flow/name`` of a deployment that must be there to hear it.
        retries: how often a failed request is tried again; None as Prefect is configured.

    Raises:
        NotSentError: the server has no such deployment (404), refused the event, or can't be
            reached.
    """
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    given = {PREFECT_API_URL: url, PREFECT_CLIENT_MAX_RETRIES: retries}
    updates = {setting: value for setting, value in given.items() if value is not None}
    try:
        with (
            temporary_settings(updates) if updates else nullcontext(),
            get_client(sync_client=True, httpx_settings={"timeout": TIMEOUT_S}) as client,
        ):
            if deployment is not None:
                flow, name = deployment.split("/")
                client.request(
                    "GET",
                    "/deployments/name/{flow_name}/{deployment_name}",
                    path_params={"flow_name": flow, "deployment_name": name},
                )
            client.request("POST", "/events", json=[event.model_dump(mode="json")])
    except PrefectHTTPStatusError as error:
        raise NotSentError(error.response.status_code, error) from error
    except (httpx.HTTPError, RuntimeError) as error:  # RuntimeError: a server of another version
        raise NotSentError(None, error) from error


def post_event(
    settings: Settings, event: str, resource: str, payload: Mapping[str, Any]
) -> str | None:
    """Send one event to the configured server, to a running `locus serve`, or to that of this run.

    What can't be sent is logged; it never ends a run.

    Args:
        settings: the pipeline's settings.
        event: its name.
        resource: id of what it is about.
        payload: plain JSON values.

    Returns:
        None, or what stood in the way.
    """
    from prefect.context import FlowRunContext, TaskRunContext
    from prefect.events import Event, Resource

    url = api_url(settings)
    if url is None and FlowRunContext.get() is None and TaskRunContext.get() is None:
        return NO_SERVER
    said = Event(
        event=event, resource=Resource({"prefect.resource.id": resource}), payload=dict(payload)
    )
    try:
        send(said, url)
    except NotSentError as error:
        kind = "" if error.status else f" ({type(error.cause).__name__})"
        obstacle = f"the Prefect server {error}{kind}"
        log.warning("event %s is not sent: %s", event, obstacle)
        return obstacle
    return None
