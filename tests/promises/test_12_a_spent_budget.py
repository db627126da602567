"""Promise 12: a spent budget stops a run cleanly and keeps what is done.

How each limit is reckoned and shared: tests/locus/test_budget.py.
"""

import pytest
from nights import BUDGET, Pipeline, query, status_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_spent_budget(hard_night: Pipeline) -> None:
    _, said = status_of(hard_night)
    assert f"the model's budget of {BUDGET} queries is spent" in said
    assert "a budget ended 1 models" in said
    # Stopped is not failed, and says why it is short.
    ended = "SELECT status, n_planned, n_ok, error FROM evaluation_run WHERE model_id = 'org/late'"
    ((status, planned, answered, why),) = query(hard_night, ended)
    assert (status, answered) == ("finished", BUDGET)
    assert f"budget of {BUDGET} queries is spent" in str(why)
    kept = "SELECT count(*) FROM score WHERE model_id = 'org/late'"
    assert query(hard_night, kept) == [(BUDGET,)]
    # The next run asks the rest and nothing else.
    next_one = hard_night.locus("run", "nightly", "--dry-run")
    assert next_one.returncode == 0, next_one.stderr
    assert f"org/late: {int(str(planned)) - BUDGET} queries" in next_one.stdout
