"""A new model asked in rounds, each chosen by what it has answered, through the whole pipeline."""

import json

import duckdb
import pytest
from conftest import Pipeline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def rounds_of_late(pipeline: Pipeline) -> list[tuple[int, dict[str, int]]]:
    """Of each evaluation of the late model the queries asked, and who chose training queries."""
    with duckdb.connect(str(pipeline.folder / "state" / "warehouse.duckdb"), read_only=True) as con:
        rows = con.sql(
            "SELECT n_planned, settings FROM evaluation_run "
            "WHERE model_id = 'org/late' AND status = 'finished' ORDER BY started_at"
        ).fetchall()
        asked = con.sql(
            "SELECT count(*), count(DISTINCT query_id) FROM score WHERE model_id = 'org/late'"
        ).fetchall()
    settings = [json.loads(text) for _, text in rows]
    assert all(len(one["chosen_by_checkpoint"]) == 64 for one in settings)
    assert asked == [(sum(n for n, _ in rows),) * 2]
    return [(n, one["chosen_by"]) for (n, _), one in zip(rows, settings, strict=True)]


def test_adaptive_rounds(pipeline: Pipeline) -> None:
    # Of 30 bank queries 20 are asked, so that there is a choice.
    pipeline.environment.update(
        LOCUS_EVALUATION__STRATEGY="adaptive",
        LOCUS_EVALUATION__ADAPTIVE_BATCH="12",
        LOCUS_EVALUATION__TEST_QUERIES="5",
        LOCUS_EVALUATION__BOOTSTRAP_QUERIES="30",
    )
    pipeline.register("a", "b")
    first = pipeline.locus("run", "nightly")
    assert first.returncode == 0, first.stderr
    assert "training queries are chosen by the spread order" in first.stderr

    pipeline.register("a", "b", "late")
    dry = pipeline.locus("add-model", "org/late", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "would ask 17 queries of 1 models, then 8 more" in dry.stdout

    added = pipeline.locus("add-model", "org/late")
    assert added.returncode == 0, added.stderr
    assert "asked 25 queries, recorded 25 scores" in added.stdout
    assert rounds_of_late(pipeline) == [(17, {"adaptive": 12}), (8, {"adaptive": 8})]
