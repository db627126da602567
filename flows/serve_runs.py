"""Runs as the server knows them: how they go, and an end to those whose process has gone."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flows.cli.terminal import safe

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore

log = logging.getLogger("locus.serve")

# What must get through, though the server is busy; longer would keep `locus serve` from ending.
ATTEMPTS = 4


@contextmanager
def client_of(url: str, timeout_s: float = 10, attempts: int = 1) -> "Iterator[SyncPrefectClient]":
    """A client of the API at an address, which asks ``attempts`` times at most.

    It asks again, after 2, 4, 8 .. s, where nobody answers or the server is too busy: one on
    SQLite answers 503 while its database is locked.
    """
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    with (
        temporary_settings({PREFECT_API_URL: url, PREFECT_CLIENT_MAX_RETRIES: attempts - 1}),
        get_client(sync_client=True, httpx_settings={"timeout": timeout_s}) as client,
    ):
        yield client


def healthy(url: str) -> bool:
    """Whether a server answers."""
    with client_of(url, 5) as client:
        return client.api_healthcheck() is None


def close_runs(url: str, deployments: Sequence[str], why: str) -> int:
    """Mark runs as crashed that the server takes for running, though their process has gone.

    Otherwise each would keep its deployment's place until the server gives it up by itself.

    Args:
        url: the API's address.
        deployments: ids of the deployments whose runner has ended, or has not yet begun.
        why: what the runs say of it.

    Returns:
        How many there were.
    """
    states = ["RUNNING", "PENDING", "CANCELLING"]
    crashed = {"type": "CRASHED", "name": "Crashed", "message": why}
    with client_of(url, attempts=ATTEMPTS) as client:
        found = _runs(client, deployments, {"state": {"type": {"any_": states}}})
        for run in found:
            client.request(
                "POST",
                "/flow_runs/{id}/set_state",
                path_params={"id": run["id"]},
                json={"state": crashed, "force": True},
            )
    return len(found)


def register_automation(url: str, wanted: "AutomationCore") -> bool:
    """Have an automation on the server, once, as it is defined here.

    It is known by its name. One that somebody has switched off stays off.

    Args:
        url: the API's address.
        wanted: the automation.

    Returns:
        Whether anything had to be changed. A server that takes none is no reason to stop; it is
        logged.
    """
    from prefect.events.schemas.automations import AutomationCore
    from prefect.exceptions import PrefectHTTPStatusError

    try:
        with client_of(url, attempts=ATTEMPTS) as client:
            found = client.read_automations_by_name(wanted.name)
            for more in found[1:]:
                client.delete_automation(more.id)
            if not found:
                client.create_automation(wanted)
                return True
            have = AutomationCore.model_validate(found[0].model_dump(include=_defined(wanted)))
            wanted = wanted.model_copy(update={"enabled": have.enabled})
            if have != wanted:
                client.update_automation(found[0].id, wanted)
            return have != wanted or len(found) > 1
    except PrefectHTTPStatusError as error:
        log.warning("the server takes no automation %r: %s", wanted.name, error)
        return False


def _defined(automation: "AutomationCore") -> set[str]:
    """Fields that an automation has here; the server adds its own."""
    return set(type(automation).model_fields) - {"owner_resource"}


def _runs(
    client: "SyncPrefectClient", deployments: Sequence[str], which: dict[str, Any]
) -> list[dict[str, Any]]:
    """Runs of some deployments, the latest first."""
    wanted = {
        "deployments": {"id": {"any_": list(deployments)}},
        "flow_runs": which,
        "sort": "START_TIME_DESC",
        "limit": 50,
    }
    found: list[dict[str, Any]] = client.request("POST", "/flow_runs/filter", json=wanted).json()
    return found


class Runs:
    """Says once how each run stands; also when a server stops and starts to answer."""

    SHOWN = ("RUNNING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED")

    def __init__(self, url: str, deployments: Sequence[str]) -> None:
        self._url = url
        self._which = {
            "state": {"type": {"any_": list(self.SHOWN)}},
            "start_time": {"after_": datetime.now(UTC).isoformat()},
        }
        self._deployments = list(deployments)
        self._said: dict[str, str] = {}
        self._silent = False

    def look(self) -> None:
        """Ask the server once, and log what is new."""
        import httpx
        from prefect.exceptions import PrefectHTTPStatusError

        try:
            with client_of(self._url) as client:
                runs = _runs(client, self._deployments, self._which)
        except (httpx.HTTPError, PrefectHTTPStatusError) as error:
            if not self._silent:
                log.warning("the Prefect server at %s doesn't answer: %s", self._url, error)
            self._silent = True
            return
        if self._silent:
            log.info("the Prefect server at %s answers again", self._url)
            self._silent = False
        for run in reversed(runs):
            if self._said.get(run["id"]) != run["state"]["type"]:
                self._said[run["id"]] = run["state"]["type"]
                self._say(run)

    @staticmethod
    def _say(run: dict[str, Any]) -> None:
        state = run["state"]["type"]
        bad = state in ("FAILED", "CRASHED")
        message = " ".join(safe(run["state"].get("message")).split())[:300]
        line = f"{safe(run['name'])}: {state.lower()}"
        log.log(
            logging.WARNING if bad else logging.INFO,
            "%s",
            f"{line}: {message}" if bad and message else line,
        )
