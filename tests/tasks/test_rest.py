"""A model that keeps failing rests, on a real warehouse."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from locus.evaluation.parts import write_part
from locus.registry import ModelSpec
from tasks.discover import Discovered
from tasks.rest import SLACK, resting
from tasks.settings import EvaluationSettings, Settings
from warehouse import contracts
from warehouse.store import Warehouse

URL = "http://127.0.0.1:9/v1/chat/completions"


def served(**more: object) -> Discovered:
    args = {"model": "m", "base_url": URL, **more}
    spec = ModelSpec(id="org/served", backend="local-chat-completions", args=args)
    return Discovered(spec, "unversioned")


class World:
    """A warehouse with one model and its runs."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(
            home=home, evaluation=EvaluationSettings(rest_after_failures=2, rest_days_most=4)
        )
        self.n = 0
        home.mkdir()
        with Warehouse.open(self.settings.warehouse) as w:
            rows = [{"model_id": "org/served", "source": "registry"}]
            w.catalogue.add_models(contracts.build(contracts.ModelFrame, rows))
            task = {"task": "t", "task_version": "1", "source": "lm-eval"}
            w.catalogue.add_tasks(contracts.build(contracts.TaskFrame, [task]))
            query = {"query_id": "q", "task": "t", "task_version": "1", "split": "train"}
            query["text"] = "?"
            w.catalogue.add_queries(contracts.build(contracts.QueryFrame, [query]))

    def run(self, status: str, error: str | None, model: Discovered, answers: int = 0) -> None:
        self.n += 1
        run = f"run-{self.n}"
        settings = {"backend": model.spec.backend, "args": dict(model.spec.args)}
        with Warehouse.open(self.settings.warehouse) as w:
            w.scores.start_run(run, "lm-eval", "org/served", "unversioned", settings, {}, None, 5)
            if answers:
                row = {
                    "model_id": "org/served", "revision": "unversioned", "query_id": "q",
                    "status": "ok", "score": 1.0, "metric": "acc", "filter": "none",
                    "scored_at": datetime.now(UTC),
                }  # fmt: skip
                part = self.settings.home / f"{run}.parquet"
                write_part([row], part)
                w.scores.merge_part(part, run)
            w.scores.finish_run(run, status, error)

    def resting(self, model: Discovered, after: timedelta = timedelta()) -> dict[str, str]:
        with Warehouse.open(self.settings.warehouse) as w:
            return resting(self.settings, w, [model], datetime.now(UTC) + after)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "home")


def test_rests_double_up_to_the_longest_and_end(world: World) -> None:
    model = served()
    day = timedelta(days=1)
    world.run("failed", "no answer", model)
    assert world.resting(model) == {}
    for days in (1, 2, 4, 4):
        world.run("failed", "HTTP 500: down", model)
        said = world.resting(model)["org/served"]
        assert "HTTP 500: down" in said
        assert "locus add-model org/served" in said
        assert world.resting(model, days * day - SLACK - timedelta(minutes=1))
        assert not world.resting(model, days * day - SLACK + timedelta(minutes=1))


@pytest.mark.parametrize(
    "good",
    [
        lambda w, m: w.run("finished", None, m),
        lambda w, m: w.run("failed", "8 requests in a row failed", m, answers=1),
    ],
)
def test_an_answer_ends_it(world: World, good: Callable[[World, Discovered], None]) -> None:
    model = served()
    for _ in range(3):
        world.run("failed", "down", model)
    assert world.resting(model)
    good(world, model)
    assert not world.resting(model)
    world.run("failed", "down", model)
    assert not world.resting(model)  # counted from the answer on


def test_so_does_whoever_mends_the_registry(world: World) -> None:
    for _ in range(3):
        world.run("failed", "the service has no such model", served())
    assert world.resting(served())
    assert not world.resting(served(model="other"))
    assert not world.resting(served(num_concurrent=1))


def test_interruptions_are_not_the_models_fault(world: World) -> None:
    for _ in range(5):
        world.run("failed", "interrupted", served())
    assert not world.resting(served())
