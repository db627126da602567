"""Plans: even over tasks, the same first n for everybody, nothing asked twice."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locus.ids import split_of
from locus.selection import plan, spread_order

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
