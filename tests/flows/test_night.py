"""Whole runs by the real command line against a real Prefect server."""

import json
import re
from pathlib import Path

import duckdb
import pytest
from conftest import Pipeline
from shared_server import ask
from typer.testing import CliRunner

from flows.add_model import add_model
from flows.cli import app
from locus.ids import InvalidIdError
from locus.snapshots import current, verify

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def query(pipeline: Pipeline, sql: str) -> list[tuple[object, ...]]:
    """Rows of the working warehouse, between two runs."""
    with duckdb.connect(str(pipeline.folder / "state" / "warehouse.duckdb"), read_only=True) as con:
        return con.sql(sql).fetchall()


def published(pipeline: Pipeline) -> Path:
    return pipeline.folder / "state" / "published"


def flow_runs(url: str, pipeline: Pipeline) -> list[dict[str, object]]:
    """Flow runs of a pipeline, as the server knows them."""
    asked = {"flow_runs": {"id": {"any_": pipeline.flow_run_ids()}}}
    runs: list[dict[str, object]] = ask(url, "/flow_runs/filter", **asked)
    return runs


def test_the_main_job(
    pipeline: Pipeline, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nights, of which a budget ends the first, a third with nothing to do, a new model."""
    # Every model costs a process that imports for seconds.
    pipeline.register("a", "b")
    thought = a_dry_run(pipeline)
    a_night_within_a_budget(pipeline)
    dry = pipeline.locus("run", "nightly", "--dry-run")
    assert "would ask 60 queries of 2 models" in dry.stdout
    assert "minutes of asking" in dry.stdout
    assert "by lengths of texts" not in dry.stdout

    first = pipeline.locus("run", "nightly")
    assert first.returncode == 0, first.stderr
    assert "trained an encoder, placed 2 models" in first.stdout
    # 80 documents, two models, every one asked once.
    assert query(pipeline, "SELECT count(*), count(DISTINCT (model_id, query_id)) FROM score") == [
        (160, 160)
    ]
    assert query(pipeline, "SELECT DISTINCT status FROM evaluation_run") == [("finished",)]
    (spent,) = query(pipeline, "SELECT sum(tokens_in + tokens_out), sum(cost_usd) FROM score")
    # A tokenizer of single characters reads four times what is taken for ordinary text.
    assert thought < int(str(spent[0])) < 10 * thought
    assert float(str(spent[1])) > 0
    snapshot = current(published(pipeline))
    verify(snapshot.folder, snapshot.manifest_sha256)
    assert snapshot.manifest["counts"]["models"] == 2
    assert {q["method"] for q in snapshot.manifest["routing_quality"]} >= {"routed", "oracle"}

    second = pipeline.locus("run", "nightly")
    assert second.returncode == 0, second.stderr
    assert "nothing new" in second.stdout
    assert current(published(pipeline)) == snapshot

    add_in_rounds(pipeline)
    after = current(published(pipeline))
    assert after.manifest["parent"] == snapshot.snapshot_id
    assert after.manifest["counts"]["models"] == 3
    assert "org/late" in (after.folder / "similarity" / "summary.md").read_text()
    lineage = (snapshot.manifest["lineage"], after.manifest["lineage"])
    assert lineage[0]["checkpoint_id"] == lineage[1]["checkpoint_id"]

    runs = flow_runs(prefect_server, pipeline)
    assert [run["state_type"] for run in runs] == ["COMPLETED"] * 7
    assert sum(str(run["name"]).startswith("nightly-") for run in runs) == 5
    assert any(str(run["name"]).startswith("add-model-org/late") for run in runs)
    theirs = {"flow_run_id": {"any_": [run["id"] for run in runs]}}
    artifacts = ask(prefect_server, "/artifacts/filter", artifacts=theirs)
    outcomes = [one["data"] for one in artifacts if one["key"] == "nightly-outcome"]
    assert any("nothing new" in data for data in outcomes)

    look_around(pipeline, monkeypatch)


def a_dry_run(pipeline: Pipeline) -> int:
    """A plan of a new pipeline, which changes nothing; gives the tokens that it expects."""
    pipeline.environment["LOCUS_EVALUATION__STRATEGY"] = "adaptive"
    dry = pipeline.locus("run", "nightly", "--dry-run")
    del pipeline.environment["LOCUS_EVALUATION__STRATEGY"]
    assert dry.returncode == 0, dry.stderr
    assert "training queries are chosen by the spread order" in dry.stderr
    found = re.search(
        r"would ask 160 queries of 2 models; about ([\d,]+) tokens, ([\d.]+) US dollars, time "
        r"unknown for 2 of 2 models",
        dry.stdout,
    )
    assert found, dry.stdout
    assert "org/a: 80 queries" in dry.stdout
    assert "by lengths of texts" in dry.stdout
    assert query(pipeline, "SELECT count(*) FROM score") == [(0,)]
    assert not published(pipeline).exists()
    return int(found[1].replace(",", ""))


def a_night_within_a_budget(pipeline: Pipeline) -> None:
    """It ends well; whoever goes on needs no budget."""
    # One after the other, so that it is known which limit ends which.
    limits = {
        "LOCUS_EVALUATION__PARALLEL": "1",
        "LOCUS_EVALUATION__BUDGET": '{"queries": 100}',
        "LOCUS_EVALUATION__MODEL_BUDGET": '{"queries": 70}',
    }
    pipeline.environment.update(limits)
    night = pipeline.locus("run", "nightly")
    for name in limits:
        del pipeline.environment[name]
    assert night.returncode == 0, night.stderr
    assert "asked 100 queries, recorded 100 scores" in night.stdout
    assert "a budget ended 2 models" in night.stdout
    assert "the first map is learned once" in night.stdout
    assert not published(pipeline).exists()
    assert "the run's budget of 100 queries is spent" in night.stdout
    assert "the model's budget of 70 queries is spent" in night.stdout
    counts = query(pipeline, "SELECT count(*) FROM score GROUP BY model_id ORDER BY 1")
    assert counts == [(30,), (70,)]
    # A run that a budget ended has not failed, and says why it is short.
    ended = query(pipeline, "SELECT DISTINCT status, n_planned, error FROM evaluation_run")
    assert {row[0] for row in ended} == {"finished"}
    assert all("is spent" in str(row[2]) for row in ended)


def add_in_rounds(pipeline: Pipeline) -> None:
    """A new model is asked in rounds, each chosen by what it has answered."""
    pipeline.environment.update(
        LOCUS_EVALUATION__STRATEGY="adaptive",
        LOCUS_EVALUATION__ADAPTIVE_BATCH="12",
        LOCUS_EVALUATION__TEST_QUERIES="5",
    )
    pipeline.register("a", "b", "late")
    dry = pipeline.locus("add-model", "org/late", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "would ask 17 queries of 1 models, then 8 more" in dry.stdout
    added = pipeline.locus("add-model", "org/late")
    assert added.returncode == 0, added.stderr
    assert "asked 25 queries, recorded 25 scores" in added.stdout
    assert "trained" not in added.stdout
    rounds = query(
        pipeline,
        "SELECT n_planned, settings FROM evaluation_run "
        "WHERE model_id = 'org/late' AND status = 'finished' ORDER BY started_at",
    )
    settings = [json.loads(str(text)) for _, text in rounds]
    assert [(n, one["chosen_by"]) for (n, _), one in zip(rounds, settings, strict=True)] == [
        (17, {"adaptive": 12}),
        (8, {"adaptive": 8}),
    ]
    assert all(len(one["chosen_by_checkpoint"]) == 64 for one in settings)
    answers = query(
        pipeline,
        "SELECT split, count(*), count(DISTINCT query_id) FROM score JOIN query USING (query_id) "
        "WHERE model_id = 'org/late' GROUP BY split ORDER BY split",
    )
    assert answers == [("test", 5, 5), ("train", 20, 20)]


def look_around(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reading commands on what was published; in this process, but where a shell matters."""
    monkeypatch.setenv("LOCUS_CONFIG", str(pipeline.folder / "locus.toml"))

    def ask(*words: str) -> str:
        result = CliRunner().invoke(app, list(words))
        assert result.exit_code == 0, result.output
        return result.stdout

    choices = json.loads(ask("route", "Copy the number 3", "--format", "json"))
    assert [c["rank"] for c in choices] == [1, 2, 3]
    assert all(0 <= c["p_correct"] <= 1 for c in choices)
    best = choices[0]["model_id"]
    excluded = ask("route", "Copy the number 3", "--exclude", best, "--format", "json")
    assert json.loads(excluded)[0]["model_id"] == choices[1]["model_id"]
    assert len(ask("similar", "org/late", "--format", "csv").strip().splitlines()) == 3
    # 160 of the first two, 25 of the late one.
    assert ask("sql", "select count(*) as n from score", "--format", "csv").split() == ["n", "185"]
    assert "tiny_copy" in ask("models", "show", "org/late")
    assert "org/late" in ask("models", "list")

    wrong = pipeline.locus("similar", "org/lat")
    assert wrong.returncode == 1
    assert wrong.stderr.strip().startswith("error:")
    assert "did you mean org/late" in wrong.stderr
    assert len(wrong.stderr.strip().splitlines()) == 1
    refused = pipeline.locus("sql", "select * from read_csv('/etc/passwd')")
    assert refused.returncode == 1
    assert "root:" not in refused.stdout + refused.stderr
    status = pipeline.locus("status")
    assert "3 models" in status.stdout


def test_adding_before_there_is_an_encoder(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = pipeline.locus("add-model", "org/a")
    assert run.returncode == 1
    assert "locus run nightly" in run.stderr
    assert not published(pipeline).exists()
    unknown = pipeline.locus("add-model", "org/nobody")
    assert unknown.returncode == 1
    assert "locus models add" in unknown.stderr
    monkeypatch.setenv("LOCUS_CONFIG", str(pipeline.folder / "locus.toml"))
    with pytest.raises(InvalidIdError, match="not valid"):
        add_model.fn("../../etc/passwd")
