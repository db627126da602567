"""Runs and parts: a part is in or out, once; what is read back is what was written."""

import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from warehouse_sample import (
    SHARED,
    T0,
    hours,
    rolled_back,
    score_row,
    scores,
    start,
    write_part,
)

from warehouse.contracts import ScoreFrame, polars_schema
from warehouse.errors import ContractError, WarehouseError
from warehouse.scores import _in_order
from warehouse.store import Warehouse

ROWS = scores(
    score_row("a/alpha", "a1", "q1", 1.0, response="four", metrics='{"acc": 1.0}'),
    score_row("a/alpha", "a1", "q2", None, latency_ms=3.5),
)


def counts(w: Warehouse) -> tuple[int, int]:
    return w.read("FROM score").height, w.read("FROM score_part").height


def test_a_part_is_merged_once(catalogued: Warehouse, tmp_path: Path) -> None:
    start(catalogued, "run", "a/alpha", "a1")
    part = write_part(tmp_path, "part", ROWS)
    assert catalogued.scores.merge_part(part, "run") == 2
    assert catalogued.scores.merge_part(part, "run") == 0
    same_bytes = tmp_path / "copy.parquet"
    same_bytes.write_bytes(part.read_bytes())
    assert catalogued.scores.merge_part(same_bytes, "run") == 0
    assert counts(catalogued) == (2, 1)


def test_parts_merged_together_are_all_in_or_none(catalogued: Warehouse, tmp_path: Path) -> None:
    s = catalogued.scores
    start(catalogued, "run", "a/alpha", "a1")
    one, two = (write_part(tmp_path, f"p{i}", ROWS[i : i + 1]) for i in (0, 1))
    copy, bad = tmp_path / "copy.parquet", scores(score_row("a/alpha", "a1", "q3", 7.0))
    copy.write_bytes(one.read_bytes())
    with pytest.raises(ContractError, match="within"):
        s.merge_parts([one, two, write_part(tmp_path, "bad", bad)], "run")
    assert counts(catalogued) == (0, 0)
    assert s.merge_parts([one, copy], "run") == 1
    assert s.merge_parts([two, one, copy], "run") == 1
    assert s.merge_parts([one, two], "run") == 0
    assert counts(catalogued) == (2, 2)
    run = s.run("run")
    assert run is not None
    assert (run["n_ok"], run["n_other"]) == (1, 1)


def test_a_run_from_start_to_end(catalogued: Warehouse, tmp_path: Path) -> None:
    start(catalogued, "run", "a/alpha", "a1", n=7)
    run = catalogued.scores.run("run")
    assert run is not None
    assert (run["status"], run["n_planned"], run["n_ok"], run["n_other"]) == ("running", 7, 0, 0)
    assert (run["settings"], run["git_sha"]) == ('{"seed": 1}', "abc")
    catalogued.scores.merge_part(write_part(tmp_path, "part", ROWS), "run")
    catalogued.scores.finish_run("run", "failed", "server went away")
    run = catalogued.scores.run("run")
    assert run is not None
    assert (run["status"], run["n_ok"], run["n_other"]) == ("failed", 1, 1)
    assert run["error"] == "server went away"
    assert run["finished_at"] >= run["started_at"]


def test_a_part_left_over_by_a_run_that_ended_is_counted(
    catalogued: Warehouse, tmp_path: Path
) -> None:
    start(catalogued, "run", "a/alpha", "a1")
    catalogued.scores.finish_run("run", "failed", "killed")
    assert catalogued.scores.merge_part(write_part(tmp_path, "part", ROWS), "run") == 2
    run = catalogued.scores.run("run")
    assert run is not None
    assert (run["status"], run["n_ok"], run["n_other"]) == ("failed", 1, 1)


def test_runs_are_checked(catalogued: Warehouse, tmp_path: Path) -> None:
    start(catalogued, "run", "a/alpha", "a1")
    with pytest.raises(WarehouseError, match="run run is there already"):
        start(catalogued, "run", "a/alpha", "a1")
    with pytest.raises(WarehouseError, match="run other is not there"):
        catalogued.scores.finish_run("other", "finished")
    with pytest.raises(ValueError, match="'done'"):
        catalogued.scores.finish_run("run", "done")
    with pytest.raises(WarehouseError, match="run other is not there"):
        catalogued.scores.merge_part(write_part(tmp_path, "part", ROWS), "other")
    assert counts(catalogued) == (0, 0)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (score_row("a/alpha", "a1", "q3", 7.0), "within"),
        (score_row("a/alpha", "a1", "q3", 1.0, status="error"), "NULL unless"),
        (score_row("a/alpha", "a1", "q99", 1.0), "not in table query"),
        (score_row("b/beta", "a1", "q3", 1.0), "must be 'a/alpha' as in run run"),
        (score_row("a/alpha", "a2", "q3", 1.0), "must be 'a1' as in run run"),
    ],
)
def test_a_bad_part_leaves_nothing(
    catalogued: Warehouse, tmp_path: Path, bad: dict[str, Any], says: str
) -> None:
    start(catalogued, "run", "a/alpha", "a1")
    part = write_part(tmp_path, "part", pl.concat([ROWS, scores(bad)]))
    with pytest.raises(ContractError, match=says):
        catalogued.scores.merge_part(part, "run")
    assert counts(catalogued) == (0, 0)
    # And it does not stand in the way of the corrected one.
    assert catalogued.scores.merge_part(write_part(tmp_path, "part", ROWS), "run") == 2


def test_text_that_is_not_utf_8_is_refused(catalogued: Warehouse, tmp_path: Path) -> None:
    """Arrow takes it for text, and frames of such text break whoever looks at it."""
    start(catalogued, "run", "a/alpha", "a1")
    table = ROWS.to_arrow()
    odd = pa.array([b"q\xff"] * table.num_rows, pa.large_binary())
    text = pa.Array.from_buffers(pa.large_string(), len(odd), odd.buffers())
    at = table.column_names.index("query_id")
    part = tmp_path / "part.parquet"
    pq.write_table(table.set_column(at, "query_id", text), part)
    with pytest.raises(ContractError, match=r"part\.parquet is not a Parquet file.*Invalid UTF8"):
        catalogued.scores.merge_part(part, "run")
    assert counts(catalogued) == (0, 0)


def test_a_torn_file_is_refused_by_name(catalogued: Warehouse, tmp_path: Path) -> None:
    start(catalogued, "run", "a/alpha", "a1")
    part = write_part(tmp_path, "part", ROWS)
    part.write_bytes(part.read_bytes()[:-40])
    with pytest.raises(ContractError, match=r"part\.parquet is not a Parquet file"):
        catalogued.scores.merge_part(part, "run")
    assert counts(catalogued) == (0, 0)


def test_an_outer_transaction_takes_merged_parts_back(
    catalogued: Warehouse, tmp_path: Path
) -> None:
    part = write_part(tmp_path, "part", ROWS)

    def fail() -> None:
        with catalogued.transaction():
            start(catalogued, "run", "a/alpha", "a1")
            assert catalogued.scores.merge_part(part, "run") == 2
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert counts(catalogued) == (0, 0)
    assert catalogued.scores.run("run") is None
    start(catalogued, "run", "a/alpha", "a1")  # and the connection goes on working
    assert catalogued.scores.merge_part(part, "run") == 2


def test_answered_per_revision(filled: Warehouse) -> None:
    assert filled.scores.answered("a/alpha", "a1").drop("tries").rows() == [
        ("q1", "ok"),
        ("q2", "ok"),
        ("q3", "ok"),
        ("q4", "ok"),
        ("q5", "error"),
        ("q6", "ok"),
    ]
    newer = filled.scores.answered("a/alpha", "a2").drop("tries")
    assert newer.rows() == [("q1", "ok"), ("q2", "error")]
    assert filled.scores.answered("d/delta", "x").is_empty()


def test_answered_is_ok_once_it_was(catalogued: Warehouse, tmp_path: Path) -> None:
    for i, score in enumerate([None, 1.0, None]):
        start(catalogued, f"run{i}", "a/alpha", "a1")
        row = scores(score_row("a/alpha", "a1", "q1", score, scored_at=hours(i)))
        catalogued.scores.merge_part(write_part(tmp_path, f"p{i}", row), f"run{i}")
    assert catalogued.scores.answered("a/alpha", "a1").rows() == [("q1", "ok", 3)]


def test_training_scores(filled: Warehouse) -> None:
    s = filled.scores
    everything = s.training_scores()
    assert everything.columns == ["model_id", "query_id", "score"]
    assert everything.height == 13
    assert everything.equals(everything.sort("model_id", "query_id"))
    assert s.training_scores(splits=["test"], models=["a/alpha", "b/beta"]).rows() == [
        ("a/alpha", "q4", 1.0),
        ("a/alpha", "q6", 0.0),
        ("b/beta", "q4", 0.5),
    ]
    assert s.training_scores(tasks=["geo"], models=["c/gamma"]).rows() == [("c/gamma", "q6", 1.0)]
    assert s.training_scores(models=[]).is_empty()


@given(st.lists(st.integers(0, 40), max_size=30), st.sampled_from([41, 400]))
def test_full_and_sparse_cells_come_in_the_same_order(cells: list[int], n_cells: int) -> None:
    given_ = pl.DataFrame({"score": [one / 50 for one in cells], "cell": cells}).cast(
        {"score": pl.Float64, "cell": pl.Int64}
    )
    assert _in_order(given_, n_cells).equals(given_.sort("cell"))


def test_digest_changes_with_train_scores_only(filled: Warehouse, tmp_path: Path) -> None:
    def digests() -> dict[str, tuple[Any, ...]]:
        return {row[0]: row[1:] for row in filled.scores.scores_digest().rows()}

    before = digests()
    assert {m: (r, n) for m, (r, n, _) in before.items()} == {
        "a/alpha": ("a2", 2),
        "b/beta": ("b1", 3),
        "c/gamma": ("import", 2),
    }
    # a/alpha and c/gamma have the same train scores (q1 and q2 wrong); order and time are nothing.
    assert before["a/alpha"][2] == before["c/gamma"][2] != before["b/beta"][2]

    def answer(run: str, query: str, score: float, at: int) -> None:
        start(filled, run, "b/beta", "b1")
        row = scores(score_row("b/beta", "b1", query, score, scored_at=hours(at)))
        filled.scores.merge_part(write_part(tmp_path, run, row), run)

    answer("test-query", "q6", 1.0, 90)
    assert digests() == before
    answer("same-again", "q1", 1.0, 91)
    assert digests() == before
    answer("changed", "q1", 0.0, 92)
    after = digests()
    assert after["b/beta"][2] != before["b/beta"][2]
    assert after["a/alpha"] == before["a/alpha"]


texts = st.none() | st.text(max_size=30)
floats = st.none() | st.floats(0, 1e9)
counts_ = st.none() | st.integers(0, 2**40)
score_rows = st.fixed_dictionaries(
    {
        "query_id": st.sampled_from(["q1", "q2", "q3", "q4", "q5", "q6"]),
        "score": st.none() | st.floats(0, 1),
        "metric": st.text(min_size=1, max_size=10),
        "filter": texts,
        "metrics": st.none() | st.sampled_from(['{"acc": 0.25, "n": [1, null]}', '"text"', "{}"]),
        "response": texts,
        "latency_ms": floats,
        "tokens_in": counts_,
        "tokens_out": counts_,
        "cost_usd": floats,
        "doc_hash": texts,
        "prompt_hash": texts,
        "target_hash": texts,
        "scored_at": st.integers(0, 10**15).map(lambda us: T0 + timedelta(microseconds=us)),
    }
)


@settings(max_examples=40, deadline=None, suppress_health_check=SHARED)
@given(
    st.lists(score_rows, max_size=8, unique_by=lambda r: (r["query_id"], r["metric"], r["filter"])),
    st.sampled_from(["error", "refused", "empty", "truncated"]),
)
def test_scores_round_trip(catalogued: Warehouse, rows: list[dict[str, Any]], failure: str) -> None:
    frame = scores(
        *[
            {"model_id": "a/alpha", "revision": "a1"}
            | row
            | {"status": "ok" if row["score"] is not None else failure}
            for row in rows
        ]
    )
    with rolled_back(catalogued), tempfile.TemporaryDirectory() as name:
        start(catalogued, "run", "a/alpha", "a1")
        part = write_part(Path(name), "p", frame)
        assert catalogued.scores.merge_part(part, "run") == frame.height
        got = catalogued.read("SELECT * EXCLUDE (run_id) FROM score")
        run = catalogued.scores.run("run")
    assert got.schema == polars_schema(ScoreFrame)
    key = ["query_id", "metric", "filter"]
    assert got.sort(key).equals(frame.sort(key))
    n_ok = frame.filter(status="ok").height
    assert run is not None
    assert (run["n_ok"], run["n_other"]) == (n_ok, frame.height - n_ok)
