"""Every deployment, schedule, trigger and parameter, pinned; prefect.yaml says the same."""

import inspect
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.deployments.runner import RunnerDeployment

from flows.deployments import (
    EVALUATION,
    PLANNED,
    ScheduleError,
    deployments,
    evaluation_deployment,
)
from tasks.announce import DEPLOYMENT, EVENT, RESOURCES

ROOT = Path(__file__).parents[2]
SNAPSHOT = Path(__file__).parent / "snapshots" / "deployments.json"
RENEW = "LOCUS_RENEW_SNAPSHOTS"
LEFT_OUT: dict[str, Any] = {
    "schedules": [],
    "triggers": [],
    "concurrency_limit": {"limit": None, "collision_strategy": None},
}


def all_deployments() -> list[RunnerDeployment]:
    return [*deployments(), evaluation_deployment()]


def said_by_code(made: list[RunnerDeployment]) -> dict[str, dict[str, Any]]:
    """What the deployments say, as plain values."""
    return {
        str(one.full_name): {
            "entrypoint": one.entrypoint,
            "description": one.description,
            "tags": one.tags,
            "schedules": [
                {"slug": s.slug, "cron": s.schedule.cron, "timezone": s.schedule.timezone}
                for s in one.schedules or ()
            ],
            "triggers": [_trigger(t.model_dump(mode="json")) for t in one.triggers],
            "parameters": one.parameters,
            "concurrency_limit": {
                "limit": one.concurrency_limit,
                "collision_strategy": one.concurrency_options.collision_strategy.value
                if one.concurrency_options
                else None,
            },
        }
        for one in made
    }


def _trigger(dumped: dict[str, Any]) -> dict[str, Any]:
    names = ("type", "name", "description", "expect", "match", "parameters")
    return {name: dumped[name] for name in names}


def said_by_yaml() -> dict[str, dict[str, Any]]:
    """The same of prefect.yaml."""
    file = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    found = {}
    for one in file["deployments"]:
        name = one.pop("name")
        assert one.pop("work_pool") == {"name": "locus"}
        found[f"{name}/{name}"] = {**LEFT_OUT, **one}
    return found


def test_the_snapshot_holds() -> None:
    text = json.dumps(said_by_code(all_deployments()), indent=2) + "\n"
    if os.environ.get(RENEW):
        SNAPSHOT.write_text(text)
    assert text == SNAPSHOT.read_text(), (
        f"deployments have changed: if that is meant, run {RENEW}=1 pytest {Path(__file__).name} "
        f"and commit {SNAPSHOT.name}"
    )


def test_prefect_yaml_says_the_same() -> None:
    # Not of evaluations: a pipeline registers those itself, for the pool in its settings.
    code, file = said_by_code(deployments()), said_by_yaml()
    assert list(file) == list(code), "prefect.yaml and flows/deployments.py list others"
    for name, said in code.items():
        assert file[name] == said, f"prefect.yaml says something else of {name}"


def test_parameters_are_those_of_the_flows() -> None:
    made = all_deployments()
    for planned, one in zip((*PLANNED, EVALUATION), made, strict=True):
        takes = inspect.signature(planned.flow().fn).parameters
        given = {*one.parameters, *(p for t in one.triggers for p in t.parameters or ())}
        assert given <= takes.keys()
        missing = {n for n, p in takes.items() if p.default is p.empty} - given
        # Nobody is there to fill in what a schedule or an event doesn't bring.
        assert not missing or not (one.schedules or one.triggers), (one.name, missing)


def test_the_event_that_is_announced_is_the_one_that_starts_a_run() -> None:
    [triggered] = [one for one in deployments() if one.triggers]
    assert triggered.full_name == DEPLOYMENT
    trigger = triggered.triggers[0].model_dump(mode="json")
    assert trigger["expect"] == [EVENT]
    assert trigger["match"] == {"prefect.resource.id": RESOURCES + "*"}


def test_another_schedule() -> None:
    made = said_by_code(deployments("30 1 * * 1-5", "Europe/Berlin"))
    assert made["nightly/nightly"]["schedules"] == [
        {"slug": "nightly", "cron": "30 1 * * 1-5", "timezone": "Europe/Berlin"}
    ]
    assert made["retrain/retrain"]["schedules"][0]["timezone"] == "Europe/Berlin"


@pytest.mark.parametrize(
    ("cron", "timezone"), [("at night", "UTC"), ("61 2 * * *", "UTC"), ("0 2 * * *", "Mars/North")]
)
def test_what_is_no_schedule_is_named(cron: str, timezone: str) -> None:
    with pytest.raises(ScheduleError, match="is no schedule") as caught:
        deployments(cron, timezone)
    assert cron in str(caught.value)
    assert timezone in str(caught.value)
