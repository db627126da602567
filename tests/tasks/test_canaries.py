"""Canaries on a real warehouse: who is asked what and when, and a real model that is swapped."""

import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from tiny import write_model, write_tasks

from locus.evaluation.catalogue import read_catalogue
from locus.evaluation.parts import write_part
from locus.evaluation.request import EvaluationRequest
from locus.evaluation.worker import run as work
from locus.registry import ModelSpec
from locus.selection import spread_order
from tasks.canaries import canary_plan, check_drift
from tasks.discover import Discovered
from tasks.record import record_parts
from tasks.settings import EvaluationSettings, Settings
from warehouse import contracts
from warehouse.canaries import KIND
from warehouse.store import Warehouse

NOW = datetime(2026, 5, 1, 2, tzinfo=UTC)
HOSTILE = "</td><script>alert(1)</script>\x1b[2J'; DROP TABLE canary; --\u202e"

QUERIES = pl.DataFrame(
    [(f"{task}-{i:02d}", task, split)
     for task, split, n in (("left", "train", 9), ("right", "train", 9), ("left", "test", 5),
                            ("elsewhere", "train", 5))
     for i in range(100 * (split == "test"), 100 * (split == "test") + n)],
    schema=["query_id", "task", "split"],
    orient="row",
)  # fmt: skip


def served(name: str, revision: str = "unversioned") -> Discovered:
    args = {"model": "m", "base_url": "http://127.0.0.1:9/v1/completions"}
    return Discovered(ModelSpec(id=name, backend="local-completions", args=args), revision)


SERVED = served("org/served")
LOCAL = Discovered(ModelSpec(id="org/local", args={"pretrained": "x"}, revision="0" * 40), "r")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(home=tmp_path / "home")
    with Warehouse.open(made.warehouse) as w:
        models = [{"model_id": m.spec.id, "source": "registry"} for m in (SERVED, LOCAL)]
        w.catalogue.add_models(contracts.build(contracts.ModelFrame, models))
        tasks = [
            {"task": t, "task_version": "1", "source": "matrix" if t == "elsewhere" else "lm-eval"}
            for t in ("left", "right", "elsewhere")
        ]
        w.catalogue.add_tasks(contracts.build(contracts.TaskFrame, tasks))
        queries = [{**q, "task_version": "1", "text": q["query_id"]} for q in QUERIES.to_dicts()]
        w.catalogue.add_queries(contracts.build(contracts.QueryFrame, queries))
    return made


def asking(settings: Settings, **values: object) -> Settings:
    given = EvaluationSettings.model_validate({"canary_queries": 6, **values})
    return settings.model_copy(update={"evaluation": given})


def rows(
    model: Discovered, answers: Mapping[str, tuple[str, float | None]], at: datetime
) -> list[dict[str, object]]:
    """Rows of a part: by query its text, or status, and score (None unless ok)."""
    return [
        {"model_id": model.spec.id, "revision": model.revision, "query_id": q,
         "status": "ok" if score is not None else text, "score": score,
         "response": text if score is not None else None, "metric": "acc", "filter": "none",
         "scored_at": at}
        for q, (text, score) in answers.items()
    ]  # fmt: skip


def evaluated(settings: Settings, model: Discovered, queries: Sequence[str], status: str) -> None:
    score = 1.0 if status == "ok" else None
    part = settings.home / "parts" / f"{status}.parquet"
    write_part(rows(model, dict.fromkeys(queries, (status, score)), NOW - timedelta(days=9)), part)
    with Warehouse.open(settings.warehouse) as w:
        run = f"evaluation-{status}"
        w.scores.start_run(run, "lm-eval", model.spec.id, model.revision, {}, {}, None, 9)
        assert record_parts(w, run, [part]) == (len(queries), None)
        w.scores.finish_run(run, "finished")


def asked(
    settings: Settings, *models: Discovered, at: datetime = NOW
) -> dict[str, dict[str, list[str]]]:
    with Warehouse.open(settings.warehouse) as w:
        found = canary_plan(settings, w, models or [SERVED, LOCAL], at=at)
    return {p.model.spec.id: p.plan.queries for p in found}


def flat(by_task: Mapping[str, Sequence[str]]) -> list[str]:
    return [query for ids in by_task.values() for query in ids]


def answer(
    settings: Settings,
    at: datetime,
    answers: Mapping[str, tuple[str, float | None]],
    model: Discovered = SERVED,
) -> None:
    """A night's canaries, as the pipeline records them."""
    run = f"canary-{at.timestamp()}"
    part = settings.home / "canaries" / run / "part.parquet"
    write_part(rows(model, answers, at), part)
    with Warehouse.open(settings.warehouse) as w:
        n = len(answers)
        w.scores.start_run(run, KIND, model.spec.id, model.revision, {"way": 1}, {}, None, n)
        assert record_parts(w, run, [part]) == (n, None)
        assert record_parts(w, run, [part]) == (0, None)
        w.scores.finish_run(run, "finished")


TRAIN = QUERIES.filter(pl.col("task") != "elsewhere", split="train")


def test_the_first_canaries_are_what_was_answered_in_the_spread_order(settings: Settings) -> None:
    ask = asking(settings)
    assert asked(ask) == {}
    order = spread_order(TRAIN)["query_id"].to_list()
    others = QUERIES.filter((pl.col("task") == "elsewhere") | (pl.col("split") == "test"))
    evaluated(ask, SERVED, [*order[2:], *others["query_id"]], "ok")
    evaluated(ask, SERVED, order[:2], "refused")
    found = asked(ask)["org/served"]
    assert sorted(flat(found)) == sorted(order[2:8])
    assert list(found) == ["left", "right"]
    assert all(QUERIES.filter(query_id=q)["task"].item() == t for t in found for q in found[t])
    # Another version of it has answered nothing.
    assert asked(ask, served("org/served", "new")) == {}


@pytest.mark.parametrize(
    ("which", "expected"),
    [("services", ["org/served"]), ("all", ["org/local", "org/served"]), ("none", [])],
)
def test_the_settings_say_whose(settings: Settings, which: str, expected: list[str]) -> None:
    ask = asking(settings, canaries=which)
    evaluated(ask, SERVED, ["left-00"], "ok")
    local = [{**row, "metric": "m"} for row in rows(LOCAL, {"left-01": ("x", 1.0)}, NOW)]
    write_part(local, settings.home / "local.parquet")
    with Warehouse.open(settings.warehouse) as w:
        w.scores.start_run("l", "lm-eval", LOCAL.spec.id, LOCAL.revision, {}, {}, None, 1)
        w.scores.merge_part(settings.home / "local.parquet", "l")
    assert sorted(asked(ask)) == expected


def test_the_set_stays_and_is_asked_once_a_night(settings: Settings) -> None:
    ask = asking(settings)
    order = spread_order(TRAIN)["query_id"].to_list()
    evaluated(ask, SERVED, order[6:], "ok")
    first = flat(asked(ask)["org/served"])
    answer(ask, NOW, dict.fromkeys(first, ("a", 1.0)))
    evaluated(ask, SERVED, order[:6], "empty")
    for hours, due in ((0, False), (1, False), (19.9, False), (20, True), (24, True)):
        found = asked(asking(ask, canary_queries=9), at=NOW + timedelta(hours=hours))
        assert bool(found) is due
        if due:
            assert flat(found["org/served"]) == first
    # A night on which every call failed was a night as well, but takes no place of the set.
    answer(ask, NOW + timedelta(days=1), dict.fromkeys(first, ("error", None)))
    assert asked(ask, at=NOW + timedelta(days=1, hours=3)) == {}
    assert flat(asked(ask, at=NOW + timedelta(days=2))["org/served"]) == first


def test_canaries_are_nobodys_answers(settings: Settings) -> None:
    ask = asking(settings)
    evaluated(ask, SERVED, TRAIN["query_id"].to_list(), "ok")
    with Warehouse.open(settings.warehouse) as w:
        digest, before = w.scores.scores_digest(), w.scores.training_scores()
    answer(ask, NOW, dict.fromkeys(flat(asked(ask)["org/served"]), (HOSTILE, 0.0)))
    with Warehouse.open(settings.warehouse) as w:
        assert w.scores.scores_digest().equals(digest)
        assert w.scores.training_scores().equals(before)
        assert set(w.read("SELECT response FROM canary")["response"]) == {HOSTILE}


def test_a_bad_part_is_set_aside(settings: Settings) -> None:
    good, bad = (settings.home / f"{name}.parquet" for name in ("good", "bad"))
    write_part(rows(SERVED, {"left-00": ("x", 1.0)}, NOW), good)
    write_part(rows(SERVED, {"left-01": (HOSTILE, 7.0)}, NOW), bad)
    with Warehouse.open(settings.warehouse) as w:
        w.scores.start_run("run", KIND, SERVED.spec.id, SERVED.revision, {}, {}, None, 2)
        added, refused = record_parts(w, "run", [bad, good])
        assert added == 1
        assert refused is not None
        assert "score" in refused
        assert w.read("SELECT query_id FROM canary").rows() == [("left-00",)]
    assert not bad.exists()
    assert bad.with_suffix(".parquet.refused").exists()


def test_a_change_behind_an_address_is_seen(settings: Settings) -> None:
    ask = asking(settings, canary_queries=12)
    evaluated(ask, SERVED, TRAIN["query_id"].to_list(), "ok")
    queries = flat(asked(ask)["org/served"])
    assert len(queries) == 12

    def look() -> list[bool]:
        with Warehouse.open(settings.warehouse) as w:
            return [d.drifted for d in check_drift(w, [SERVED, LOCAL])]

    assert look() == []  # nobody has a baseline
    for day in range(3):
        answer(ask, NOW + timedelta(days=day), {q: (f"of {q}", 1.0) for q in queries})
        assert look() == [False]
    answer(ask, NOW + timedelta(days=3), dict.fromkeys(queries, ("error", None)))
    assert look() == [False]
    answer(ask, NOW + timedelta(days=4), dict.fromkeys(queries, (HOSTILE, 0.0)))
    with Warehouse.open(settings.warehouse) as w:
        (found,) = check_drift(w, [SERVED])
    assert (found.model, found.drifted) == ("org/served", True)
    assert (found.n, found.n_text_changed, found.gained, found.lost) == (12, 12, 0, 12)
    assert "script" not in found.said
    assert "give it a new `revision` in models.yaml" in found.said


def test_a_real_model_that_is_swapped_behind_its_name(tmp_path: Path) -> None:
    settings = asking(Settings(home=tmp_path / "home"), canaries="all", canary_queries=8)
    folder = write_tasks(tmp_path / "tasks")
    tasks, queries = read_catalogue(["tiny_copy"], [folder])
    model = Discovered(ModelSpec(id="org/tiny", backend="hf", args={"pretrained": "x"},
                                 revision="0" * 40), "unversioned")  # fmt: skip
    with Warehouse.open(settings.warehouse) as w:
        known = [{"model_id": "org/tiny", "source": "registry"}]
        w.catalogue.add_models(contracts.build(contracts.ModelFrame, known))
        w.catalogue.add_tasks(tasks)
        w.catalogue.add_queries(queries)

    def ask(run: str, kind: str, chosen: Mapping[str, Sequence[str]], weights: Path) -> list[Path]:
        request = EvaluationRequest(
            run_id=run, model_id="org/tiny", revision="unversioned", backend="hf",
            args={"pretrained": str(weights)}, queries={t: list(ids) for t, ids in chosen.items()},
            parts=str(settings.home / kind / run), task_folders=[str(folder)], device="cpu",
        )  # fmt: skip
        work(request, io.StringIO())
        with Warehouse.open(settings.warehouse) as w:
            w.scores.start_run(
                run, kind, "org/tiny", "unversioned", request.settings(), {}, None, None
            )
        return sorted(Path(request.parts).glob("*.parquet"))

    before, after = write_model(tmp_path / "one", 0), write_model(tmp_path / "two", 1)
    train = queries.filter(split="train")["query_id"].to_list()
    parts = ask("evaluation", "lm-eval", {"tiny_copy": train}, before)
    with Warehouse.open(settings.warehouse) as w:
        assert record_parts(w, "evaluation", parts) == (len(train), None)
    verdicts = []
    for day, weights in enumerate([before, before, before, after]):
        with Warehouse.open(settings.warehouse) as w:
            at = datetime.now(UTC) + timedelta(days=day)
            (planned,) = canary_plan(settings, w, [model], at=at)
        assert planned.plan.n_queries == 8
        assert planned.lineage()["chosen_by"] == {"canary": 8}
        parts = ask(f"night-{day}", KIND, planned.plan.queries, weights)
        with Warehouse.open(settings.warehouse) as w:
            assert record_parts(w, f"night-{day}", parts) == (8, None)
            verdicts += check_drift(w, [model])
            assert canary_plan(settings, w, [model]) == []
    assert [v.drifted for v in verdicts] == [False, False, False, True]
    assert [v.n_text_changed for v in verdicts][:3] == [0, 0, 0]
    assert verdicts[-1].n == 8
