"""Deployments: the only place with schedules, triggers and limits.

`locus serve` registers and runs them on one machine; `prefect.yaml` says the same for `prefect
deploy --all` and workers of a pool, and a test holds the two together. The deployment of single
evaluations is registered by whoever gives them out.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import import_module
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import (
    ConcurrencyLimitConfig,
    ConcurrencyLimitStrategy,
    StateType,
)
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType

from tasks.announce import EVENT, RESOURCES
from tasks.pool_server import check_pool

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

TAG = "locus"
# Seconds between two signs of life of a flow run, as Prefect has it where nobody says otherwise.
HEARTBEAT_S = 180
MISSED = 3

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
        beside: whether runs may go on beside one another.
    """

    name: str
    entrypoint: str
    cron: str | None = None
    event: bool = False
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"wait_s": WAIT_S})
    skip: bool = False
    beside: bool = False

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

# Not among them: `locus serve` would run it here, and it is there for workers of a pool elsewhere.
EVALUATION = Planned("evaluate-model", "flows.evaluate.evaluate_model", parameters={}, beside=True)
EVALUATION_POOL = "locus-evaluation"


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


def silent_runs(heartbeat_s: float = HEARTBEAT_S, tag: str = TAG) -> AutomationCore:
    """The automation that ends runs of these deployments whose process has died without a word.

    After a sign of life of a run it expects another one, or the run's end. Of a false alarm (a
    machine that slept) nothing is left once the run ends: Prefect lets it go from crashed to how
    it really ended.

    Args:
        heartbeat_s: seconds between two signs of life; three may be missed. None of these runs
            may give them more seldom. Prefect wants 10 s of silence at least.
        tag: of the runs that are meant; others may give signs of life as they like.
    """
    # By name and not `prefect.flow-run.*`: a run says Running after its first sign of life, and
    # what is expected ends the waiting.
    ends = ("Completed", "Failed", "TimedOut", "Crashed", "Cancelled")
    alive = "prefect.flow-run.heartbeat"
    return AutomationCore(
        name="locus: runs without a sign of life are crashed",
        description="A run whose process or machine is gone says nothing more and keeps its place.",
        trigger=EventTrigger(
            after={alive},
            expect={alive, *(f"prefect.flow-run.{end}" for end in ends)},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification({"prefect.resource.id": f"prefect.tag.{tag}"}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=MISSED * heartbeat_s),
        ),
        actions=[
            ChangeFlowRunState(
                name=None,
                force=False,
                state=StateType.CRASHED,
                message=f"no sign of life for {MISSED * heartbeat_s:g} s: its process is gone, or "
                "its machine; what it finished is kept, the next run goes on",
            )
        ],
    )


def evaluation_deployment(pool: str = EVALUATION_POOL) -> RunnerDeployment:
    """The deployment by which a pipeline has models evaluated elsewhere.

    Args:
        pool: the work pool whose workers take its runs.
    """
    made = _deployment(EVALUATION, None, TIMEZONE)
    made.work_pool_name = pool
    return made


def register_evaluation(pool: str) -> None:
    """Make the server give evaluations to a pool, as `[evaluation] pool` says.

    Raises:
        PoolError: there is no server, or no such pool.
    """
    check_pool(pool)
    evaluation_deployment(pool).apply()


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
        tags=[TAG],
        concurrency_limit=None if planned.beside else SKIP if planned.skip else ENQUEUE,
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
