"""Deployments: the only place with schedules, triggers and pools."""

from prefect import serve
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Cron

from flows.add_model import add_model
from flows.nightly import nightly
from flows.publish import publish

NIGHTLY_CRON = "0 2 * * *"


class NoServerError(RuntimeError):
    """Deployments need a Prefect server."""


def serve_all() -> None:
    """Serve all deployments until stopped.

    Raises:
        NoServerError: no server is configured; a temporary one would forget the schedule.
    """
    from prefect.settings import get_current_settings

    if not get_current_settings().api.url:
        raise NoServerError(
            "no Prefect server is configured: start one with `prefect server start`, then set "
            "PREFECT_API_URL=http://127.0.0.1:4200/api and run this again"
        )
    serve(*deployments())


def deployments() -> list[RunnerDeployment]:
    """Every deployment, with its schedule."""
    made = (
        nightly.to_deployment("nightly", schedules=[Cron(NIGHTLY_CRON, timezone="UTC")]),
        add_model.to_deployment("add-model"),
        publish.to_deployment("publish"),
    )
    # to_deployment is typed for callers in async code too; here it returns the deployment itself.
    return [one for one in made if isinstance(one, RunnerDeployment)]
