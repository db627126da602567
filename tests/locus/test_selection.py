"""Plans: even over tasks, the same first n for everybody, nothing asked twice."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locus.acquisition import items_of, panel_order
from locus.acquisition.items import Floats
from locus.ids import split_of
from locus.selection import MAP_STRATEGIES, MapChooser, plan, plan_by_map, spread_order

BANK = pl.DataFrame(
    [(f"{t}-{i}", t, split_of(f"{t}-{i}")) for t in "abc" for i in range(60)],
    schema=["query_id", "task", "split"],
    orient="row",
)


def asked(**budgets: int | None) -> set[str]:
    chosen = plan(BANK, [], **{"n_train": 0, "n_val": 0, "n_test": 0, **budgets})
    return {q for ids in chosen.queries.values() for q in ids}


@settings(max_examples=30, deadline=None)
@given(small=st.integers(0, 120), more=st.integers(0, 60))
def test_a_larger_budget_only_adds(small: int, more: int) -> None:
    assert asked(n_train=small) <= asked(n_train=small + more)


def test_tasks_take_turns() -> None:
    counts = [len(ids) for ids in plan(BANK, [], n_train=30, n_test=0).queries.values()]
    assert max(counts) - min(counts) <= 1


def test_splits_are_kept_apart() -> None:
    test = set(BANK.filter(split="test")["query_id"])
    assert not asked(n_train=None) & test
    assert asked(n_test=None) == test


def test_answered_queries_are_not_asked_again() -> None:
    first = plan(BANK, [], n_train=20, n_test=5)
    done = [q for ids in first.queries.values() for q in ids]
    again = plan(BANK, done, n_train=20, n_test=5)
    assert (again.n_queries, again.wanted, again.answered) == (0, 25, 25)
    assert plan(BANK, done[:10], n_train=20, n_test=5).n_queries == 15


def test_order_does_not_depend_on_the_order_of_rows() -> None:
    shuffled = BANK.sample(fraction=1, shuffle=True, seed=1)
    assert spread_order(BANK)["query_id"].to_list() == spread_order(shuffled)["query_id"].to_list()


def test_negative_budgets_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        plan(BANK, [], n_train=-1)


@dataclass(frozen=True)
class Fitted:
    """Two factors, of which the queries of task b tell most."""

    mean_Q: Floats
    factors_Qk: Floats
    noise_Q: Floats


def fitted(ids: list[str]) -> Fitted:
    rng = np.random.default_rng(0)
    of_b = np.array([query.startswith("b") for query in ids])
    factors = rng.normal(size=(len(ids), 2)) * np.where(of_b[:, None], [0.1, 0.4], 0.2)
    return Fitted(rng.uniform(0.2, 0.8, len(ids)), factors, rng.uniform(0.05, 0.2, len(ids)))


KNOWN = BANK.filter(split="train")["query_id"].to_list()
TASKS = dict(BANK.select("query_id", "task").iter_rows())


def chooser(name: str, askable: list[str], batch: int = 8) -> MapChooser:
    return MapChooser(name, fitted(KNOWN), KNOWN, TASKS, 50, askable, batch=batch)


def test_the_panel_is_the_acquisitions_order() -> None:
    order = panel_order(items_of(fitted(KNOWN), [TASKS[q] for q in KNOWN], 50))
    made = chooser("panel", KNOWN)
    assert made.choose("m", {}, 9) == [KNOWN[i] for i in order[:9].tolist()]
    assert made.choose("m", {}, len(KNOWN)) == [KNOWN[i] for i in order.tolist()]


def test_what_cannot_be_asked_takes_no_place_in_the_panel() -> None:
    without_b = [query for query in KNOWN if not query.startswith("b")]
    whole = chooser("panel", KNOWN).choose("m", {}, len(KNOWN))
    some = chooser("panel", without_b).choose("m", {}, len(without_b))
    assert sorted(some) == sorted(without_b)
    # Striking b out of the whole order would keep places that only made sense beside b's queries.
    assert some != [query for query in whole if query in set(without_b)]


@pytest.mark.parametrize("name", MAP_STRATEGIES)
@pytest.mark.parametrize("askable", [[], ["stranger"]])
def test_a_bank_of_which_nothing_can_be_asked_leaves_all_to_the_spread_order(
    name: str, askable: list[str]
) -> None:
    planned = plan_by_map(BANK, "m", {}, chooser(name, askable), n_train=20, n_test=3)
    spread = plan(BANK, [], n_train=20, n_test=3)
    assert planned == spread
    assert planned.chosen_by == {"spread": 20}


def test_adaptive_reads_answers_to_what_it_may_not_ask() -> None:
    askable, others = KNOWN[::2], KNOWN[1::2]
    made = chooser("adaptive", askable)
    strong = made.choose("m", dict.fromkeys(others, 1.0), 12)
    weak = made.choose("m", dict.fromkeys(others, 0.0), 12)
    assert set(strong) | set(weak) <= set(askable)
    assert strong != weak


def test_a_strategy_that_reads_no_map_is_refused() -> None:
    with pytest.raises(ValueError, match="spread"):
        chooser("spread", KNOWN)
    with pytest.raises(ValueError, match="negative"):
        plan_by_map(BANK, "m", {}, chooser("panel", KNOWN), n_train=-1)
