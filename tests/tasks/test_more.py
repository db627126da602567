"""More questions to placed models, on a real warehouse and map: whom, how many, when none."""

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from planned_world import ASKABLE, MODELS, TASK_OF, World, a_world, add_map, asked, fit

from flows.outcome import Outcome
from locus.budget import Budget
from locus.embedding.maps import FactorMap
from locus.registry import ModelSpec
from tasks.discover import Discovered
from tasks.estimate import Expected, expect
from tasks.more import BY, left_of, plan_more
from tasks.plan import PlannedModel
from warehouse import contracts
from warehouse.store import Warehouse

NO_LIMIT = Budget()
ONE, TWO = (model.spec.id for model in MODELS)


@pytest.fixture(scope="module")
def fitted() -> FactorMap:
    return fit()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, fitted: FactorMap) -> World:
    """Of 40 queries that can be asked the first model has answered 4, the second 28."""
    made = a_world(tmp_path_factory.mktemp("more") / "home")
    add_map(made, fitted)
    made.answer(ONE, sorted(ASKABLE)[::10], 1.0)
    made.answer(TWO, sorted(ASKABLE)[:28], 0.0)
    return made


def more(
    world: World,
    n: int,
    left: Budget = NO_LIMIT,
    models: list[Discovered] = MODELS,
    taken: dict[str, Expected] | None = None,
    at: datetime | None = None,
    strategy: str = "stratified",
    most: int = 12,
    **values: object,
) -> dict[str, PlannedModel]:
    values = {"more_queries": n, "more_min_gain": 0, "adaptive_batch": 4, **values}
    settings = world.settings(strategy, most, **values)
    planned = plan_more.fn(settings, models, left, taken, at=at)
    return {one.model.spec.id: one for one in planned}


def total(found: dict[str, PlannedModel]) -> int:
    return sum(one.plan.n_queries for one in found.values())


def test_the_budget_goes_to_whom_it_tells_most_and_nothing_twice(world: World) -> None:
    found = more(world, 12)
    assert list(found) == [ONE]
    assert asked(found[ONE]) <= ASKABLE - set(sorted(ASKABLE)[::10])
    assert found[ONE].lineage()["chosen_by"] == {f"{BY}, stratified": 12}
    assert len(str(found[ONE].lineage()["chosen_by_checkpoint"])) == 64
    assert more(world, 12, models=MODELS[::-1]) == found
    told = more(world, 12, strategy="adaptive")[ONE]
    assert told.plan.chosen_by == {f"{BY}, adaptive": 12}
    assert asked(told) != asked(found[ONE])
    assert more(world, 12, strategy="spread") == found
    # Nobody takes all: each is asked 12 (`new_model_queries`) at most, and what there is.
    every = more(world, 1000)
    assert [len(asked(every[name])) for name in (ONE, TWO)] == [12, 12]
    assert asked(every[TWO]) == ASKABLE - set(sorted(ASKABLE)[:28])
    assert len(asked(more(world, 1000, most=50)[ONE])) == 36


def test_it_ends_where_little_is_left_to_learn(world: World) -> None:
    assert more(world, 0) == more(world, 1000, more_min_gain=1) == {}
    some = more(world, 1000, more_min_gain=0.006, most=50)
    assert set(some) == {ONE}
    assert 0 < total(some) < 36


def test_it_keeps_every_budget(world: World) -> None:
    with Warehouse.open(world.settings("panel").warehouse) as w:
        each = expect(w, list(more(world, 12).values()))[ONE].each()
    assert each.tokens > 0
    assert total(more(world, 24, Budget(queries=5))) == 5
    tokens = int(6.5 * each.tokens)
    assert 0 < total(more(world, 24, Budget(tokens=tokens))) <= 7
    assert more(world, 24, Budget(tokens=0)) == more(world, 24, Budget(queries=0)) == {}
    # A local model without a price costs no money.
    assert total(more(world, 24, Budget(usd=0))) == 24
    spent = Expected(7, 0, 0, None, None, measured=True)
    own = more(world, 24, model_budget={"queries": 10}, taken={ONE: spent})
    assert [len(asked(own[name])) for name in (ONE, TWO)] == [3, 10]
    assert left_of(Budget(5, 100, 1.0, 2.0), 7, 40, None, 60) == Budget(0, 60, 1.0, 1.0)
    assert left_of(Budget(), 7, 40, 2.0, 60) == Budget()


def priced(name: str, usd: float | None) -> Discovered:
    spec = ModelSpec(
        id=name,
        backend="local-completions",
        args={"model": "m", "base_url": "http://127.0.0.1:9/v1/completions"},
        price_in_usd_per_mtok=usd,
        price_out_usd_per_mtok=usd,
    )
    return Discovered(spec, "r")


def test_what_is_worth_most_is_reckoned_per_dollar(world: World) -> None:
    dear, cheap = priced(ONE, 1000.0), priced(TWO, 0.1)
    assert list(more(world, 12, models=[dear, cheap])) == [TWO]
    # With one price unknown a query counts as a query, and within a budget it isn't asked at all.
    unknown = [priced(ONE, None), cheap]
    assert list(more(world, 12, models=unknown)) == [ONE]
    assert list(more(world, 12, Budget(usd=1), models=unknown)) == [TWO]


def test_not_by_another_map_nor_whom_nothing_is_known_of(
    tmp_path: Path, fitted: FactorMap, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "locus.pipeline")
    mine = a_world(tmp_path / "home")
    assert more(mine, 12) == {}
    assert "needs a map, and there is none yet" in caplog.text
    add_map(mine, fitted)
    assert more(mine, 12) == {}
    # What is barred, has no answer after some runs, or was asked tonight already, isn't asked.
    chat = ModelSpec(
        id="org/chat",
        backend="local-chat-completions",
        args={"model": "m", "base_url": "http://127.0.0.1:9/v1/chat/completions"},
    )
    with Warehouse.open(mine.settings("panel").warehouse) as w:
        rows = [{"model_id": chat.id, "source": "registry"}]
        w.catalogue.add_models(contracts.build(contracts.ModelFrame, rows))
    right = sorted(query for query in ASKABLE if TASK_OF[query] == "right")
    mine.answer(chat.id, right[:3], 1.0)
    mine.answer(chat.id, right[3:5], 0.0, status="refused")
    served = [Discovered(chat, "r")]
    assert asked(more(mine, 50, models=served, attempts=1, most=50)[chat.id]) == set(right[5:])
    first = more(mine, 8, models=served)[chat.id]
    with Warehouse.open(mine.settings("panel").warehouse) as w:
        w.scores.start_run("more", "lm-eval", chat.id, "r", first.lineage(), {}, None, 8)
    assert more(mine, 8, models=served) == {}
    assert total(more(mine, 11, models=served)) == 3
    assert total(more(mine, 8, models=served, at=datetime.now(UTC) + timedelta(hours=21))) == 8
    add_map(mine, fitted, "another/encoder")
    assert more(mine, 12, models=served) == {}
    assert "needs a map of the sentence encoder in use" in caplog.text


def test_the_outcome_tells_it_apart(world: World) -> None:
    with Warehouse.open(world.settings("panel").warehouse) as w:
        plan = expect(w, list(more(world, 24).values()))
    rehearsed = Outcome(dry_run=True, more_plan=plan)
    assert "would ask 0 queries of 0 models, and 24 more of 2 known models; about" in (
        rehearsed.headline()
    )
    done = Outcome(more_plan=plan, more=20, recorded=19)
    assert not done.nothing_new
    assert done.headline().startswith("asked 20 more of 2 known models, recorded 19 scores")
    both = replace(done, asked=5)
    assert "asked 5 queries, asked 20 more of 2 known models, recorded 19" in both.headline()
