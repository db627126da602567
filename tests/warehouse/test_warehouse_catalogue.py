"""Models, revisions, tasks and queries: added once, read back as they were."""

import pytest
from warehouse_sample import QUERIES, hours, models, queries, revisions, tasks

from warehouse.contracts import ModelFrame, RevisionFrame, TaskFrame, build
from warehouse.errors import ContractError
from warehouse.store import Warehouse


def test_adding_again_adds_nothing(catalogued: Warehouse) -> None:
    c = catalogued.catalogue
    before = [c.models(), c.revisions(latest=False), c.queries()]
    assert c.add_models(models("a/alpha", "b/beta")) == 0
    assert c.add_revisions(revisions(("a/alpha", "a1", hours(99)))) == 0
    assert c.add_tasks(tasks()) == 0
    assert c.add_queries(queries()) == 0
    after = [c.models(), c.revisions(latest=False), c.queries()]
    for old, new in zip(before, after, strict=True):
        assert new.equals(old)


def test_what_is_newly_known_is_filled_in_and_nothing_is_forgotten(empty: Warehouse) -> None:
    first = {
        "model_id": "a/alpha",
        "source": "registry",
        "params_b": 7.0,
        "released": "2026-01-02",
        "metadata": '{"moe": false}',
    }
    assert empty.catalogue.add_models(build(ModelFrame, [first])) == 1
    second = {"model_id": "a/alpha", "source": "import", "params_b": 8.0, "license": "mit"}
    third = {"model_id": "b/beta", "source": "import"}
    assert empty.catalogue.add_models(build(ModelFrame, [second, third])) == 1
    row = empty.catalogue.model("a/alpha")
    assert row is not None
    added = row.pop("added_at")
    assert added.utcoffset().total_seconds() == 0
    assert row == {
        "model_id": "a/alpha",
        "org": None,
        "family": None,
        "params_b": 8.0,
        "released": "2026-01-02",
        "license": "mit",
        "price_in_usd_per_mtok": None,
        "price_out_usd_per_mtok": None,
        "source": "registry",
        "metadata": {"moe": False},
    }
    assert empty.catalogue.model("nobody") is None


def test_an_imported_model_that_is_registered_becomes_a_registry_model(empty: Warehouse) -> None:
    empty.catalogue.add_models(models("a/alpha", source="import"))
    empty.catalogue.add_models(models("a/alpha", source="registry"))
    assert empty.catalogue.models()["source"].to_list() == ["registry"]


def test_latest_revision_and_all(catalogued: Warehouse) -> None:
    c = catalogued.catalogue
    assert c.revisions().select("model_id", "revision").rows() == [
        ("a/alpha", "a2"),
        ("b/beta", "b1"),
        ("c/gamma", "import"),
    ]
    assert c.revisions(latest=False)["revision"].to_list() == ["a1", "a2", "b1", "import"]


def test_revision_defaults_to_now_and_keeps_first_sight(catalogued: Warehouse) -> None:
    row = {"model_id": "d/delta", "revision": "r"}
    c = catalogued.catalogue
    assert c.add_revisions(build(RevisionFrame, [row])) == 1
    first = c.revisions().filter(model_id="d/delta")
    assert c.add_revisions(build(RevisionFrame, [row | {"backend": "vllm"}])) == 0
    second = c.revisions().filter(model_id="d/delta")
    assert second["seen_at"].to_list() == first["seen_at"].to_list()
    assert (first["backend"].item(), second["backend"].item()) == (None, "vllm")


def test_revision_of_an_unknown_model_is_refused(catalogued: Warehouse) -> None:
    with pytest.raises(ContractError, match=r"model_revision\.model_id.*not in table model.*x/x"):
        catalogued.catalogue.add_revisions(revisions(("x/x", "r", hours(0))))


def test_two_versions_of_a_task_are_two_rows(catalogued: Warehouse) -> None:
    newer = {"task": "arith", "task_version": "2", "source": "lm-eval"}
    assert catalogued.catalogue.add_tasks(build(TaskFrame, [newer])) == 1


def test_queries_by_split_task_and_id(catalogued: Warehouse) -> None:
    c = catalogued.catalogue
    assert c.queries()["query_id"].to_list() == [q for q, _, _ in QUERIES]
    assert c.queries("test")["query_id"].to_list() == ["q4", "q6"]
    assert c.queries("train", tasks=["geo"])["query_id"].to_list() == ["q5"]
    assert c.queries(ids=["q6", "q1", "q1", "nope"])["query_id"].to_list() == ["q1", "q6"]
    assert c.queries(ids=[]).is_empty()
    assert c.queries(tasks=["arith'; DROP TABLE query; --"]).is_empty()
    assert c.queries()["choices"].to_list()[0] == ["yes", "no"]


def test_queries_with_chosen_columns(catalogued: Warehouse) -> None:
    got = catalogued.catalogue.queries("test", columns=["text", "query_id"])
    assert got.rows() == [("text of q4", "q4"), ("text of q6", "q6")]
    with pytest.raises(ValueError, match="no column count\\(\\*\\)"):
        catalogued.catalogue.queries(columns=["count(*)"])
