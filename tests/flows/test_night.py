"""Whole runs by the real command line against a real Prefect server."""

import json
import os
import signal
from pathlib import Path

import duckdb
import httpx
import polars as pl
import pytest
from conftest import Pipeline

from flows.add_model import add_model
from locus.ids import InvalidIdError
from locus.snapshots import current, verify

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def query(pipeline: Pipeline, sql: str) -> list[tuple[object, ...]]:
    """Rows of the working warehouse, between two runs."""
    with duckdb.connect(str(pipeline.folder / "state" / "warehouse.duckdb"), read_only=True) as con:
        return con.sql(sql).fetchall()


def published(pipeline: Pipeline) -> Path:
    return pipeline.folder / "state" / "published"


def flow_runs(url: str, name: str) -> list[dict[str, object]]:
    answer = httpx.post(
        f"{url}/flow_runs/filter", json={"flows": {"name": {"any_": [name]}}}, timeout=30
    )
    runs: list[dict[str, object]] = answer.raise_for_status().json()
    return runs


def test_the_main_job(pipeline: Pipeline, prefect_server: str) -> None:
    before = len(flow_runs(prefect_server, "nightly"))
    dry = pipeline.locus("run", "nightly", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "would ask" in dry.stdout
    assert query(pipeline, "SELECT count(*) FROM score") == [(0,)]
    assert not published(pipeline).exists()

    first = pipeline.locus("run", "nightly")
    assert first.returncode == 0, first.stderr
    assert "trained an encoder" in first.stdout
    # 80 documents, three models, every one asked once.
    assert query(pipeline, "SELECT count(*), count(DISTINCT (model_id, query_id)) FROM score") == [
        (240, 240)
    ]
    assert query(pipeline, "SELECT DISTINCT status FROM evaluation_run") == [("finished",)]
    snapshot = current(published(pipeline))
    verify(snapshot.folder, snapshot.manifest_sha256)
    assert snapshot.manifest["counts"]["models"] == 3
    assert {q["method"] for q in snapshot.manifest["routing_quality"]} >= {"routed", "oracle"}

    second = pipeline.locus("run", "nightly")
    assert second.returncode == 0, second.stderr
    assert "nothing new" in second.stdout
    assert current(published(pipeline)) == snapshot

    pipeline.register("a", "b", "c", "late")
    added = pipeline.locus("add-model", "org/late")
    assert added.returncode == 0, added.stderr
    assert "trained" not in added.stdout
    late = query(
        pipeline,
        "SELECT split, count(*) FROM score JOIN query USING (query_id) "
        "WHERE model_id = 'org/late' GROUP BY split",
    )
    assert dict(late)["train"] == 20  # type: ignore[arg-type]
    assert "val" not in dict(late)  # type: ignore[arg-type]
    after = current(published(pipeline))
    assert after.manifest["parent"] == snapshot.snapshot_id
    assert after.manifest["counts"]["models"] == 4
    assert "org/late" in (after.folder / "similarity" / "summary.md").read_text()
    lineage = (snapshot.manifest["lineage"], after.manifest["lineage"])
    assert lineage[0]["checkpoint_id"] == lineage[1]["checkpoint_id"]

    runs = flow_runs(prefect_server, "nightly")[
        : len(flow_runs(prefect_server, "nightly")) - before
    ]
    assert {run["state_type"] for run in runs} == {"COMPLETED"}
    added_runs = flow_runs(prefect_server, "add-model")
    assert any(run["name"] == "add-model-org/late" for run in added_runs)
    artifacts = httpx.post(
        f"{prefect_server}/artifacts/filter",
        json={"artifacts": {"key": {"any_": ["nightly-outcome"]}}},
        timeout=30,
    ).json()
    assert any("nothing new" in artifact["data"] for artifact in artifacts)

    look_around(pipeline)


def look_around(pipeline: Pipeline) -> None:
    """The reading commands on what was published."""
    routed = pipeline.locus("route", "Copy the number 3", "--format", "json")
    assert routed.returncode == 0, routed.stderr
    choices = json.loads(routed.stdout)
    assert [c["rank"] for c in choices] == [1, 2, 3]
    assert all(0 <= c["p_correct"] <= 1 for c in choices)
    excluded = pipeline.locus(
        "route", "Copy the number 3", "--exclude", choices[0]["model_id"], "--format", "json"
    )
    assert json.loads(excluded.stdout)[0]["model_id"] == choices[1]["model_id"]
    similar = pipeline.locus("similar", "org/late", "--format", "csv")
    assert similar.returncode == 0, similar.stderr
    assert len(similar.stdout.strip().splitlines()) == 4
    wrong = pipeline.locus("similar", "org/lat")
    assert wrong.returncode == 1
    assert wrong.stderr.strip().startswith("error:")
    assert "did you mean org/late" in wrong.stderr
    assert len(wrong.stderr.strip().splitlines()) == 1
    rows = pipeline.locus("sql", "select count(*) as n from score", "--format", "csv")
    # 240 of the first three, 20 train and all test queries of the late one.
    assert int(rows.stdout.split()[1]) > 260
    refused = pipeline.locus("sql", "select * from read_csv('/etc/passwd')")
    assert refused.returncode == 1
    assert "root:" not in refused.stdout + refused.stderr
    status = pipeline.locus("status")
    assert "4 models" in status.stdout
    shown = pipeline.locus("models", "show", "org/late")
    assert shown.returncode == 0, shown.stderr
    assert "tiny_copy" in shown.stdout
    listed = pipeline.locus("models", "list")
    assert "org/late" in listed.stdout


def test_killed_in_the_middle_the_next_run_goes_on_and_a_bad_model_blocks_nobody(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    pipeline.register("a", "b")
    process = pipeline.start("run", "nightly")
    assert process.stderr is not None
    for line in process.stderr:
        if " of 80 queries" in line and "16 of 80" in line:
            os.killpg(process.pid, signal.SIGKILL)
            break
    process.communicate()
    # A worker has a process group of its own; it may finish a chunk, which is then found.
    parts = {p: p.read_bytes() for p in (pipeline.folder / "state" / "parts").rglob("*.parquet")}
    assert parts
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    with (pipeline.folder / "models.yaml").open("a") as registry:
        registry.write(f"- {{id: org/broken, args: {{pretrained: {broken}}}}}\n")
    again = pipeline.locus("run", "nightly")
    assert again.returncode == 3, again.stderr
    assert "org/broken" in again.stderr
    assert query(pipeline, "SELECT count(*), count(DISTINCT (model_id, query_id)) FROM score") == [
        (160, 160)
    ]
    failed = "SELECT DISTINCT model_id FROM evaluation_run WHERE status = 'failed' AND "
    failed += "error <> 'interrupted'"
    assert query(pipeline, failed) == [("org/broken",)]
    for part, content in parts.items():
        assert part.read_bytes() == content
    interrupted = query(pipeline, "SELECT count(*) FROM evaluation_run WHERE error = 'interrupted'")
    assert interrupted[0][0] >= 1  # type: ignore[operator]
    assert pl.read_parquet(
        current(published(pipeline)).folder / "similarity" / "embeddings.parquet"
    ).height == 2  # fmt: skip


def test_two_runs_at_once(pipeline: Pipeline) -> None:
    process = pipeline.start("run", "nightly")
    assert process.stderr is not None
    for line in process.stderr:
        if "registry:" in line:
            break
    second = pipeline.locus("run", "nightly")
    assert second.returncode == 1
    assert "another run holds" in second.stderr
    # The first one asks on.
    assert any("of 80 queries" in line for line in process.stderr)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


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
