"""Deployments: the only place with schedules, triggers and limits.

`locus serve` registers and runs them on one machine; `prefect.yaml` says the same for `prefect
deploy --all` and workers of a pool, and a test holds the two together.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType

from tasks.announce import EVENT, RESOURCES

NIGHTLY_CRON = "0 2 * * *"
RETRAIN_CRON = "0 4 * * 0"
WATCH_CRON = "*/5 * * * *"
FRESHNESS_CRON = "15 * * * *"
TIMEZONE = "UTC"

# Runs of one deployment queue up at the server. Runs of different ones meet at the pipeline's lock,
# where each waits for the one before it, however long a night takes.
WAIT_S = 86_400.0
ENQUEUE = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)
# What is looked for now need not be looked for again later.
SKIP = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)

# Parameters that a flow is given by the event; only those that it has are passed on. Braces are
# filled in by the server, from what tasks/announce.py has validated.
FROM_EVENT = {
    "model_id": "{{ event.payload.model_id }}",
    "revision": "{{ event.payload.revision }}",
}


class ScheduleError(ValueError):
    """A schedule that can't be; the message names it."""


@dataclass(frozen=True)
class Planned:
    """A deployment as planned here.

    Attributes:
        name: its name; its flow has the same.
        entrypoint: module and name of the flow.
        cron: its schedule; None runs by hand or by an event only.
        event: whether `locus.model.added` starts it.
        parameters: given to every run, if the flow takes them.
        skip: whether a run is left out, instead of queued, while another one goes on.
    """

    name: str
    entrypoint: str
    cron: str | None = None
    event: bool = False
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"wait_s": WAIT_S})
    skip: bool = False

    def flow(self) -> Flow[..., Any]:
        """The flow itself.

        Raises:
            TypeError: the entrypoint is no flow.
        """
        module, _, name = self.entrypoint.rpartition(".")
        found = getattr(import_module(module), name)
        if not isinstance(found, Flow):
            raise TypeError(f"{self.entrypoint} is no flow")
        return found


PLANNED = (
    Planned("nightly", "flows.nightly.nightly", cron=NIGHTLY_CRON),
    Planned("add-model", "flows.add_model.add_model", event=True),
    Planned("publish", "flows.publish.publish"),
    Planned("retrain", "flows.retrain.retrain", cron=RETRAIN_CRON),
    Planned("watch", "flows.watch.watch", cron=WATCH_CRON, skip=True),
    Planned("backfill", "flows.backfill.backfill"),
    Planned("rescore", "flows.rescore.rescore"),
    Planned("freshness", "flows.freshness.freshness_check", cron=FRESHNESS_CRON, skip=True),
)


def deployments(cron: str | None = None, timezone: str = TIMEZONE) -> list[RunnerDeployment]:
    """Every deployment.

    Args:
        cron: when nightly runs, instead of NIGHTLY_CRON.
        timezone: of all schedules, such as Europe/Berlin.

    Raises:
        ScheduleError: cron or timezone can't be read.
    """
    check_schedule(cron or NIGHTLY_CRON, timezone)
    return [
        _deployment(one, cron if cron and one.name == "nightly" else one.cron, timezone)
        for one in PLANNED
    ]


def check_schedule(cron: str, timezone: str) -> None:
    """Refuse what is no schedule.

    Raises:
        ScheduleError: cron or timezone can't be read.
    """
    from prefect.client.schemas.schedules import CronSchedule
    from pydantic import ValidationError

    try:
        CronSchedule(cron=cron, timezone=timezone)
    except ValidationError as error:
        why = "; ".join(str(fault["msg"]) for fault in error.errors())
        raise ScheduleError(
            f"cron {cron!r} in time zone {timezone!r} is no schedule ({why}): write minute, hour, "
            f"day, month and weekday, such as {NIGHTLY_CRON!r}, and a zone such as Europe/Berlin"
        ) from error


def _deployment(planned: Planned, cron: str | None, timezone: str) -> RunnerDeployment:
    flow = planned.flow()
    made = flow.to_deployment(
        planned.name,
        schedules=[Cron(cron, timezone=timezone, slug=planned.name)] if cron else [],
        triggers=[_trigger(planned.name, flow)] if planned.event else [],
        parameters={k: v for k, v in planned.parameters.items() if k in _takes(flow)},
        description=_first_sentence(flow),
        tags=["locus"],
        concurrency_limit=SKIP if planned.skip else ENQUEUE,
        # The package is installed wherever it runs; no path of this machine is recorded.
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    # to_deployment is typed for callers in async code too; here it returns the deployment itself.
    if not isinstance(made, RunnerDeployment):
        raise TypeError("deployments are made outside of an event loop")
    return made


def _trigger(name: str, flow: Flow[..., Any]) -> DeploymentEventTrigger:
    return DeploymentEventTrigger(
        name=f"{name} on {EVENT}",
        description="A model was announced; the same model and revision are announced once.",
        expect={EVENT},
        match={"prefect.resource.id": f"{RESOURCES}*"},
        parameters={key: value for key, value in FROM_EVENT.items() if key in _takes(flow)},
    )


def _takes(flow: Flow[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(flow.fn).parameters


def _first_sentence(flow: Flow[..., Any]) -> str:
    return (inspect.getdoc(flow.fn) or "").split("\n")[0]
