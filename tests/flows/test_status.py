"""`locus status` on a real warehouse, before, during and after a night, with no server to ask."""

import json
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli import app, standing
from locus.evaluation.parts import write_part
from locus.snapshots import building_folder, make_current, seal
from tasks.freshness import note_night
from tasks.lock import pipeline_lock
from tasks.settings import Settings, load_settings
from warehouse import contracts
from warehouse.store import Warehouse

URL = "http://127.0.0.1:9/v1/chat/completions"
HOSTILE = "it failed\x1b[2J\u202e badly"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    (tmp_path / "locus.toml").write_text(
        'home = "state"\n[evaluation]\nrest_after_failures = 1\n'
        "[evaluation.budget]\nqueries = 5000\nusd = 2.0\n"
    )
    entry = "- {{id: org/{0}, backend: local-chat-completions, revision: r2, "
    entry += "args: {{model: {0}, base_url: '{1}'}}}}\n"
    models = "".join(entry.format(name, URL) for name in ("done", "behind", "new", "tired"))
    (tmp_path / "models.yaml").write_text("models:\n" + models)
    monkeypatch.setenv("LOCUS_CONFIG", str(tmp_path / "locus.toml"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return load_settings()


def told(*words: str) -> str:
    """What the verb prints."""
    done = CliRunner().invoke(app, ["status", *words])
    assert done.exit_code == 0, done.exception
    return done.stdout


def as_json() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(told("--format", "json"))
    return found


def evaluated(settings: Settings, model: str, revision: str, answers: int) -> None:
    """A run of some answers, each of 150 tokens and 0.01 USD; one without any failed."""
    with Warehouse.open(settings.warehouse) as w:
        rows = [{"model_id": model, "source": "registry"}]
        w.catalogue.add_models(contracts.build(contracts.ModelFrame, rows))
        task = {"task": "t", "task_version": "1", "source": "lm-eval"}
        w.catalogue.add_tasks(contracts.build(contracts.TaskFrame, [task]))
        queries = [
            {"query_id": f"q{i}", "task": "t", "task_version": "1", "split": "train", "text": "?"}
            for i in range(9)
        ]
        w.catalogue.add_queries(contracts.build(contracts.QueryFrame, queries))
        run = f"{model}@{revision}"
        asked = {"backend": "local-chat-completions"}
        asked["args"] = {"model": model.removeprefix("org/"), "base_url": URL}  # type: ignore[assignment]
        w.scores.start_run(run, "lm-eval", model, revision, asked, {}, None, 9)
        if answers:
            part = settings.home / f"{answers}.parquet"
            about = {"model_id": model, "revision": revision, "status": "ok", "score": 1.0}
            about |= {"metric": "acc", "filter": "none", "scored_at": datetime.now(UTC)}
            about |= {"tokens_in": 100, "tokens_out": 50, "cost_usd": 0.01}
            write_part([{**about, "query_id": f"q{i}"} for i in range(answers)], part)
            w.scores.merge_part(part, run)
        w.scores.finish_run(run, *(("finished",) if answers else ("failed", HOSTILE)))


def publish(settings: Settings) -> None:
    building = building_folder(settings.published)
    with Warehouse.open(settings.warehouse) as w:
        w.snapshots.copy_to(building / "warehouse.duckdb")
    manifest = {
        "counts": {"models": 2, "queries": 9, "scores": 7},
        "routing_quality": [{"method": "routed", "hit1": 0.5, "low": 0.4, "high": 0.6}],
        "lineage": {"encoder": "e", "checkpoint_id": "c" * 64},
    }
    make_current(settings.published, seal(building, manifest, datetime.now(UTC)))


def test_before_the_first_night(settings: Settings) -> None:
    found = as_json()
    assert found["last_night"] is None
    assert found["running"] is None
    assert found["next_night"]["server"] is None
    assert "locus serve" in found["next_night"]["said"]
    assert {one["why"] for one in found["stale"]["models"]} == {"unevaluated"}
    assert len(found["stale"]["models"]) == 4
    # It only looks.
    assert not settings.home.exists()
    settings.models_file.write_text("models: 7\n")
    assert str(settings.models_file) in told()


def test_after_a_night_and_during_the_next(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated(settings, "org/behind", "r1", 3)
    began = datetime.now(UTC)
    evaluated(settings, "org/done", "r2", 4)
    evaluated(settings, "org/tired", "r2", 0)
    publish(settings)
    note_night(settings, f"asked 4 queries; {HOSTILE}", False, datetime.now(UTC), began)
    # It isn't in what is published yet.
    evaluated(settings, "org/new", "r1", 2)
    with socket.socket() as taken:  # bound, not listening: whoever calls is refused
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/api"
        monkeypatch.setenv("PREFECT_API_URL", url)
        found, text = as_json(), told()

    assert found["stale"]["source"] == "warehouse"
    by_model = {one["model_id"]: one for one in found["stale"]["models"]}
    why = {model: one["why"] for model, one in by_model.items() if one["why"] != "resting"}
    assert why == {"org/behind": "behind", "org/new": "behind"}
    resting = [one for one in found["stale"]["models"] if one["why"] == "resting"]
    assert [one["model_id"] for one in resting] == ["org/tired"]
    assert found["stale"]["not_placed"] == ["org/behind", "org/done", "org/new"]
    assert found["last_night"]["spent"] == {
        "queries": 4, "tokens": 600, "usd": pytest.approx(0.04), "without_price": 0,
    }  # fmt: skip
    assert found["next_night"] == {
        "server": url, "at": None, "said": found["next_night"]["said"],
    }  # fmt: skip
    assert "doesn't answer" in found["next_night"]["said"]
    assert found["budget"]["queries"] == 5000
    assert found["published"]["counts"]["models"] == 2
    budget = "of a run: 5,000 queries, 2.00 USD; the last night used 4 queries, 600 tokens, 0.04"
    assert budget in text
    assert "last night  FAILED, " in text
    assert "it failed[2J badly" in text
    assert "org/behind: behind: it is at revision r2, evaluated was r1" in text
    assert "hit@1       0.500" in text

    # While a run holds the pipeline the working file is left alone.
    monkeypatch.delenv("PREFECT_API_URL")
    with pipeline_lock(settings, what="a test's run"), Warehouse.open(settings.warehouse):
        found, text = as_json(), told()
    assert found["running"]["what"] == "a test's run"
    assert found["running"]["state"] == "running"
    assert found["stale"]["source"] == "published copy"
    why = {one["model_id"]: one["why"] for one in found["stale"]["models"]}
    assert why == {"org/behind": "behind", "org/new": "unevaluated", "org/tired": "unevaluated"}
    assert found["last_night"]["spent"]["queries"] == 4
    assert "running     a test's run" in text
    assert "as published" in text
    assert told("--format", "csv").startswith("what,said\nsettings,")


def test_addresses_that_are_no_server_of_ours(
    settings: Settings, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address that `locus serve` leaves behind; that of a website; that of no site at all."""
    monkeypatch.setattr(standing, "PATIENCE_S", 60.0)  # this machine may be busy
    settings.home.mkdir()
    (settings.home / "serve.json").write_text(json.dumps({"api_url": prefect_server + "/nowhere"}))
    assert "no deployment nightly/nightly" in as_json()["next_night"]["said"]
    for wrong in (prefect_server.removesuffix("api") + "?", "ftp://x", "not an address"):
        monkeypatch.setenv("PREFECT_API_URL", wrong)
        said = as_json()["next_night"]
        assert said["at"] is None
        assert said["said"].startswith("not ")


def test_stale_is_what_the_night_would_change(settings: Settings) -> None:
    evaluated(settings, "org/done", "r2", 4)
    at = datetime.now(UTC)
    note_night(settings, "asked 4 queries", True, at, at - timedelta(hours=1))
    text = told()
    assert "last night  ended well, " in text
    assert "org/done: " not in text
    assert text.count("never evaluated") == 3
