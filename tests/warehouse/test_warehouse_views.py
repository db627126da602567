"""Golden rows of every view on the sample warehouse, and properties against plain Python."""

import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from warehouse_sample import SHARED, T0, hours, rolled_back, score_row, scores, start, write_part

from warehouse.store import Warehouse


def rows(w: Warehouse, sql: str) -> list[tuple[Any, ...]]:
    return w.read(sql).rows()


def test_latest_score(filled: Warehouse) -> None:
    got = rows(
        filled,
        "SELECT model_id, query_id, revision, status, score FROM latest_score "
        "ORDER BY model_id, query_id",
    )
    assert got == [
        ("a/alpha", "q1", "a2", "ok", 0.0),
        ("a/alpha", "q2", "a1", "ok", 0.0),
        ("a/alpha", "q3", "a1", "ok", 1.0),
        ("a/alpha", "q4", "a1", "ok", 1.0),
        ("a/alpha", "q5", "a1", "error", None),
        ("a/alpha", "q6", "a1", "ok", 0.0),
        ("b/beta", "q1", "b1", "ok", 1.0),
        ("b/beta", "q2", "b1", "ok", 1.0),
        ("b/beta", "q3", "b1", "ok", 0.0),
        ("b/beta", "q4", "b1", "ok", 0.5),
        ("b/beta", "q5", "b1", "ok", 1.0),
        ("c/gamma", "q1", "import", "ok", 0.0),
        ("c/gamma", "q2", "import", "ok", 0.0),
        ("c/gamma", "q6", "import", "ok", 1.0),
    ]


def test_model_accuracy_with_wilson_interval(filled: Warehouse) -> None:
    got = rows(
        filled,
        "SELECT model_id, task, n, accuracy, round(accuracy_low, 4), round(accuracy_high, 4) "
        "FROM model_accuracy ORDER BY model_id, task",
    )
    # By hand with z^2 = 3.8415: 0 of n -> 0 .. z^2 / (n + z^2), 1 of 1 -> 1 / (1 + z^2) .. 1,
    # p of 4 -> (p + .4802 -+ 1.96 sqrt(p (1 - p) / 4 + .0600)) / 1.9604.
    assert got == [
        ("a/alpha", "arith", 4, 0.5, 0.15, 0.85),
        ("a/alpha", "geo", 1, 0.0, 0.0, 0.7935),
        ("b/beta", "arith", 4, 0.625, 0.2194, 0.9081),
        ("b/beta", "geo", 1, 1.0, 0.2065, 1.0),
        ("c/gamma", "arith", 2, 0.0, 0.0, 0.6576),
        ("c/gamma", "geo", 1, 1.0, 0.2065, 1.0),
    ]


def test_agreement_shows_each_pair_from_both_sides(filled: Warehouse) -> None:
    got = rows(filled, "SELECT * FROM agreement WHERE model_a < model_b ORDER BY ALL")
    assert [(a, b, n) for a, b, n, _, _ in got] == [
        ("a/alpha", "b/beta", 4),
        ("a/alpha", "c/gamma", 3),
        ("b/beta", "c/gamma", 2),
    ]
    assert [agree for *_, agree, _ in got] == pytest.approx([1 / 4, 2 / 3, 0.0])
    assert [1 - agree for *_, agree, _ in got] == pytest.approx([d for *_, d in got])
    swapped = "SELECT model_b, model_a, n_common, agreement, disagreement FROM agreement "
    assert rows(filled, swapped + "WHERE model_a > model_b ORDER BY ALL") == got


def test_filter_on_one_model_reaches_the_scan_below_agreement(filled: Warehouse) -> None:
    plan = filled.read("EXPLAIN SELECT * FROM agreement WHERE model_a = 'a/alpha'")
    assert "model_id = 'a/alpha'" in plan["explain_value"].str.join("").item().replace('"', "")


def test_nearest_models_of_the_active_checkpoint(filled: Warehouse) -> None:
    got = rows(filled, "SELECT * FROM nearest_models ORDER BY model_id, rank")
    assert [(m, n, r) for m, n, _, r in got] == [
        ("a/alpha", "c/gamma", 1),
        ("a/alpha", "b/beta", 2),
        ("b/beta", "c/gamma", 1),
        ("b/beta", "a/alpha", 2),
        ("c/gamma", "a/alpha", 1),  # as near as b/beta: the tie goes by name
        ("c/gamma", "b/beta", 2),
    ]
    near = 1 - 0.5**0.5
    assert [d for *_, d, _ in got] == pytest.approx([near, 1, near, 1, near, near], abs=1e-6)


def test_coverage(filled: Warehouse) -> None:
    got = rows(filled, "SELECT * FROM coverage ORDER BY task")
    assert got == [
        ("arith", "1", 4, 3, 1, 10, pytest.approx(10 / 12)),
        ("geo", "1", 2, 3, 1, 3, pytest.approx(3 / 6)),
    ]


def test_coverage_of_a_task_nobody_was_asked(catalogued: Warehouse) -> None:
    assert rows(catalogued, "SELECT * FROM coverage ORDER BY task") == [
        ("arith", "1", 4, 0, 4, 0, 0.0),
        ("geo", "1", 2, 0, 4, 0, 0.0),
    ]


def test_cost_by_model_keeps_unknown_unknown(filled: Warehouse) -> None:
    got = rows(filled, "SELECT * FROM cost_by_model ORDER BY model_id")
    assert got == [
        # model, calls, ok, tokens in, out, calls with cost, usd, mean ms: (5*100 + 500 + 2*200) / 8
        ("a/alpha", 8, 6, 60, 12, 5, pytest.approx(0.005), 175.0),
        ("b/beta", 5, 5, None, None, 0, None, 50.0),
    ]


def test_freshness(filled: Warehouse) -> None:
    got = {row[0]: row[1:] for row in rows(filled, "SELECT * FROM freshness ORDER BY model_id")}
    assert {m: r[0] for m, r in got.items()} == {
        "a/alpha": hours(48),
        "b/beta": T0,
        "c/gamma": T0,
        "d/delta": None,
    }
    published = filled.snapshots.latest()
    assert published is not None
    embedded = filled.vectors.embeddings("new")
    for model, at in embedded.select("model_id", "embedded_at").rows():
        assert got[model][1:] == (at, published["created_at"])
    assert got["d/delta"] == (None, None, None)


def test_an_embedding_newer_than_every_snapshot_is_not_published(filled: Warehouse) -> None:
    rows_new = filled.vectors.embeddings("new").filter(model_id="a/alpha")
    filled.vectors.replace_embeddings("new", rows_new.drop("checkpoint_id", "embedded_at"))
    got = dict(rows(filled, "SELECT model_id, last_published_at FROM freshness"))
    assert got["a/alpha"] is None
    assert got["b/beta"] is not None


answers = st.tuples(
    st.sampled_from(["a/alpha", "b/beta"]),
    st.sampled_from(["a1", "a2", "unseen"]),
    st.sampled_from(["q1", "q2"]),
    st.sampled_from([None, 0.0, 1.0]),
    st.integers(0, 3),
)


@settings(max_examples=25, deadline=None, suppress_health_check=SHARED)
@given(given_rows=st.lists(answers, max_size=8))
def test_latest_score_is_what_its_comment_says(
    catalogued: Warehouse, given_rows: list[tuple[Any, ...]]
) -> None:
    """Against plain Python: ok first, then the newest revision, then the newest row."""
    seen = {("a/alpha", "a1"): 1, ("a/alpha", "a2"): 2}  # b/beta has neither revision
    best: dict[tuple[str, str], tuple[Any, ...]] = {}
    with rolled_back(catalogued), tempfile.TemporaryDirectory() as name:
        for i, (model, revision, query, score, day) in enumerate(given_rows):
            run = f"run-{i:02d}"
            start(catalogued, run, None, None)
            at = T0 + timedelta(days=day)
            row = scores(score_row(model, revision, query, score, scored_at=at))
            if catalogued.scores.merge_part(write_part(Path(name), run, row), run):
                rank = (score is not None, seen.get((model, revision), 0), day, run)
                candidate = (rank, run, revision, score)
                best[model, query] = max(best.get((model, query), candidate), candidate)
        got = catalogued.read(
            "SELECT model_id, query_id, run_id, revision, score FROM latest_score"
        )
    assert {(m, q): rest for m, q, *rest in got.rows()} == {
        key: rest for key, (_, *rest) in best.items()
    }
