"""Decisions about checkpoints: recorded and carried out together, and the way back."""

import pytest
from warehouse_sample import hours

from warehouse.errors import WarehouseError
from warehouse.store import Warehouse


def add(warehouse: Warehouse, *names: str) -> None:
    for hour, name in enumerate(names):
        row = {"checkpoint_id": name, "encoder": "mini", "created_at": hours(hour)}
        warehouse.checkpoints.add(row, activate=False)


def active(warehouse: Warehouse) -> str | None:
    row = warehouse.checkpoints.active()
    return None if row is None else row["checkpoint_id"]


def test_a_promotion_is_recorded_and_carried_out(empty: Warehouse) -> None:
    c = empty.checkpoints
    assert (c.before(), c.decisions()) == (None, [])
    add(empty, "a", "b", "c")
    c.decide("first", "a", True, "there was none")
    c.decide("retrain", "b", False, "worse", metrics={"bce": {"low": 0.1}}, git_sha="abc")
    assert active(empty) == "a"
    c.decide("retrain", "c", True, "better")
    assert active(empty) == "c"
    assert [(d["kind"], d["candidate"], d["active"], d["promoted"]) for d in c.decisions()] == [
        ("retrain", "c", "a", True),
        ("retrain", "b", "a", False),
        ("first", "a", None, True),
    ]
    (turned_down,) = c.decisions("b")
    assert (turned_down["metrics"], turned_down["git_sha"]) == ({"bce": {"low": 0.1}}, "abc")
    assert c.decisions("c")[0]["metrics"] is None
    assert c.list().select("checkpoint_id", "state", "promoted", "reason").rows() == [
        ("c", "active", True, "better"),
        ("b", "retired", False, "worse"),
        ("a", "retired", True, "there was none"),
    ]


def test_rolling_back_goes_back_one_promotion_at_a_time(empty: Warehouse) -> None:
    c = empty.checkpoints
    add(empty, "a", "b", "c")
    for name in "abc":
        c.decide("retrain", name, True, "better")
    way = []
    while (before := c.before()) is not None:
        c.decide("rollback", before, True, "back")
        way.append(before)
    assert way == ["b", "a"]
    assert active(empty) == "a"
    # Promoted again, from elsewhere: the way back leads there.
    c.decide("by hand", "c", True, "because")
    assert c.before() == "a"


def test_decisions_are_checked(empty: Warehouse) -> None:
    c = empty.checkpoints
    add(empty, "a", "b")
    c.decide("first", "a", True, "there was none")
    with pytest.raises(ValueError, match="'whim' is no kind of decision; known are first, retrain"):
        c.decide("whim", "a", True, "why not")
    with pytest.raises(WarehouseError, match="checkpoint nine is not there"):
        c.decide("retrain", "nine", True, "better")
    with pytest.raises(ValueError, match="JSON compliant"):
        c.decide("retrain", "b", True, "better", metrics={"bce": float("nan")})
    assert active(empty) == "a"
    assert len(c.decisions()) == 1


def test_adding_and_deciding_is_all_or_nothing(empty: Warehouse) -> None:
    c = empty.checkpoints
    add(empty, "a")
    c.decide("first", "a", True, "there was none")
    with pytest.raises(RuntimeError, match="power cut"), empty.transaction():
        add(empty, "b")
        c.decide("retrain", "b", True, "better")
        raise RuntimeError("power cut")
    assert active(empty) == "a"
    assert (c.get("b"), len(c.decisions())) == (None, 1)


def test_without_scores_there_is_no_digest(empty: Warehouse) -> None:
    assert empty.checkpoints.training_digest() is None


def test_the_digest_is_of_training_and_validation_scores(filled: Warehouse) -> None:
    digest = filled.checkpoints.training_digest()
    assert digest is not None
    splits = filled.read(
        "SELECT q.split, count(*) AS n FROM latest_score JOIN query AS q USING (query_id) "
        "WHERE status = 'ok' GROUP BY q.split"
    )
    assert set(splits["split"]) == {"train", "val", "test"}
    seen = {digest}
    for split, changes in (("test", False), ("train", True), ("val", True)):
        with pytest.raises(RuntimeError, match="undone"), filled.transaction():
            filled._session.execute(
                "UPDATE score SET score = 1 - score WHERE status = 'ok' AND score <> 0.5 "
                "AND query_id IN (SELECT query_id FROM query WHERE split = ?)",
                [split],
            )
            now = filled.checkpoints.training_digest()
            assert (now not in seen) == changes, split
            raise RuntimeError("undone")
    assert filled.checkpoints.training_digest() == digest
