"""Events: what happened, told to the Prefect server, where automations can act on it.

An event is posted in one request that is answered once the server has it, so nothing is left to
flush when the process ends, as it would be with an emitter that works in the background.
"""

import logging
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from tasks.announce import TIMEOUT_S, api_url
from tasks.settings import Settings

log = logging.getLogger("locus.pipeline")

GATE_FAILED = "locus.gate.failed"
STALE = "locus.data.stale"


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
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.context import FlowRunContext, TaskRunContext
    from prefect.events import Event, Resource
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import PREFECT_API_URL, temporary_settings

    url = api_url(settings)
    if url is None and FlowRunContext.get() is None and TaskRunContext.get() is None:
        return "no Prefect server is configured and no `locus serve` runs"
    said = Event(
        event=event, resource=Resource({"prefect.resource.id": resource}), payload=dict(payload)
    )
    try:
        with (
            temporary_settings({PREFECT_API_URL: url}) if url else nullcontext(),
            get_client(sync_client=True, httpx_settings={"timeout": TIMEOUT_S}) as client,
        ):
            client.request("POST", "/events", json=[said.model_dump(mode="json")])
    except PrefectHTTPStatusError as error:
        obstacle = f"the Prefect server answered {error.response.status_code}"
    except (httpx.HTTPError, RuntimeError) as error:  # RuntimeError: a server of another version
        obstacle = f"the Prefect server can't be reached ({type(error).__name__})"
    else:
        return None
    log.warning("event %s is not sent: %s", event, obstacle)
    return obstacle
