"""What is a dead worker where it says nothing; `tests/flows/test_pool.py` kills real ones."""

from pathlib import Path
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import Running

from locus.budget import Budget, Estimate
from locus.evaluation.jobs import JobFolder, Limits
from locus.storage import open_storage
from tasks import pool_follow
from tasks.pool_follow import Follow, pool_of


@flow
def silent() -> None:
    """Nobody runs it."""


@pytest.mark.slow
def test_one_that_dies_before_its_first_sign_is_not_waited_for_like_an_image(
    tmp_path: Path, prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_follow, "FIRST_SIGN_S", 1.5)
    folder = JobFolder(open_storage(str(tmp_path)), f"{uuid4()}-1")
    limits = Limits(timeout_s=600, silence_s=1.5, budget=Budget(), estimate=Estimate(tokens=1))
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(silent)
        client.set_flow_run_state(run.id, Running(), force=True)
    end = Follow(
        "org/m", pool_of("nobody"), folder, limits, run.id, 600, lambda _: None, lambda: None
    ).to_its_end()
    assert end.died == "a worker began it and gave no sign of life for 1.5 s"
