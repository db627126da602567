"""Plans on a real warehouse and a map on disk: who chooses, the budget, and nothing twice."""

import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from planned_world import (
    ASKABLE,
    MODELS,
    QUERIES,
    REGISTERED,
    World,
    a_world,
    add_map,
    asked,
    fit,
)

from locus.embedding import checkpoint
from locus.embedding.maps import FactorMap
from locus.registry import ModelSpec
from locus.selection import plan, spread_order
from tasks.discover import Discovered
from tasks.plan import PlannedModel, plan_queries
from warehouse import contracts
from warehouse.store import Warehouse

STRATEGIES = ("random", "stratified", "panel", "adaptive")


@pytest.fixture(scope="module")
def fitted() -> FactorMap:
    return fit()


@pytest.fixture
def mapless(tmp_path: Path) -> World:
    return a_world(tmp_path / "home")


@pytest.fixture
def world(mapless: World, fitted: FactorMap) -> World:
    add_map(mapless, fitted)
    return mapless


def test_the_panel_is_the_same_for_everybody_and_nested(world: World) -> None:
    small, large = world.plan("panel", 10), world.plan("panel", 25)
    assert asked(small["org/one"]) == asked(small["org/two"])
    assert asked(small["org/one"]) < asked(large["org/one"])
    assert len(asked(large["org/one"])) == 25
    world.answer("org/one", asked(small["org/one"]), 1.0)
    grown = world.plan("panel", 25)
    assert asked(grown["org/one"]) == asked(large["org/two"]) - asked(small["org/two"])
    assert asked(grown["org/two"]) == asked(large["org/two"])
    bank = QUERIES.filter(pl.col("task").is_in(REGISTERED))
    assert asked(small["org/one"]) != asked(PlannedModel(MODELS[0], plan(bank, [], n_train=10,
                                                                         n_test=0)))  # fmt: skip


def test_random_is_nested_and_each_models_own(world: World) -> None:
    small, large = world.plan("random", 10), world.plan("random", 25)
    other = world.plan("random", 10, seed=1)
    assert asked(small["org/one"]) < asked(large["org/one"])
    assert asked(small["org/one"]) != asked(small["org/two"])
    assert asked(small["org/one"]) != asked(other["org/one"])
    world.answer("org/one", asked(small["org/one"]), 1.0)
    grown = asked(world.plan("random", 25)["org/one"])
    assert grown == asked(large["org/one"]) - asked(small["org/one"])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_answers_count_whoever_chose_them_and_are_not_asked_again(
    world: World, strategy: str
) -> None:
    done = spread_order(QUERIES.filter(pl.col("query_id").is_in(list(ASKABLE))))["query_id"]
    world.answer("org/one", done[:7], 1.0)
    found = world.plan(strategy, 12)
    one = asked(found["org/one"])
    assert (len(one), one & set(done[:7])) == (5, set())
    assert len(asked(found["org/two"])) == 12
    assert found["org/one"].lineage()["chosen_by"] == {strategy: 5}
    world.answer("org/one", one, 0.0)
    assert world.plan(strategy, 12)["org/one"].plan.n_queries == 0
    assert world.plan(strategy, 5)["org/one"].plan.n_queries == 0


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_only_registered_tasks_are_asked_and_the_rest_is_the_spread_orders(
    world: World, strategy: str
) -> None:
    found = world.plan(strategy, len(ASKABLE) + 7, adaptive_batch=len(ASKABLE) + 7)["org/one"]
    fresh = spread_order(QUERIES.filter(pl.col("query_id").str.starts_with("fresh")))["query_id"]
    assert asked(found) == ASKABLE | set(fresh[:7])
    assert found.plan.chosen_by == {strategy: len(ASKABLE), "spread": 7}
    everything = world.plan(strategy, 10_000, adaptive_batch=10_000)["org/one"]
    assert asked(everything) == ASKABLE | set(fresh)


def test_what_gets_no_answer_is_given_up_after_some_runs(world: World) -> None:
    (first,) = [p for m, p in world.plan("stratified", 6, attempts=2).items() if m == "org/one"]
    bad = sorted(asked(first))[0]
    world.answer("org/one", sorted(asked(first))[1:], 1.0)
    for _ in range(2):
        again = world.plan("stratified", 6, attempts=2)["org/one"]
        assert again.plan.n_queries == 1
        world.answer("org/one", [bad], 0.0, status="refused")
    # Two runs without an answer: it counts as asked, nothing is asked in its place.
    assert world.plan("stratified", 6, attempts=2)["org/one"].plan.n_queries == 0
    assert world.plan("stratified", 6, attempts=3)["org/one"].plan.n_queries == 1
    assert world.plan("spread", 6, attempts=2)["org/two"].plan.n_queries == 6


def test_test_queries_stay_the_spread_orders(world: World) -> None:
    planned = world.plan("panel", 5, test_queries=4)["org/one"]
    order = spread_order(QUERIES.filter(split="test"))["query_id"]
    assert {q for q in asked(planned) if q.startswith("test")} == set(order[:4])
    assert planned.plan.n_queries == 9


def _no_map(world: World, fitted: FactorMap) -> None:
    del world, fitted


def _other_encoder(world: World, fitted: FactorMap) -> None:
    add_map(world, fitted, "another/encoder")


def _attention(world: World, fitted: FactorMap) -> None:
    # Only its record says so: a map of that kind must not even be read.
    made = add_map(world, fitted, config={"method": "attention"})
    shutil.rmtree(world.settings("panel").checkpoints / made)


@pytest.mark.parametrize(
    ("prepare", "why"),
    [(_no_map, "none yet"), (_other_encoder, "sentence encoder"), (_attention, "by factors")],
)
def test_the_spread_order_serves_where_there_is_no_map_of_factors(
    mapless: World,
    fitted: FactorMap,
    caplog: pytest.LogCaptureFixture,
    prepare: Callable[[World, FactorMap], None],
    why: str,
) -> None:
    prepare(mapless, fitted)
    with caplog.at_level(logging.INFO, "locus.pipeline"):
        found = mapless.plan("panel", 12, bootstrap_queries=12)
    bank = QUERIES.filter(pl.col("task").is_in(REGISTERED))
    expected = plan(bank, [], n_train=12, n_test=0)
    assert found["org/one"].plan == found["org/two"].plan == expected
    assert found["org/one"].lineage() == {
        "chosen_by": {"spread": 12},
        "chosen_by_checkpoint": None,
    }
    assert why in caplog.text


def test_rounds_follow_the_answers_and_keep_the_budget(world: World) -> None:
    seen: dict[str, list[set[str]]] = {"org/one": [], "org/two": []}
    later = []
    for _ in range(4):
        found = world.plan("adaptive", 20, adaptive_batch=6)
        later.append(found["org/one"].plan.later)
        for name, score in (("org/one", 1.0), ("org/two", 0.0)):
            queries = asked(found[name])
            assert not queries & set().union(*seen[name])
            seen[name].append(queries)
            world.answer(name, queries, score)
    assert [len(queries) for queries in seen["org/one"]] == [6, 6, 6, 2]
    assert later == [14, 8, 2, 0]
    # Before any answer nothing tells the two apart; afterwards a strong and a weak model differ.
    assert set().union(*seen["org/one"][1:]) != set().union(*seen["org/two"][1:])
    assert world.plan("adaptive", 20, adaptive_batch=6)["org/one"].plan.n_queries == 0


def test_what_a_run_has_asked_is_spent_even_without_an_answer(world: World) -> None:
    settings = world.settings("adaptive", 20, adaptive_batch=6)
    spent: dict[str, list[str]] = {"org/one": []}
    rounds = []
    while queries := asked(plan_queries.fn(settings, MODELS[:1], spent)[0]):
        assert not queries & set(spent["org/one"])
        world.answer("org/one", queries, 0.0, status="error")
        spent["org/one"] += sorted(queries)
        rounds.append(len(queries))
    assert rounds == [6, 6, 6, 2]
    # The next run may try them again.
    assert asked(plan_queries.fn(settings, MODELS[:1])[0]) <= ASKABLE


def test_the_map_is_read_only_if_somebody_needs_queries(world: World) -> None:
    for each in MODELS:
        world.answer(each.spec.id, asked(world.plan("panel", 12)[each.spec.id]), 1.0)
    shutil.rmtree(world.settings("panel").checkpoints)
    assert [p.plan.n_queries for p in world.plan("panel", 12).values()] == [0, 0]
    with pytest.raises(checkpoint.CheckpointError):
        world.plan("panel", 13)


def test_planning_by_a_map_needs_no_torch(world: World) -> None:
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from planned_world import World
found = World(Path({str(world.home)!r})).plan("adaptive", 12)
assert found["org/one"].plan.chosen_by == {{"adaptive": 12}}, found
sys.exit(str(sorted({{"torch", "lm_eval"}} & set(sys.modules))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip().splitlines()[-1] == "[]"


@pytest.mark.parametrize("strategy", ["spread", "stratified"])
def test_a_model_is_not_planned_what_its_backend_cannot_do(
    world: World, strategy: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = "http://127.0.0.1:9/v1/chat/completions"
    chat = ModelSpec(
        id="org/chat", backend="local-chat-completions", args={"model": "m", "base_url": url}
    )
    with Warehouse.open(world.settings(strategy).warehouse) as w:
        rows = [{"model_id": chat.id, "source": "registry"}]
        w.catalogue.add_models(contracts.build(contracts.ModelFrame, rows))
    caplog.set_level(logging.INFO, "locus.pipeline")
    settings = world.settings(strategy, 12, test_queries=4)
    local, served = plan_queries.fn(settings, [MODELS[0], Discovered(chat, "r")])
    assert set(served.plan.queries) == {"right"}
    assert served.plan.n_queries == 12 + 4
    assert set(local.plan.queries) == set(REGISTERED)
    assert "org/chat is not asked task 'left'" in caplog.text
