"""Budgets: exact in queries, never spent twice by models asked at the same time."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from locus.budget import PROBE, Budget, Estimate, Ledger, Purse, Spent

MEASURED = Estimate(tokens=10, usd=0.01, seconds=1.0, measured=True)


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def spend(purse: Purse, wanted: int, chunk: int = 32, tokens: int = 10, usd: float = 0.01) -> int:
    """Ask as a worker does, until all is asked or nothing more is allowed."""
    done = 0
    while done < wanted and (n := purse.allow(min(chunk, wanted - done))):
        purse.settle(Spent(n, n * tokens, n * usd))
        done += n
    purse.close()
    return done


@pytest.mark.parametrize(
    ("budget", "asked", "said"),
    [
        (Budget(queries=50), 50, "50 queries"),
        (Budget(tokens=499), 49, "499 tokens"),
        (Budget(usd=0.305), 30, "0.305 US dollars"),
        (Budget(queries=0), 0, "0 queries"),
        (Budget(usd=0), 0, "0 US dollars"),
        (Budget(), 200, None),
    ],
)
@pytest.mark.parametrize("whose", ["model", "run"])
def test_a_budget_ends_where_it_says(
    budget: Budget, asked: int, said: str | None, whose: str
) -> None:
    ledger = Ledger(budget if whose == "run" else Budget())
    purse = ledger.purse("m", budget if whose == "model" else Budget(), MEASURED)
    assert spend(purse, 200) == asked
    assert ledger.spent.queries == asked
    assert purse.stopped == (f"the {whose}'s budget of {said} is spent" if said else None)


def test_time_is_kept_by_what_a_query_has_taken() -> None:
    clock = Clock()
    ledger = Ledger(Budget(), clock)
    purse = ledger.purse("m", Budget(minutes=1), Estimate(tokens=1))
    assert purse.allow(30) == 30
    clock.now += 45
    purse.settle(Spent(30, 30))
    # 1.5 s each: 15 s are enough for 10.
    assert purse.allow(30) == 10
    clock.now += 15
    purse.settle(Spent(10, 10))
    assert purse.allow(1) == 0
    assert purse.stopped == "the model's budget of 1 minutes is spent"


def test_where_nothing_is_known_a_few_are_asked_first() -> None:
    ledger = Ledger(Budget(tokens=10_000))
    purse = ledger.purse("m", Budget(), Estimate(tokens=1))
    assert purse.allow(256) == PROBE
    purse.settle(Spent(PROBE, PROBE * 500))  # far more than was thought
    assert purse.allow(256) == 4
    # Without a limit on tokens or money nothing is to be learned first.
    assert Ledger(Budget(queries=300)).purse("m", Budget(), Estimate(tokens=1)).allow(256) == 256


@given(
    limit=st.integers(0, 300),
    workers=st.integers(1, 5),
    chunk=st.integers(1, 70),
)
def test_models_at_the_same_time_share_what_there_is(limit: int, workers: int, chunk: int) -> None:
    ledger = Ledger(Budget(queries=limit))
    done: list[int] = []
    threads = [
        threading.Thread(
            target=lambda i=i: done.append(
                spend(ledger.purse(str(i), Budget(), MEASURED), 80, chunk)
            )
        )
        for i in range(workers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(done) == min(limit, 80 * workers) == ledger.spent.queries


def test_what_a_dead_worker_had_set_aside_is_given_back() -> None:
    ledger = Ledger(Budget(queries=10))
    dead = ledger.purse("dead", Budget(), MEASURED)
    assert dead.allow(10) == 10
    assert ledger.purse("other", Budget(), MEASURED).allow(1) == 0
    dead.close()
    assert ledger.purse("third", Budget(), MEASURED).allow(10) == 10


def test_what_has_no_price_is_not_free() -> None:
    purse = Ledger(Budget(usd=1.0)).purse("m", Budget(), Estimate(tokens=1))
    assert not purse.may_ask()
    assert "has no price" in str(purse.stopped)
    assert Ledger(Budget(usd=1.0)).purse("m", Budget(), Estimate(tokens=1, usd=0.0)).may_ask()


def test_looking_whether_anything_may_be_asked_sets_nothing_aside() -> None:
    purse = Ledger(Budget(queries=1)).purse("m", Budget(), MEASURED)
    assert purse.may_ask()
    assert spend(purse, 5) == 1


def test_rounds_of_one_model_share_its_purse() -> None:
    ledger = Ledger(Budget())
    for left in (30, 10, 0):
        purse = ledger.purse("m", Budget(queries=40), MEASURED)
        assert spend(purse, 30) == left
    assert spend(ledger.purse("other", Budget(queries=40), MEASURED), 30) == 30


def test_what_a_plan_would_exceed() -> None:
    budget = Budget(queries=100, tokens=1000, minutes=2)
    assert budget.exceeded_by(100, 1000, 99.0, 120) == []
    assert budget.exceeded_by(101, 999, None, None) == ["100 queries"]
    assert budget.exceeded_by(1, 1001, 0.0, 121) == ["1000 tokens", "2 minutes"]


def test_the_models_own_limits_win_and_the_others_stay() -> None:
    assert Budget(queries=5).within(Budget(queries=9, usd=1.0)) == Budget(queries=5, usd=1.0)
    assert Budget(usd=0.0).within(Budget(usd=1.0)) == Budget(usd=0.0)


@pytest.mark.parametrize("wrong", [{"queries": -1}, {"usd": -0.1}, {"dollars": 1}, {"tokens": "x"}])
def test_wrong_budgets_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        TypeAdapter(Budget).validate_python(wrong)
