"""Encodings, embeddings, predictions, checkpoints, snapshots and the audit log."""

import numpy as np
import polars as pl
import pytest
from warehouse_sample import hours, vectors

from warehouse.contracts import EncodingFrame, PredictionFrame, build
from warehouse.errors import ContractError, WarehouseError
from warehouse.store import Warehouse


def encodings(encoder: str, ids: list[str], matrix: np.ndarray) -> pl.DataFrame:
    return build(
        EncodingFrame,
        [
            {"query_id": i, "encoder": encoder, "vector": row.tolist()}
            for i, row in zip(ids, matrix, strict=True)
        ],
    ).drop("dim")


def predictions(*rows: tuple[str, str, float]) -> pl.DataFrame:
    return build(
        PredictionFrame, [{"model_id": m, "query_id": q, "p_correct": p} for m, q, p in rows]
    )


def test_encodings_round_trip_per_encoder(catalogued: Warehouse) -> None:
    v = catalogued.vectors
    assert v.missing_encodings("mini").columns == ["query_id", "text"]
    assert v.missing_encodings("mini").height == 6
    matrix = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
    assert v.add_encodings(encodings("mini", ["q5", "q1", "q3"], matrix)) == 3
    ids, got = v.encodings("mini")
    assert ids == ["q1", "q3", "q5"]
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, matrix[[1, 2, 0]])
    ids, got = v.encodings("mini", ["q5", "q2"])
    assert ids == ["q5"]
    np.testing.assert_array_equal(got, matrix[:1])
    assert v.missing_encodings("mini")["query_id"].to_list() == ["q2", "q4", "q6"]
    assert v.missing_encodings("mini", ["q1", "q2"])["query_id"].to_list() == ["q2"]
    assert v.missing_encodings("other").height == 6
    ids, got = v.encodings("other")
    assert (ids, got.shape) == ([], (0, 0))


def test_encodings_are_never_replaced(catalogued: Warehouse) -> None:
    v = catalogued.vectors
    v.add_encodings(encodings("mini", ["q1"], np.ones((1, 2))))
    assert v.add_encodings(encodings("mini", ["q1", "q2"], np.zeros((2, 2)))) == 1
    np.testing.assert_array_equal(v.encodings("mini")[1], [[1, 1], [0, 0]])


def test_encodings_of_one_encoder_have_one_length(catalogued: Warehouse) -> None:
    v = catalogued.vectors
    v.add_encodings(encodings("mini", ["q1"], np.ones((1, 2))))
    v.add_encodings(encodings("maxi", ["q1"], np.ones((1, 3))))
    with pytest.raises(ContractError, match=r"query_encoding\.dim.*encoder='mini'"):
        v.add_encodings(encodings("mini", ["q2"], np.ones((1, 3))))
    with pytest.raises(ContractError, match="not in table query"):
        v.add_encodings(encodings("mini", ["q99"], np.ones((1, 2))))
    assert v.encodings("mini")[0] == ["q1"]


def test_embeddings_are_replaced_for_the_given_models_only(catalogued: Warehouse) -> None:
    v = catalogued.vectors
    v.replace_embeddings("c1", vectors({"a/alpha": [1.0, 2.0], "b/beta": [3.0, 4.0]}))
    v.replace_embeddings("c2", vectors({"a/alpha": [9.0]}))
    assert v.replace_embeddings("c1", vectors({"b/beta": [5.0, 6.0], "c/gamma": [7.0, 8.0]})) == 2
    got = v.embeddings("c1")
    assert dict(got.select("model_id", "vector").rows()) == {
        "a/alpha": [1.0, 2.0],
        "b/beta": [5.0, 6.0],
        "c/gamma": [7.0, 8.0],
    }
    assert got["dim"].to_list() == [2, 2, 2]
    assert v.embeddings("c2").height == 1


def test_a_refused_embedding_keeps_the_old_ones(catalogued: Warehouse) -> None:
    v = catalogued.vectors
    v.replace_embeddings("c1", vectors({"a/alpha": [1.0, 2.0], "b/beta": [3.0, 4.0]}))
    before = v.embeddings("c1")
    with pytest.raises(ContractError, match="same for all models of checkpoint c1"):
        v.replace_embeddings("c1", vectors({"a/alpha": [1.0, 2.0, 3.0]}))
    with pytest.raises(ContractError, match="not in table model"):
        v.replace_embeddings("c1", vectors({"a/alpha": [0.0, 0.0], "x/x": [0.0, 0.0]}))
    assert v.embeddings("c1").equals(before)


def test_a_failed_step_that_was_caught_takes_the_whole_transaction_back(
    catalogued: Warehouse,
) -> None:
    v = catalogued.vectors
    v.replace_embeddings("c1", vectors({"a/alpha": [1.0, 2.0], "b/beta": [3.0, 4.0]}))
    before = v.embeddings("c1")
    with (
        pytest.raises(WarehouseError, match="all of it was rolled back"),
        catalogued.transaction(),
    ):
        with pytest.raises(ContractError):  # by then the old row of a/alpha is gone
            v.replace_embeddings("c1", vectors({"a/alpha": [1.0, 2.0, 3.0]}))
        catalogued.audit("embed", "a/alpha")
    assert v.embeddings("c1").equals(before)
    assert catalogued.read("FROM audit_log").is_empty()
    catalogued.audit("embed", "a/alpha")  # the next transaction is not affected
    assert catalogued.read("FROM audit_log").height == 1


def test_predictions_of_a_model_are_replaced_as_a_whole(catalogued: Warehouse) -> None:
    v = catalogued.vectors
    v.replace_predictions(
        "c1", predictions(("a/alpha", "q1", 0.1), ("a/alpha", "q2", 0.2), ("b/beta", "q1", 0.3))
    )
    assert v.replace_predictions("c1", predictions(("a/alpha", "q1", 0.9))) == 1
    assert v.predictions("c1").drop("predicted_at").rows() == [
        ("a/alpha", "q1", 0.9, None),
        ("b/beta", "q1", 0.3, None),
    ]
    sure = predictions(("a/alpha", "q1", 0.8)).with_columns(
        deviation=pl.Series([0.25], dtype=pl.Float32)
    )
    v.replace_predictions("c1", sure)
    assert v.predictions("c1")["deviation"].to_list() == [0.25, None]
    with pytest.raises(ContractError, match="deviation"):
        v.replace_predictions("c1", sure.with_columns(deviation=-pl.col("deviation")))
    assert v.predictions("c2").is_empty()


def test_one_checkpoint_is_active(empty: Warehouse) -> None:
    c = empty.checkpoints
    assert c.active() is None
    c.add({"checkpoint_id": "one", "encoder": "mini", "created_at": hours(1)})
    c.add(
        {
            "checkpoint_id": "two",
            "parent": "one",
            "encoder": "mini",
            "created_at": hours(2),
            "config": {"width": 128},
            "metrics": {"auc": 0.7},
            "n_models": 3,
        }
    )
    c.add({"checkpoint_id": "three", "encoder": "mini", "created_at": hours(3)}, activate=False)
    assert c.list().select("checkpoint_id", "state").rows() == [
        ("three", "retired"),
        ("two", "active"),
        ("one", "retired"),
    ]
    active = c.active()
    assert active is not None
    assert (active["checkpoint_id"], active["config"], active["metrics"]) == (
        "two",
        {"width": 128},
        {"auc": 0.7},
    )
    c.add({"checkpoint_id": "one", "encoder": "ignored"})  # there already: only made active again
    active = c.active()
    assert active is not None
    assert (active["checkpoint_id"], active["encoder"]) == ("one", "mini")
    assert c.list().filter(state="active").height == 1


def test_checkpoint_rows_are_checked(empty: Warehouse) -> None:
    with pytest.raises(ValueError, match=r"missing \['encoder'\], unknown \['wat'\]"):
        empty.checkpoints.add({"checkpoint_id": "one", "wat": 1})
    with pytest.raises(WarehouseError, match="checkpoint nine is not there"):
        empty.checkpoints.activate("nine")
    with pytest.raises(ValueError, match="JSON compliant"):
        empty.checkpoints.add(
            {"checkpoint_id": "x", "encoder": "e", "metrics": {"auc": float("nan")}}
        )
    assert empty.checkpoints.list().is_empty()


def test_snapshots_newest_first(empty: Warehouse) -> None:
    s = empty.snapshots
    assert s.latest() is None
    size = {"n_models": 1, "n_queries": 2, "n_scores": 3}
    s.add({"snapshot_id": "b", "created_at": hours(2), "parent": "a"} | size)
    s.add({"snapshot_id": "a", "created_at": hours(1)} | size)
    assert s.list()["snapshot_id"].to_list() == ["b", "a"]
    latest = s.latest()
    assert latest is not None
    assert (latest["snapshot_id"], latest["n_scores"], latest["created_at"]) == ("b", 3, hours(2))
    with pytest.raises(WarehouseError, match="snapshot a is there already"):
        s.add({"snapshot_id": "a"} | size)
    with pytest.raises(ValueError, match="missing"):
        s.add({"snapshot_id": "c"})


def test_audit_log(filled: Warehouse) -> None:
    filled.audit("rollback", "s0")
    got = filled.read("SELECT action, subject, detail FROM audit_log ORDER BY logged_at")
    assert got.rows() == [("publish", "s1", '{"by": "test"}'), ("rollback", "s0", None)]
