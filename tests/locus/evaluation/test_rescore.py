"""Stored answers scored anew by real lm-eval: bit by bit what an evaluation gives, or left."""

import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from locus.evaluation import harness, rescore, rescore_worker
from locus.evaluation.harness import HarnessError
from locus.evaluation.rescore import RescoreFailedError, RescoreRequest
from locus.evaluation.rescore_worker import Left, Scorer
from locus.frames import SCORES

CHOICE = """\
task: again_choice
custom_dataset: !function again_docs.choice
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}} ->"
doc_to_choice: "{{choices}}"
doc_to_target: "{{choices.index(answer)}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
metadata: {version: 1.0}
"""
NUMBER = """\
task: again_number
custom_dataset: !function again_docs.number
test_split: test
output_type: generate_until
doc_to_text: "{{question}} ->"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 8, do_sample: false}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
filter_list:
  - name: strict
    filter: [{function: take_first}]
  - name: flexible
    filter:
      - {function: regex, regex_pattern: "([0-9]+)", group_select: -1}
      - {function: take_first}
metadata: {version: 1.0}
"""
# Its own code: shares of letters, numbers with many digits; some words are too much for it.
SHARES = """\
task: again_shares
custom_dataset: !function again_docs.number
test_split: test
output_type: generate_until
doc_to_text: "{{question}} =>"
doc_to_target: "{{answer}}"
process_results: !function again_docs.shares
generation_kwargs: {until: ["\\n"], max_gen_toks: 8, do_sample: false}
metric_list:
  - {metric: letters, aggregation: mean, higher_is_better: true}
  - {metric: length, aggregation: mean, higher_is_better: true}
  - {metric: odd, aggregation: mean, higher_is_better: true}
  - {metric: keyless, aggregation: mean, higher_is_better: true}
filter_list:
  - name: plain
    filter: [{function: take_first}]
  - name: picky
    filter: [{function: custom, filter_fn: !function again_docs.picky}, {function: take_first}]
metadata: {version: 1.0}
"""
DOCS = """\
import os
import time
from pathlib import Path

from datasets import Dataset


def choice(**_):
    rows = []
    for i in range(30):
        choices = [chr(98 + i % 24), "none of the letters in that list", "zz"]
        question = f"Which letter follows {chr(97 + i % 24)} in list {i}?"
        rows.append({"question": question, "choices": choices, "answer": choices[i % 3]})
    return {"test": Dataset.from_list(rows)}


def number(**_):
    rows = [{"question": f"Copy the number {i}", "answer": str(i)} for i in range(30)]
    return {"test": Dataset.from_list(rows)}


def shares(doc, results):
    said = results[0]
    if said == "forever":
        Path(__file__).with_name("forever").touch()
        time.sleep(600)
    if "unscorable" in said:
        raise ValueError(f"what is {said!r}?")
    if said == "abc":
        doc["answer"] += "!"  # as careless code does; the next model must not meet it
    return {
        "letters": sum(c.isalpha() for c in said) / (len(said) + len(doc["answer"])),
        "length": len(said),
        "odd": sum(map(ord, said + doc["answer"])) % 97 / 97,
        "keyless": float(not any("KEY" in name for name in os.environ)),
    }


def picky(resps, docs):
    if any("unfilterable" in text for one in resps for text in one):
        raise RuntimeError("no filter for that")
    return [[text[::-1] for text in one] for one in resps]
"""
NAMES = ["again_choice", "again_number", "again_shares"]


def write(folder: Path, **changed: str) -> Path:
    texts = {"again_choice": CHOICE, "again_number": NUMBER, "again_shares": SHARES} | changed
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    (folder / "again_docs.py").write_text(DOCS)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("again"))


@pytest.fixture(scope="module")
def tasks(folder: Path) -> dict[str, Any]:
    return harness.load_tasks(NAMES, [folder])


def answer_to(query_id: str, response: str | None, version: str = "1.0") -> dict[str, Any]:
    return {
        "model_id": "org/m", "revision": "r", "query_id": query_id, "task_version": version,
        "score": 0.25, "response": response, "doc_hash": "d", "prompt_hash": "p",
        "scored_at": datetime.now(UTC),
    }  # fmt: skip


def scored(
    task: Any, wanted: str, responses: Sequence[str | None]
) -> tuple[list[dict[str, Any]], dict[str, Left]]:
    """Score responses to the first queries of a task."""
    queries = [q.query_id for q in harness.questions(task)]
    left: dict[str, Left] = {}
    answers = [answer_to(q, said) for q, said in zip(queries, responses, strict=False)]
    return list(Scorer(task, wanted).score(answers, left)), left


def test_the_same_metric_gives_the_scores_of_the_evaluation(
    tasks: dict[str, Any], folder: Path, tiny_model: Path
) -> None:
    """What an evaluation files, its answers scored anew give again: every number, every hash."""
    from lm_eval.api.registry import get_model

    lm = get_model("hf").create_from_arg_obj(
        {"pretrained": str(tiny_model)}, {"batch_size": 8, "device": "cpu"}
    )
    asked = {name: harness.questions(task)[3:27] for name, task in tasks.items()}
    filed = {r["query_id"]: r for r in harness.ask(lm, harness.load_tasks(NAMES, [folder]), asked)}
    for name, task in tasks.items():
        answers = [answer_to(q.query_id, filed[q.query_id]["response"]) for q in asked[name]]
        left: dict[str, Left] = {}
        again = list(Scorer(task).score(answers, left))
        assert left == {}
        assert [row["query_id"] for row in again] == [q.query_id for q in asked[name]]
        for row in again:
            was = filed[row["query_id"]]
            # JSON of floats is exact: equal texts are equal bits.
            for key in ("score", "metrics", "metric", "filter", "response", "target_hash"):
                assert row[key] == was[key], (name, key)
        if name != "again_number":  # a random model copies no number
            assert len({row["metrics"] for row in again}) > 1


def test_multiple_choice_by_another_metric(tasks: dict[str, Any]) -> None:
    """Against the definition: the best log-likelihood a character, of choices as they are."""
    task = tasks["again_choice"]
    responses = [
        json.dumps([[[-2.0 - i, False]], [[-20.0, False]], [[-3.5, True]]]) for i in range(12)
    ]
    by_acc, _ = scored(task, "acc,none", responses)
    by_norm, left = scored(task, "acc_norm,none", responses)
    assert left == {}
    for i, (acc, norm, q) in enumerate(zip(by_acc, by_norm, harness.questions(task), strict=False)):
        assert q.choices is not None
        assert q.target is not None
        right = q.choices.index(q.target)
        values = [-2.0 - i, -20.0, -3.5]
        a_character = [v / len(c) for v, c in zip(values, q.choices, strict=True)]
        assert acc["score"] == float(max(values) == values[right])
        assert norm["score"] == float(max(a_character) == a_character[right])
        assert (norm["metric"], norm["filter"], norm["status"]) == ("acc_norm", "none", "ok")
        assert json.loads(norm["metrics"]) == json.loads(acc["metrics"])
    assert [r["score"] for r in by_acc] != [r["score"] for r in by_norm]
    assert {r["score"] for r in by_acc} == {0.0, 1.0}


def test_generation_by_another_filter(tasks: dict[str, Any]) -> None:
    responses = ["0", "it is 1.", "2 or 3", "", "4\u00a0"]
    strict, _ = scored(tasks["again_number"], "exact_match,strict", responses)
    flexible, left = scored(tasks["again_number"], "exact_match,flexible", responses)
    assert left == {}
    assert [row["score"] for row in strict] == [1, 0, 0, 0, 0]
    assert [row["score"] for row in flexible] == [1, 1, 0, 0, 1]
    row = flexible[1]
    assert json.loads(row["metrics"]) == {"exact_match,strict": 0, "exact_match,flexible": 1}
    assert (row["response"], row["doc_hash"], row["prompt_hash"]) == ("it is 1.", "d", "p")
    # Nothing was asked, so nothing was measured.
    assert {row[k] for k in ("latency_ms", "tokens_in", "tokens_out", "cost_usd")} == {None}


def test_a_new_row_is_newer_than_the_one_it_replaces(tasks: dict[str, Any]) -> None:
    later = datetime.now(UTC) + timedelta(days=400)
    query = harness.questions(tasks["again_number"])[0].query_id
    answer = {**answer_to(query, "0"), "scored_at": later}
    rows = list(Scorer(tasks["again_number"], "exact_match,strict").score([answer], {}))
    assert later < rows[0]["scored_at"] < later + timedelta(seconds=1)


def test_a_query_is_known_by_its_id_alone(tasks: dict[str, Any]) -> None:
    """Another document must not get the score, wherever it stands in the task."""
    task = tasks["again_number"]
    last = harness.questions(task)[29].query_id
    other = harness.questions(tasks["again_choice"])[0].query_id
    answers = [answer_to("q-gone", "0"), answer_to(last, "29"), answer_to(other, "0")]
    answers.append(answer_to("q-old", "0", version="0.9"))
    left: dict[str, Left] = {}
    rows = list(Scorer(task, "exact_match,strict").score(answers, left))
    assert [(row["query_id"], row["score"]) for row in rows] == [(last, 1.0)]
    assert left == {
        "the installed task has no such query": Left(2, "q-gone", "org/m"),
        "asked by version 0.9 of the task, and 1.0 is installed": Left(1, "q-old", "org/m"),
    }


@pytest.mark.parametrize(
    ("response", "why"),
    [
        (None, "no response is stored"),
        ("[[[-1.0, fal", "no list"),
        ('"-1.0"', "no list"),
        ("[[[-1.0, false]], [[-2.0, true]]]", "to 2 requests, and the task makes 3"),
        ("[[[-1.0, false], [-2.0, true]], [[-2.0, true]], [[-3.0, true]]]", "something else"),
        ('[[["-1.0", false]], [[-2.0, true]], [[-3.0, true]]]', "something else"),
        ("[[-1.0], [-2.0], [-3.0]]", "something else"),
    ],
)
def test_a_response_that_is_not_whole_is_left(
    tasks: dict[str, Any], response: str | None, why: str
) -> None:
    good = json.dumps([[[-1.0, False]], [[-2.0, False]], [[-3.5, False]]])
    rows, left = scored(tasks["again_choice"], "acc,none", [good, response, good])
    assert len(rows) == 2
    assert [why in reason for reason in left] == [True]


def test_what_a_task_can_t_score_is_left(tasks: dict[str, Any]) -> None:
    task = tasks["again_shares"]
    said = ["abc", "unscorable \x1b[31m", "unfilterable", "1234"]
    rows, left = scored(task, "letters,plain", said)
    # By hand: letters over the length of what was said and of the answer, here with its mark. A
    # filter that can't read an answer is no reason against another one.
    assert [row["score"] for row in rows] == [3 / (3 + 2), 12 / (12 + 1), 0.0]
    assert "letters,picky" not in json.loads(rows[1]["metrics"])
    (why,) = left
    assert "ValueError: what is 'unscorable" in why
    assert why.isprintable()
    rows, left = scored(task, "letters,picky", said)
    assert [row["response"] for row in rows] == [said[0], said[1], said[3]]
    (why,) = left
    assert "RuntimeError: no filter for that" in why
    assert left[why].n == 1


def test_a_document_is_the_same_for_every_model(tasks: dict[str, Any]) -> None:
    """The task's code adds to its document; the second model must be scored like the first."""
    query = harness.questions(tasks["again_shares"])[7].query_id
    scorer = Scorer(tasks["again_shares"], "letters,plain")
    rows = list(scorer.score([answer_to(query, "abc")] * 3, {}))
    assert [row["score"] for row in rows] == [3 / 5] * 3


def test_obstacles(folder: Path, tmp_path: Path) -> None:
    twice = NUMBER.replace("metadata:", "repeats: 3\nmetadata:")
    unsafe = SHARES.replace("metadata:", "unsafe_code: true\nmetadata:")
    found = harness.load_tasks(NAMES, [write(tmp_path, again_number=twice, again_shares=unsafe)])
    assert rescore_worker.obstacle(found["again_choice"]) is None
    assert "asks 3 times" in str(rescore_worker.obstacle(found["again_number"]))
    assert "runs code" in str(rescore_worker.obstacle(found["again_shares"]))


def request_for(
    folder: Path, tmp_path: Path, said: dict[str, list[str]], **metrics: str
) -> RescoreRequest:
    """A request about one model's answers to the first queries of tasks."""
    files = {}
    for name, responses in said.items():
        task = harness.load_tasks([name], [folder])[name]
        ids = [q.query_id for q in harness.questions(task)]
        rows = [answer_to(q, text) for q, text in zip(ids, responses, strict=False)]
        files[name] = str(tmp_path / f"{name}.parquet")
        pl.DataFrame(rows).write_parquet(files[name])
    return RescoreRequest(
        tasks=NAMES, parts=str(tmp_path / "parts"), metrics=metrics, task_folders=[str(folder)],
        answers=files,
    )  # fmt: skip


def test_a_score_outside_of_0_to_1_leaves_nothing_of_the_task(folder: Path, tmp_path: Path) -> None:
    said = {"again_shares": ["a", "", "abcdef"], "again_number": ["0", "7"]}
    request = request_for(folder, tmp_path, said, again_shares="length")
    # A second model, whose answers alone would do.
    file = Path(request.answers["again_shares"])
    both = pl.read_parquet(file)
    pl.concat([both[:1].with_columns(model_id=pl.lit("org/a")), both]).write_parquet(file)
    out = io.StringIO()
    rescore_worker.run(request, out)
    number, shares = (json.loads(line) for line in out.getvalue().splitlines())
    assert (shares["event"], shares["task"]) == ("refused", "again_shares")
    assert "length" in shares["why"]
    assert "6.0" in shares["why"]
    parts = list((tmp_path / "parts").rglob("*.parquet"))
    assert [str(part) for part in parts] == [one["part"] for one in number["parts"]]
    assert dict(pl.read_parquet(parts[0]).schema) == SCORES
    assert (number["n"], number["before"], number["after"], number["left"]) == (2, 0.25, 0.5, [])


def test_the_worker_is_a_process_without_keys(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "marker-secret")
    seen: list[dict[str, Any]] = []
    look = RescoreRequest(NAMES, str(tmp_path / "parts"), {"again_shares": "keyless,picky"},
                          [str(folder)])  # fmt: skip
    rescore.launch(look, tmp_path / "look", 120, seen.append)
    assert [(e["task"], e["metric"], e["filter"]) for e in seen] == [
        ("again_choice", "acc", "none"),
        ("again_number", "exact_match", "strict"),
        ("again_shares", "keyless", "picky"),
    ]
    # No request.json: a run of this folder's name would be healed as an evaluation.
    assert sorted(p.name for p in (tmp_path / "look").iterdir()) == ["rescore.json", "worker.log"]
    seen.clear()
    said = {"again_shares": ["a", "b"]}
    request = request_for(folder, tmp_path, said, again_shares="keyless")
    rescore.launch(request, tmp_path / "work", 120, seen.append)
    assert [(e["event"], e["n"], e["after"]) for e in seen] == [("scored", 2, 1.0)]


def test_a_worker_that_fails_says_why(folder: Path, tmp_path: Path) -> None:
    broken = write(tmp_path / "broken")
    (broken / "again_docs.py").write_text("raise RuntimeError('no documents today')\n")
    without = RescoreRequest(["again_shares"], str(tmp_path), {}, [str(broken)])
    with pytest.raises(RescoreFailedError, match="RuntimeError: no documents today"):
        rescore.launch(without, tmp_path / "work", 120, lambda _: None)
    slow = request_for(folder, tmp_path, {"again_shares": ["forever"]})
    with pytest.raises(RescoreFailedError, match="no end within 1 s"):
        rescore.launch(slow, tmp_path / "slow", 1, lambda _: None)


def test_a_worker_ends_with_its_pipeline(tmp_path: Path) -> None:
    own = write(tmp_path / "tasks")
    request = request_for(own, tmp_path, {"again_shares": ["forever"]})
    script = f"""
from pathlib import Path
from locus.evaluation.rescore import RescoreRequest, launch
launch(RescoreRequest(**{vars(request)!r}), Path({str(tmp_path / "work")!r}), 500, print)
"""
    pipeline = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 200
    while not (own / "forever").exists():
        assert pipeline.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    import psutil

    workers = psutil.Process(pipeline.pid).children()
    pipeline.send_signal(signal.SIGKILL)
    pipeline.wait()
    assert len(workers) == 1
    gone, alive = psutil.wait_procs(workers, timeout=60)
    assert (len(gone), alive) == (1, [])


def test_an_unknown_metric_is_refused(folder: Path, tmp_path: Path) -> None:
    request = RescoreRequest(NAMES, str(tmp_path), {"again_choice": "f2"}, [str(folder)])
    out = io.StringIO()
    rescore_worker.run(request, out)
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [e["event"] for e in events] == ["refused", "wanted", "wanted"]
    assert "f2" in events[0]["why"]


def test_a_metric_that_is_none_of_single_answers_is_refused(folder: Path, tmp_path: Path) -> None:
    """Listed, but never given: an error about the task, not a pile of answers left."""
    listed = SHARES.replace("metric: keyless", "metric: acc")
    task = harness.load_tasks(["again_shares"], [write(tmp_path, again_shares=listed)])
    with pytest.raises(HarnessError, match="does not give it for single documents"):
        scored(task["again_shares"], "acc", ["a", "b"])
