"""Canaries: merged once, kept apart from scores, held against the first good night."""

import hashlib
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from warehouse_sample import SHARED, hours, rolled_back, score_row, scores, write_part

from warehouse.canaries import KIND
from warehouse.connection import Session, connect
from warehouse.console import run_sql
from warehouse.contracts import CanaryFrame, build, validated
from warehouse.errors import ContractError, WarehouseError
from warehouse.migrate import migrate, migrations
from warehouse.store import Warehouse

HOSTILE = "</script><script>alert(1)</script>\x1b[2J'; DROP TABLE canary; --\x00\u202e{{7*7}}"
WAY = {"backend": "local-completions", "args": {"base_url": "here"}, "num_fewshot": {}}


def start(
    w: Warehouse,
    run: str,
    *,
    n: int | None = None,
    kind: str = KIND,
    way: dict[str, Any] = WAY,
    lm_eval: str = "0.4",
) -> None:
    settings_ = {**way, "chosen_by": {"canary": n}, "chosen_by_checkpoint": None}
    w.scores.start_run(run, kind, "a/alpha", "a1", settings_, {"lm_eval": lm_eval}, None, n)


def part(folder: Path, run: str, at: float, answers: dict[str, float | None]) -> Path:
    """A part whose texts are ``<query> <score>``."""
    rows = [
        score_row(
            "a/alpha", "a1", q, s, response=None if s is None else f"{q} {s}", scored_at=hours(at)
        )
        for q, s in answers.items()
    ]
    return write_part(folder, run, scores(*rows))


def night(
    w: Warehouse, folder: Path, run: str, at: float, answers: dict[str, float | None], **how: Any
) -> None:
    start(w, run, **({"n": len(answers)} | how))
    w.canaries.merge_part(part(folder, run, at, answers), run)
    w.scores.finish_run(run, "finished")


def nights(w: Warehouse, *columns: str) -> list[tuple[Any, ...]]:
    return w.read("SELECT * FROM canary_night ORDER BY asked_at").select(columns).rows()


GOOD = {"q1": 1.0, "q2": 0.0, "q3": 1.0, "q5": 0.5}


def test_a_part_of_canaries_is_merged_once_and_is_no_score(
    catalogued: Warehouse, tmp_path: Path
) -> None:
    start(catalogued, "run", n=4)
    made = part(tmp_path, "run", 0, GOOD)
    digest = catalogued.scores.scores_digest()
    assert catalogued.canaries.merge_part(made, "run") == 4
    assert catalogued.canaries.merge_part(made, "run") == 0
    assert catalogued.read("FROM canary").height == 4
    assert catalogued.read("FROM score").is_empty()
    assert catalogued.scores.answered("a/alpha", "a1").is_empty()
    assert catalogued.scores.scores_digest().equals(digest)
    assert catalogued.read("SELECT n_rows FROM score_part").rows() == [(4,)]


def test_a_run_counts_its_canaries_also_when_it_ends(catalogued: Warehouse, tmp_path: Path) -> None:
    night(catalogued, tmp_path, "run", 0, {**GOOD, "q6": None})
    run = catalogued.scores.run("run")
    assert run is not None
    assert (run["status"], run["n_ok"], run["n_other"]) == ("finished", 4, 1)


def test_only_parts_of_canary_runs_become_canaries(catalogued: Warehouse, tmp_path: Path) -> None:
    start(catalogued, "run", kind="lm-eval")
    made = part(tmp_path, "run", 0, GOOD)
    with pytest.raises(WarehouseError, match="of kind 'lm-eval'"):
        catalogued.canaries.merge_part(made, "run")
    with pytest.raises(WarehouseError, match="run other is not there"):
        catalogued.canaries.merge_part(made, "other")
    assert catalogued.read("FROM canary").is_empty()
    assert catalogued.scores.merge_part(made, "run") == 4


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (score_row("a/alpha", "a1", "q99", 1.0), "not in table query"),
        (score_row("b/beta", "a1", "q4", 1.0), "must be 'a/alpha' as in run run"),
        (score_row("a/alpha", "a1", "q4", 7.0), "within"),
        (score_row("a/alpha", "a1", "q1", 1.0, metric="other"), "must be unique"),
    ],
)
def test_a_bad_part_leaves_nothing(
    catalogued: Warehouse, tmp_path: Path, bad: dict[str, Any], says: str
) -> None:
    start(catalogued, "run")
    good = pl.read_parquet(part(tmp_path, "good", 0, GOOD))
    with pytest.raises(ContractError, match=says):
        catalogued.canaries.merge_part(
            write_part(tmp_path, "bad", pl.concat([good, scores(bad)])), "run"
        )
    assert catalogued.read("FROM canary").is_empty()
    assert catalogued.read("FROM score_part").is_empty()


def test_a_run_answers_a_query_once(catalogued: Warehouse, tmp_path: Path) -> None:
    start(catalogued, "run")
    catalogued.canaries.merge_part(part(tmp_path, "one", 0, GOOD), "run")
    with pytest.raises(ContractError, match="is answered in run run already"):
        catalogued.canaries.merge_part(part(tmp_path, "two", 1, {"q1": 1.0, "q6": 0.0}), "run")
    assert catalogued.read("FROM canary").height == 4


texts = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=30, deadline=None, suppress_health_check=SHARED)
@given(given_texts=st.lists(texts, min_size=1, max_size=6))
def test_texts_come_back_as_they_were_with_their_digest(
    catalogued: Warehouse, given_texts: list[str | None]
) -> None:
    rows = [
        score_row("a/alpha", "a1", f"q{i + 1}", 1.0, response=text, scored_at=hours(1), tokens_in=3)
        for i, text in enumerate([*given_texts[:5], HOSTILE])
    ]
    with rolled_back(catalogued), tempfile.TemporaryDirectory() as name:
        start(catalogued, "run")
        catalogued.canaries.merge_part(write_part(Path(name), "p", scores(*rows)), "run")
        got = catalogued.read("SELECT * FROM canary ORDER BY query_id").to_dicts()
    assert [row["response"] for row in got] == [row["response"] for row in rows]
    for row in got:
        text = row["response"]
        expected = None if text is None else hashlib.sha256(text.encode()).hexdigest()
        assert row["response_sha256"] == expected
        assert (row["tokens_in"], row["asked_at"]) == (3, hours(1))


def test_the_contract_ties_digest_and_text_together() -> None:
    row = {"model_id": "m", "revision": "r", "query_id": "q", "status": "ok", "score": 1.0}
    row |= {"asked_at": hours(0), "response": "x"}
    with pytest.raises(ContractError, match="response_sha256 must be NULL where"):
        validated(CanaryFrame, build(CanaryFrame, [row]))
    with pytest.raises(ContractError, match="64 hexadecimal digits"):
        validated(CanaryFrame, build(CanaryFrame, [row | {"response_sha256": "abc"}]))
    with pytest.raises(ContractError, match="score must be NULL unless"):
        failed = row | {"status": "error", "response": None}
        validated(CanaryFrame, build(CanaryFrame, [failed]))


def test_nights_beside_their_baseline(catalogued: Warehouse, tmp_path: Path) -> None:
    w = catalogued
    # 2 of 4 answered: no baseline. Then one, then nights with other answers.
    night(w, tmp_path, "bad", 0, {"q1": 1.0, "q2": 1.0, "q3": None, "q5": None})
    assert w.canaries.asked("a/alpha", "a1") == []
    assert w.canaries.history("a/alpha", "a1").is_empty()
    night(w, tmp_path, "base", 24, {**GOOD, "q5": None})
    night(w, tmp_path, "same", 48, {**GOOD, "q5": None})
    night(w, tmp_path, "other", 72, {"q1": 0.0, "q2": 1.0, "q3": 0.7, "q5": 1.0})
    shown = ("run_id", "baseline_run_id", "n_asked", "n_ok", "mean_score")
    assert nights(w, *shown) == [
        ("bad", None, 4, 2, 1.0),
        ("base", "base", 4, 3, pytest.approx(2 / 3)),
        ("same", "base", 4, 3, pytest.approx(2 / 3)),
        ("other", "base", 4, 4, pytest.approx(2.7 / 4)),
    ]
    # q5 had no answer in the baseline. q3 has another text and score, on the same side.
    compared = ("run_id", "n_common", "n_same_text", "n_crossed", "gained", "lost")
    assert nights(w, *compared) == [
        ("bad", 0, 0, 0, 0, 0),
        ("base", 3, 3, 0, 0, 0),
        ("same", 3, 3, 0, 0, 0),
        ("other", 3, 0, 2, 1, 1),
    ]
    assert w.canaries.asked("a/alpha", "a1") == ["q1", "q2", "q3", "q5"]
    assert w.canaries.asked("a/alpha", "a2") == []
    assert w.canaries.last_asked("a/alpha", "a1") == hours(72)
    assert w.canaries.last_asked("b/beta", "b1") is None
    history = w.canaries.history("a/alpha", "a1")
    assert history["run_id"].unique(maintain_order=True).to_list() == ["base", "same", "other"]
    assert history.filter(run_id="other").select("query_id", "status", "score").rows() == [
        ("q1", "ok", 0.0), ("q2", "ok", 1.0), ("q3", "ok", 0.7), ("q5", "ok", 1.0),
    ]  # fmt: skip


def test_a_night_that_was_cut_short_is_no_baseline(catalogued: Warehouse, tmp_path: Path) -> None:
    night(catalogued, tmp_path, "cut", 0, {"q1": 1.0, "q2": 1.0}, n=4)
    assert catalogued.canaries.asked("a/alpha", "a1") == []
    night(catalogued, tmp_path, "rest", 24, {"q1": 1.0, "q2": 1.0, "q3": 1.0}, n=4)
    assert catalogued.canaries.asked("a/alpha", "a1") == ["q1", "q2", "q3"]


@pytest.mark.parametrize("change", [{"way": {**WAY, "system_instruction": "be brief"}},
                                    {"lm_eval": "0.5"}])  # fmt: skip
def test_another_way_of_asking_begins_anew_with_the_same_queries(
    catalogued: Warehouse, tmp_path: Path, change: dict[str, Any]
) -> None:
    w = catalogued
    night(w, tmp_path, "one", 0, GOOD)
    # Who chose, and how many, is no other way; nor is another address.
    night(w, tmp_path, "two", 24, GOOD, n=None, way={**WAY, "args": {"base_url": "elsewhere"}})
    night(w, tmp_path, "failed", 48, dict.fromkeys(GOOD), **change)
    assert nights(w, "run_id", "baseline_run_id") == [
        ("one", "one"), ("two", "one"), ("failed", None),
    ]  # fmt: skip
    assert w.canaries.asked("a/alpha", "a1") == sorted(GOOD)
    assert w.canaries.history("a/alpha", "a1").is_empty()
    night(w, tmp_path, "three", 72, GOOD, **change)
    night(w, tmp_path, "four", 96, GOOD, **change)
    assert set(w.canaries.history("a/alpha", "a1")["run_id"]) == {"three", "four"}


def test_what_canaries_cost_is_counted(catalogued: Warehouse, tmp_path: Path) -> None:
    w = catalogued
    measured = {"tokens_in": 10, "tokens_out": 2, "cost_usd": 0.5, "latency_ms": 100.0}
    w.scores.start_run("scored", "lm-eval", "a/alpha", "a1", {}, {}, None, 1)
    row = score_row("a/alpha", "a1", "q1", 1.0, **measured)
    w.scores.merge_part(write_part(tmp_path, "scored", scores(row)), "scored")
    start(w, "run")
    rows = [score_row("a/alpha", "a1", "q1", 1.0, **measured | {"latency_ms": 300.0}),
            score_row("a/alpha", "a1", "q2", None, latency_ms=200.0)]  # fmt: skip
    w.canaries.merge_part(write_part(tmp_path, "canaries", scores(*rows)), "run")
    assert w.read("FROM cost_by_model").rows() == [("a/alpha", 3, 2, 20, 4, 2, 1.0, 200.0)]


def test_the_copy_that_people_read_has_canaries(filled: Warehouse, tmp_path: Path) -> None:
    night(filled, tmp_path, "run", 0, GOOD)
    copy = tmp_path / "published" / "copy.duckdb"
    filled.snapshots.copy_to(copy)
    assert run_sql(copy, "FROM canary").height == 4
    assert run_sql(copy, "SELECT run_id, n_ok FROM canary_night").rows() == [("run", 4)]
    assert run_sql(copy, "FROM latest_score").height == 14
    said = run_sql(copy, "SELECT comment FROM duckdb_views() WHERE view_name = 'cost_by_model'")
    assert "canary" in said["comment"].item()


def test_a_warehouse_of_the_version_before_is_brought_up(db: Path, tmp_path: Path) -> None:
    """Comments of the view that is replaced are there again, and its rows are the same."""
    old = tmp_path / "migrations"
    old.mkdir()
    for migration in migrations()[:4]:
        (old / migration.name).write_text(migration.sql)
    session = Session(connect(db, 0), db)
    migrate(session, old)
    session.execute(
        "INSERT INTO score (run_id, model_id, revision, query_id, status, score, scored_at, "
        "cost_usd) VALUES ('r', 'm', 'r', 'q', 'ok', 1, now(), 0.25)"
    )
    before = session.frame("FROM cost_by_model")
    names = "SELECT column_name FROM duckdb_columns() WHERE table_name = 'cost_by_model'"
    columns = session.frame(names)
    session.close()
    with Warehouse.open(db) as w:
        assert w.read("FROM cost_by_model").equals(before)
        assert w.read(names).equals(columns)
        assert w.read(names + " AND comment IS NULL").is_empty()


def test_times_are_utc(catalogued: Warehouse, tmp_path: Path) -> None:
    night(catalogued, tmp_path, "run", 5, GOOD)
    at = catalogued.canaries.last_asked("a/alpha", "a1")
    assert isinstance(at, datetime)
    assert at.utcoffset() is not None
    assert at == hours(5)
