"""Real lm-eval on a real tiny model: the right documents, the right scores, nothing else."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from locus import frames
from locus.evaluation import harness
from locus.evaluation.catalogue import read_catalogue
from locus.evaluation.harness import HarnessError


@pytest.fixture(scope="module")
def tasks(task_folder: Path) -> dict[str, Any]:
    return harness.load_tasks(["tiny_choice", "tiny_copy"], [task_folder])


@pytest.fixture(scope="module")
def lm(tiny_model: Path) -> Any:
    from lm_eval.api.registry import get_model

    return get_model("hf").create_from_arg_obj(
        {"pretrained": str(tiny_model)}, {"batch_size": 8, "device": "cpu"}
    )


def test_catalogue_has_every_document_once(bank: pl.DataFrame) -> None:
    assert dict(bank.schema) == frames.QUERIES
    assert bank.group_by("task").len().sort("task").rows() == [
        ("tiny_choice", 40),
        ("tiny_copy", 40),
    ]
    assert bank["query_id"].n_unique() == 80
    row = bank.filter(pl.col("text") == "Copy the number 7 ->").row(0, named=True)
    assert (row["target"], row["task_version"], row["choices"]) == ("7", "2.0", None)
    assert bank.filter(task="tiny_choice")["target"][0] == "b"


def test_ids_are_the_same_in_every_process(task_folder: Path, bank: pl.DataFrame) -> None:
    again = read_catalogue(["tiny_copy", "tiny_choice"], [task_folder])[1]
    assert again["query_id"].sort().to_list() == bank["query_id"].sort().to_list()


def test_unknown_tasks_are_named(task_folder: Path) -> None:
    with pytest.raises(HarnessError, match=r"'tiny_coppy': check .*did you mean tiny_copy"):
        harness.load_tasks(["tiny_choice", "tiny_coppy"], [task_folder])


@pytest.mark.parametrize("order", [1, -1])
def test_exactly_what_was_asked_comes_back(tasks: dict[str, Any], lm: Any, order: int) -> None:
    """Scattered documents in any order, over two tasks, against the task's own process_results."""
    asked = {
        name: [harness.questions(task)[i] for i in (31, 2, 17)[::order]]
        for name, task in load_fresh(tasks).items()
    }
    rows = {row["query_id"]: row for row in harness.ask(lm, tasks, asked)}
    assert set(rows) == {q.query_id for qs in asked.values() for q in qs}
    for question in asked["tiny_copy"]:
        row = rows[question.query_id]
        expected = float(row["response"] == question.target)
        assert row["score"] == expected == json.loads(row["metrics"])["exact_match,none"]
        assert row["tokens_out"] <= 4
    for question in asked["tiny_choice"]:
        row = rows[question.query_id]
        likelihoods = [float(r[0][0]) for r in json.loads(row["response"])]
        chosen = question.choices[likelihoods.index(max(likelihoods))]  # type: ignore[index]
        assert row["score"] == float(chosen == question.target)
        assert (row["metric"], row["status"]) == ("acc", "ok")
        assert row["tokens_in"] > len(question.prompt)


def load_fresh(tasks: dict[str, Any]) -> dict[str, Any]:
    """The tasks with all their documents again, whatever was asked before."""
    for task in tasks.values():
        if hasattr(task, "_locus_base"):
            task.__class__ = task._locus_base
    return tasks


def test_asking_part_gives_the_scores_of_asking_all(tasks: dict[str, Any], lm: Any) -> None:
    everything = {n: harness.questions(t) for n, t in load_fresh(tasks).items()}
    whole = {r["query_id"]: r["score"] for r in harness.ask(lm, tasks, everything)}
    some = {name: questions[5:9] for name, questions in everything.items()}
    for row in harness.ask(lm, tasks, some):
        assert row["score"] == whole[row["query_id"]]


def test_an_answer_to_another_document_is_refused(
    tasks: dict[str, Any], lm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A harness that mislabels documents, as position sampling does, must not get through."""
    import lm_eval.evaluator

    questions = harness.questions(load_fresh(tasks)["tiny_copy"])
    real = lm_eval.evaluator.evaluate

    def mislabelled(*args: Any, **kwargs: Any) -> Any:
        result = real(*args, **kwargs)
        result["samples"]["tiny_copy"][0]["doc"] = questions[30].document
        return result

    monkeypatch.setattr(lm_eval.evaluator, "evaluate", mislabelled)
    with pytest.raises(HarnessError, match="nothing is kept"):
        harness.ask(lm, tasks, {"tiny_copy": questions[:3]})


def test_places_are_only_where_to_look_first(tasks: dict[str, Any], bank: pl.DataFrame) -> None:
    task = tasks["tiny_copy"]
    rows = bank.filter(task="tiny_copy")
    places = {q: int(p) for q, p in rows.select("query_id", "source_id").iter_rows()}
    assert sorted(places.values()) == list(range(40))
    some = dict(list(places.items())[3:9])
    everything = {q.query_id: q for q in harness.questions(task)}
    wrong = {query: (place + 7) % 40 for query, place in some.items()}
    beyond = dict.fromkeys(some, 10**6)
    for told in (some, wrong, beyond, dict.fromkeys(some)):
        found = harness.some_questions(task, told)
        assert found == {query: everything[query] for query in some}
    assert harness.some_questions(task, {"q-unknown": 0}) == {}
