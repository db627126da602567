"""Parts into the warehouse: a bad one is set aside, the others come in, and nothing is double."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from locus.evaluation.jobs import Parts
from locus.evaluation.parts import write_part
from locus.evaluation.request import EvaluationRequest
from locus.storage import open_storage
from tasks.heal import heal_interrupted
from tasks.record import record_parts
from tasks.settings import Settings
from warehouse import contracts
from warehouse.store import Warehouse


def row(query: str, score: float, model: str = "org/m") -> dict[str, object]:
    return {
        "model_id": model, "revision": "r", "query_id": query, "status": "ok", "score": score,
        "metric": "acc", "filter": "none", "scored_at": datetime.now(UTC),
    }  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(home=tmp_path / "home")
    made.home.mkdir()
    with Warehouse.open(made.warehouse) as w:
        models = [{"model_id": "org/m", "source": "registry"}]
        w.catalogue.add_models(contracts.build(contracts.ModelFrame, models))
        queries = [
            {"query_id": q, "task": "t", "task_version": "1", "split": "train", "text": q}
            for q in ("q1", "q2", "q3")
        ]
        w.catalogue.add_queries(contracts.build(contracts.QueryFrame, queries))
        w.scores.start_run("run", "lm-eval", "org/m", "r", {}, {}, None, 3)
    return made


def test_a_bad_part_is_set_aside(settings: Settings, tmp_path: Path) -> None:
    good, bad, other = (tmp_path / f"{n}.parquet" for n in ("good", "bad", "other"))
    write_part([row("q1", 1.0)], good)
    write_part([row("q2", 0.0), row("q3", 7.0)], bad)
    write_part([row("q3", 0.5)], other)
    with Warehouse.open(settings.warehouse) as w:
        added, refused = record_parts(w, "run", [good, bad, other])
        assert added == 2
        assert refused is not None
        assert "score" in refused
        assert sorted(w.read("SELECT query_id FROM score")["query_id"]) == ["q1", "q3"]
        assert record_parts(w, "run", [good, other]) == (0, None)
    assert not bad.exists()
    assert bad.with_suffix(".parquet.refused").exists()


def test_bad_parts_among_many_cost_only_themselves(settings: Settings, tmp_path: Path) -> None:
    def part(name: str, *rows: dict[str, object]) -> Path:
        write_part(rows, tmp_path / f"{name}.parquet")
        return tmp_path / f"{name}.parquet"

    torn, narrow = part("torn", row("q1", 0.0)), tmp_path / "narrow.parquet"
    torn.write_bytes(torn.read_bytes()[:-30])
    # Beside parts with a score, nothing would be missed where all answers failed.
    failed = {**row("q2", 0.0), "status": "error"}
    pl.DataFrame([failed]).drop("score").write_parquet(narrow)
    again = row("q3", 1.0)
    bad = [torn, narrow, part("stranger", row("q1", 1.0, "org/n")), part("lost", row("q9", 1.0))]
    good = [part("one", row("q1", 1.0)), part("two", again), part("three", again, row("q2", 0.0))]
    with Warehouse.open(settings.warehouse) as w:
        _, first = record_parts(w, "run", [good[0], *bad, *good[1:]])
        assert "torn" in str(first)
        assert sorted(w.read("SELECT query_id FROM score")["query_id"]) == ["q1", "q2", "q3", "q3"]
        merged = w.read("SELECT n_rows FROM score_part")["n_rows"]
        assert sorted(merged) == [1, 1, 2]
        run = w.scores.run("run")
        assert run is not None
        assert (run["n_ok"], run["n_other"]) == (4, 0)
    assert [p.exists() for p in good + bad] == [True] * 3 + [False] * 4


def test_healing_finishes_what_a_dead_run_left(settings: Settings, tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    write_part([row("q1", 1.0)], parts / "a.parquet")
    (parts / "b.parquet").write_bytes(b"half a file")
    request = EvaluationRequest("run", "org/m", "r", "hf", {}, {"t": ["q1"]}, str(parts))
    request.write(settings.home / "runs" / "run" / "request.json")
    half = settings.published / "snapshots" / ".building-x"
    half.mkdir(parents=True)
    assert heal_interrupted.fn(settings) == 1
    assert heal_interrupted.fn(settings) == 0
    assert not half.exists()
    with Warehouse.open(settings.warehouse) as w:
        run = w.scores.run("run")
        assert run is not None
        assert (run["status"], run["error"]) == ("failed", "interrupted")
        assert w.scores.answered("org/m", "r").rows() == [("q1", "ok", 1)]
    assert pl.read_parquet(parts / "a.parquet").height == 1


def test_healing_fetches_what_machines_of_a_dead_run_answered(
    settings: Settings, tmp_path: Path
) -> None:
    address = str(tmp_path / "shared")
    storage = open_storage(address)
    here = settings.parts / "m"
    request = EvaluationRequest("run", "org/m", "r", "hf", {}, {"t": ["q1"]}, str(here))
    request.write(settings.home / "runs" / "run" / "request.json")
    (settings.home / "runs" / "run" / "storage.txt").write_text(address)
    there = tmp_path / "machine" / f"{'a' * 32}.parquet"
    write_part([row("q1", 1.0)], there)
    Parts(storage, "parts/m").bring(there)
    storage.put(f"parts/m/{'b' * 32}-{'0' * 64}.parquet", b"something else")
    storage.put("jobs/run-1/job.json", b"{}")
    storage.put("jobs/other-1/job.json", b"{}")

    assert heal_interrupted.fn(settings) == 1
    with Warehouse.open(settings.warehouse) as w:
        assert w.scores.answered("org/m", "r").rows() == [("q1", "ok", 1)]
        assert w.scores.open_runs() == []
    # Its job is taken back, others' are not; what was recorded needs no place there any more.
    left = storage.names("")
    assert "jobs/run-1/job.json" not in left
    assert "jobs/other-1/job.json" in left
    assert not any(name.startswith("parts/m/aa") for name in left)
