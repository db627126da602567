"""Promise 6: a backfill runs nightly's code, and asks only what is missing."""

import subprocess
import sys
from pathlib import Path

import pytest
from nights import Pipeline, copy_of, query, snapshot

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BACKFILL = """
from flows.backfill import backfill
print(backfill(models=["org/late"], queries=30).headline())
"""


def test_backfill(second_night: Pipeline, tmp_path: Path) -> None:
    night = copy_of(second_night, tmp_path / "night")
    old = snapshot(night)
    done = subprocess.run(
        [sys.executable, "-c", BACKFILL],
        cwd=night.folder,
        env=night.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Twenty training queries were asked of it in its first night.
    assert "asked 10 queries, recorded 10 scores, placed 1 models, published" in done.stdout
    runs = "SELECT kind, model_id, status, n_planned FROM evaluation_run ORDER BY started_at"
    *before, last = query(night, runs)
    assert before == query(second_night, runs)
    assert last == ("lm-eval", "org/late", "finished", 10)
    asked = "SELECT count(*), count(DISTINCT query_id) FROM score WHERE model_id = 'org/late' "
    asked += "AND query_id IN (SELECT query_id FROM query WHERE split = 'train')"
    assert query(night, asked) == [(30, 30)]
    new = snapshot(night)
    assert new.manifest["parent"] == old.snapshot_id
    assert new.manifest["counts"]["scores"] == old.manifest["counts"]["scores"] + 10
