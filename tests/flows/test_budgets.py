"""A night within a budget, by the real command line: it ends well and the next one goes on."""

import re

import pytest
from conftest import Pipeline
from test_night import published, query

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_night_within_a_budget(pipeline: Pipeline) -> None:
    pipeline.register("a", "b")
    dry = pipeline.locus("run", "nightly", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    found = re.search(
        r"would ask 160 queries of 2 models; about ([\d,]+) tokens, ([\d.]+) US dollars, time "
        r"unknown for 2 of 2 models",
        dry.stdout,
    )
    assert found, dry.stdout
    thought = int(found[1].replace(",", ""))
    assert "org/a: 80 queries" in dry.stdout
    assert "by lengths of texts" in dry.stdout

    # One after the other, so that it is known which limit ends which.
    pipeline.environment["LOCUS_EVALUATION__PARALLEL"] = "1"
    pipeline.environment["LOCUS_EVALUATION__BUDGET"] = '{"queries": 130}'
    pipeline.environment["LOCUS_EVALUATION__MODEL_BUDGET"] = '{"queries": 70}'
    first = pipeline.locus("run", "nightly")
    assert first.returncode == 0, first.stderr
    assert "asked 130 queries, recorded 130 scores" in first.stdout
    assert "a budget ended 2 models" in first.stdout
    assert "the first map is learned once" in first.stdout
    assert not published(pipeline).exists()
    assert "the run's budget of 130 queries is spent" in first.stdout
    assert "the model's budget of 70 queries is spent" in first.stdout
    counts = query(pipeline, "SELECT count(*) FROM score GROUP BY model_id ORDER BY 1")
    assert counts == [(60,), (70,)]
    # A run that a budget ended has not failed, and says why it is short.
    ended = query(pipeline, "SELECT DISTINCT status, n_planned, error FROM evaluation_run")
    assert {row[0] for row in ended} == {"finished"}
    assert all("is spent" in str(row[2]) for row in ended)

    for name in ("BUDGET", "MODEL_BUDGET"):
        del pipeline.environment[f"LOCUS_EVALUATION__{name}"]
    dry = pipeline.locus("run", "nightly", "--dry-run")
    assert "would ask 30 queries of 2 models" in dry.stdout
    assert "minutes of asking" in dry.stdout
    assert "by lengths of texts" not in dry.stdout
    second = pipeline.locus("run", "nightly")
    assert second.returncode == 0, second.stderr
    assert "trained an encoder, placed 2 models" in second.stdout
    assert query(pipeline, "SELECT count(*), count(DISTINCT (model_id, query_id)) FROM score") == [
        (160, 160)
    ]
    (spent,) = query(pipeline, "SELECT sum(tokens_in + tokens_out), sum(cost_usd) FROM score")
    # A tokenizer of single characters reads four times what is taken for ordinary text.
    assert thought < int(str(spent[0])) < 10 * thought
    assert float(str(spent[1])) > 0
