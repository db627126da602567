"""Names and artifacts of runs, read back from a real Prefect server."""

import json
import logging
import re
import time
from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest
from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.runtime import flow_run
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    temporary_settings,
)

from flows import seen
from flows.outcome import Outcome
from locus.budget import Budget, Estimate, Ledger, Spent
from locus.evaluation.failure import Failure
from locus.registry import ModelSpec
from locus.selection import Plan
from tasks.artifacts import leave
from tasks.discover import Discovered
from tasks.estimate import Expected
from tasks.evaluate import Evaluated
from tasks.plan import PlannedModel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

HOSTILE = "boom | `x` [click](http://evil.example)\n<script>\u202e\x1b[2J"


@pytest.fixture
def server(prefect_server: str) -> Iterator[str]:
    with temporary_settings({PREFECT_API_URL: prefect_server}):
        yield prefect_server


@pytest.fixture
def logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> pytest.LogCaptureFixture:
    """What the pipeline logs, also where a command before kept it to itself."""
    monkeypatch.setattr(logging.getLogger("locus"), "propagate", True)
    return caplog


def left_by(run_id: str) -> dict[str, Any]:
    """Data of a run's artifacts, by key."""
    mine = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=mine)
    return {str(one.key): one.data for one in found}


def planned(name: str, n: int, **said: Any) -> PlannedModel:
    spec = ModelSpec(id=name, backend="dummy")
    return PlannedModel(
        Discovered(spec, "r" * 40), Plan({"task": [f"q{i}" for i in range(n)]}, n, 0, **said)
    )


def test_a_run_and_all_that_it_leaves(
    server: str, logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen, "EVERY_S", 0.05)
    plans = [planned("org/a", 30, later=8, chosen_by={"adaptive": 12}), planned("org/b", 10)]
    expected = {
        "org/a": Expected(30, 1000.4, 20, 0.12345678, 90, True),
        "org/b": Expected(10, 50, 0, None, None, False),
    }
    outcome = Outcome(
        failed={"org/b": HOSTILE},
        resting={"org/tired": "failed 3 nights"},
        results=[
            Evaluated("org/a", 20, 20),
            Evaluated("org/a", 10, 9),
            Evaluated("org/b", 3, 2, error=HOSTILE, kind=Failure.SAID),
        ],
        canary_results=[Evaluated("org/a", 5, 5)],
    )
    ledger = Ledger(Budget())

    @flow(name="seen", flow_run_name=seen.of_what("seen"))
    def run(model_id: str, revision: str, dry_run: bool) -> tuple[str, str]:
        seen.show_plan(plans, expected)
        with seen.progress(outcome, ledger):
            outcome.plan.update(expected)
            purse = ledger.purse("org/a", Budget(), Estimate(1))
            purse.settle(Spent(20, 100))
            until = time.monotonic() + 30
            while left_by(flow_run.get_id() or "").get("progress") != 50:
                assert time.monotonic() < until
                time.sleep(0.1)
            purse.settle(Spent(13, 100))
            outcome.more_plan["org/known"] = Expected(10, 50, 0, None, None, True)
        seen.show_results(outcome)
        seen.show_page("No Key", "a key that the server refuses ends nothing")
        seen.show("seen", outcome)
        return str(flow_run.get_id()), str(flow_run.get_name())

    run_id, name = run("org/a", "0123456789abcdef", True)
    assert name == "seen-org/a@0123456789ab-dry-run"
    left = left_by(run_id)
    assert set(left) == {"plan", "progress", "results", "seen-outcome"}
    assert left["progress"] == pytest.approx(100 * 33 / 50)
    first, second = json.loads(left["plan"])
    assert first == {
        "model": "org/a", "revision": "r" * 40, "queries": 30,
        "training queries": "12 by adaptive, 8 later, by its answers",
        "tokens": 1020, "usd": 0.1235, "minutes": 1.5, "reckoned from": "its answers",
    }  # fmt: skip
    assert (second["training queries"], second["usd"], second["minutes"]) == ("none", None, None)
    rows = {row["model"]: row for row in json.loads(left["results"])}
    assert rows["org/a"] == {
        "model": "org/a", "asked": 30, "recorded": 29, "canaries": 5,
        "ended by": "all asked", "failure": "", "because": "",
    }  # fmt: skip
    assert rows["org/tired"]["ended by"] == "left alone"
    assert (rows["org/b"]["asked"], rows["org/b"]["ended by"]) == (3, "failure")
    assert rows["org/b"]["failure"] == "the worker's reason"
    for text in (rows["org/b"]["because"], left["seen-outcome"]):
        assert "boom" in text
        assert not set(text.replace("`boom", "").replace("`org/", "")) & set("<>[]\u202e\x1b")
    assert "artifact No Key could not be left" in logged.text


def test_a_server_that_is_gone_ends_no_run(
    logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen, "EVERY_S", 0.01)
    ended, looks = Event(), []

    def standing() -> tuple[int, int]:
        looks.append(1)
        if len(looks) == 2:
            ended.set()
        return len(looks), 10

    nowhere = {PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(nowhere), pytest.warns(FutureWarning, match="outside of a flow"):
        seen._follow(standing, ended)
    assert len(looks) >= 2
    # Once, not every few seconds of a night.
    assert logged.text.count("progress could not be shown") == 1


def test_names_of_runs(server: str) -> None:
    def named(name: Any, **parameters: Any) -> str:
        @flow(name="named", flow_run_name=name)
        def of_models(
            models: list[str] | None = None, tasks: list[str] | None = None, force: bool = False
        ) -> str:
            return str(flow_run.get_name())

        return of_models(**parameters)

    assert named(seen.of_what("backfill"), models=["o/a", "o/b", "o/c"]) == "backfill-o/a,o/b+1"
    assert named(seen.of_what("rescore"), tasks=["gsm8k"], models=["o/a"]) == "rescore-gsm8k-o/a"
    assert re.fullmatch(
        r"retrain-\d{4}-\d\d-\d\dT\d\d:\d\dZ-force", named(seen.timed("retrain"), force=True)
    )
    hostile = named(seen.of_what("backfill"), models=[HOSTILE * 9])
    assert hostile.isprintable()
    assert len(hostile) <= 100


def test_outside_of_a_run_nothing_is_shown() -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert leave(create_table_artifact, key="plan", table=[]) is None
