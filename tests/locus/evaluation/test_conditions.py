"""How questions are put and scored: examples, templates, metrics, and scoring that fails."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny import write_model

from locus import frames
from locus.evaluation import harness
from locus.evaluation.catalogue import read_catalogue
from locus.evaluation.harness import HarnessError
from locus.evaluation.request import Conditions, EvaluationRequest

DOCS = """\
from datasets import Dataset
from lm_eval.api.filter import Filter
from lm_eval.api.registry import register_filter


def _rows(n, word="Q"):
    return [{"question": f"{word}{i}", "answer": f"A{i}"} for i in range(n)]


def only_test(**_):
    return {"test": Dataset.from_list(_rows(12) + _rows(2))}


def with_train(**_):
    return {"test": Dataset.from_list(_rows(12)), "train": Dataset.from_list(_rows(6, "T"))}


def twins(**_):
    return {"test": Dataset.from_list(_rows(3))}


def picky(doc, results):
    n = int(doc.pop("question")[1:])  # what is scored is changed, too
    doc.pop("answer")
    if n == 3:
        raise ValueError("can't read\\x1b[31m this\\nanswer")
    if n == 4:
        return {"good": float("nan"), "other": 1.0}
    if n == 5:
        return {"good": None, "other": 0.0}
    if n == 6:
        return None
    return {"good": float(n % 2), "other": 0.5, "curve": (1, 2)}


def wide(doc, results):
    return {"good": 1.5}


def lacks(doc, results):
    import no_such_package_anywhere


def silent(doc, results):
    return {"unlisted": 1.0}


@register_filter("hates_seven")
class HatesSeven(Filter):
    def apply(self, resps, docs):
        def read(resp, doc):
            if doc["question"] == "Q7":
                raise KeyError("seven")
            return resp
        return [read(r, d) for r, d in zip(resps, docs)]


@register_filter("drops_eight")
class DropsEight(Filter):
    def apply(self, resps, docs):
        return [r for r, d in zip(resps, docs) if d["question"] != "Q8"]
"""

BASE = """\
task: {name}
custom_dataset: !function cond_docs.{dataset}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}:"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 2, do_sample: false}}
metadata: {{version: 1.0}}
{more}
"""
EXACT = """\
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""
PICKY = """\
process_results: !function cond_docs.picky
metric_list:
  - {metric: good, aggregation: mean, higher_is_better: true}
  - {metric: other, aggregation: mean, higher_is_better: true}
  - {metric: curve, aggregation: mean, higher_is_better: true}
"""
FILTERS = """\
filter_list:
  - {name: strict, filter: [{function: hates_seven}, {function: drops_eight},
                            {function: take_first}]}
  - {name: lenient, filter: [{function: take_first}]}
"""


def _own(function: str) -> str:
    return PICKY.replace("picky", function)


TASKS = {
    "c_test": ("only_test", EXACT),
    "c_named": ("only_test", EXACT + "fewshot_split: test\nnum_fewshot: 2\n"),
    "c_train": ("with_train", EXACT + "training_split: train\n"),
    "c_first": ("with_train", EXACT + "training_split: train\nfewshot_config: {sampler: first_n}"),
    "c_zero": ("only_test", EXACT + "num_fewshot: 0\n"),
    "c_twins": ("twins", EXACT),
    "c_picky": ("only_test", PICKY),
    "c_wide": ("only_test", _own("wide")),
    "c_lacks": ("only_test", _own("lacks")),
    "c_silent": ("only_test", _own("silent")),
    "c_filter": ("only_test", EXACT + FILTERS),
    "c_code": ("only_test", EXACT + "unsafe_code: true\n"),
    "c_image": ("only_test", EXACT + "doc_to_image: [question]\n"),
    "c_tag_a": ("only_test", EXACT + "tag: c_tag\n"),
    "c_tag_b": ("only_test", EXACT + "tag: c_tag\n"),
}
GROUPS = {
    "c_group": "group: c_group\ntask: [c_test, c_train]\n",
    "c_outer": "group: c_outer\ntask: [c_group, c_zero, c_test]\n",
}
TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("conditions")
    (where / "cond_docs.py").write_text(DOCS)
    for name, (dataset, more) in TASKS.items():
        (where / f"{name}.yaml").write_text(BASE.format(name=name, dataset=dataset, more=more))
    for name, text in GROUPS.items():
        (where / f"{name}.yaml").write_text(text)
    return where


@pytest.fixture(scope="module")
def tasks(folder: Path) -> dict[str, Any]:
    return harness.load_tasks(list(TASKS), [folder])


class Model:
    """An lm-eval model that can be told what to answer; a real one runs in the other tests."""

    @staticmethod
    def make(answers: Callable[[str], str]) -> Any:
        from lm_eval.api.model import LM

        class Told(LM):  # type: ignore[misc]
            seen: list[str]

            def generate_until(self, requests: list[Any], **_: Any) -> list[str]:
                self.seen = [r.args[0] for r in requests]
                return [answers(prompt) for prompt in self.seen]

            def loglikelihood(self, requests: list[Any], **_: Any) -> list[Any]:
                raise NotImplementedError("no likelihoods here")

            def loglikelihood_rolling(self, requests: list[Any], **_: Any) -> list[Any]:
                raise NotImplementedError

        return Told()


@pytest.fixture
def told() -> Any:
    return Model.make(lambda prompt: "A1")


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The real tiny model, with a chat template."""
    yield load(write_model(tmp_path_factory.mktemp("chat") / "m"), TEMPLATE)


def load(model: Path, template: str) -> Any:
    config = model / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "chat_template": template}))
    request = EvaluationRequest(
        "r", "org/tiny", "1", "hf", {"pretrained": str(model)}, {}, "", batch_size=4, device="cpu"
    )
    return harness.load_local(request)


def ask(lm: Any, tasks: dict[str, Any], name: str, places: Any, **conditions: Any) -> list[Any]:
    questions = harness.questions(tasks[name])
    asked = {name: [questions[i] for i in places]}
    return harness.ask(lm, tasks, asked, Conditions(**conditions))


def shots(prompt: str) -> list[str]:
    """The examples of a prompt, as question and answer."""
    return prompt.split("\n\n")[:-1]


@pytest.mark.parametrize("name", ["c_test", "c_named", "c_zero", "c_train", "c_first"])
def test_examples_are_the_wanted_number_and_never_the_question(
    tasks: dict[str, Any], told: Any, name: str
) -> None:
    """lm-eval itself shows c_test's questions with their answers: its split isn't named."""
    rows = ask(told, tasks, name, range(12), num_fewshot={name: 5})
    assert len(rows) == 12
    letter = "T" if name in ("c_train", "c_first") else "Q"
    for prompt in told.seen:
        question = prompt.split("\n\n")[-1]
        found = shots(prompt)
        assert len(found) == 5
        assert all(shot[0] == letter for shot in found)
        assert not any(shot.startswith(question) for shot in found)
        if name == "c_first":
            assert found == [f"T{i}: A{i}" for i in range(5)]
    if name != "c_first":
        assert len({tuple(shots(prompt)) for prompt in told.seen}) > 1


def test_as_few_documents_as_examples_and_the_question_are_enough(
    tasks: dict[str, Any], told: Any
) -> None:
    ask(told, tasks, "c_twins", range(3), num_fewshot={"c_twins": 2})
    assert all(len(shots(prompt)) == 2 for prompt in told.seen)
    with pytest.raises(HarnessError, match=r"'c_twins' has 2 documents .* num_fewshot is 3"):
        ask(told, tasks, "c_twins", range(3), num_fewshot={"c_twins": 3})


@pytest.mark.parametrize("name", ["c_test", "c_named", "c_train"])
def test_a_prompt_does_not_depend_on_what_else_is_asked(
    folder: Path, tasks: dict[str, Any], told: Any, name: str
) -> None:
    wanted = {"num_fewshot": {name: 3}}
    whole = {r["query_id"]: r for r in ask(told, tasks, name, range(12), **wanted)}
    fresh = harness.load_tasks([name], [folder])
    for places in ([4, 9, 0], [9], [0, 1, 2, 3, 9]):
        for source in (tasks, fresh):
            for row in ask(told, source, name, places, **wanted):
                assert row["prompt_hash"] == whole[row["query_id"]]["prompt_hash"]
    assert len({r["prompt_hash"] for r in whole.values()}) == 12


def test_a_query_is_the_same_whatever_the_conditions(tasks: dict[str, Any], lm: Any) -> None:
    before = {n: [q.query_id for q in harness.questions(t)] for n, t in tasks.items()}
    conditions = Conditions(True, "Be brief.", {"c_named": 3, "c_test": 1})
    asked = {n: harness.questions(tasks[n])[:3] for n in ("c_named", "c_test")}
    rows = harness.ask(lm, tasks, asked, conditions)
    assert {r["query_id"] for r in rows} == {q.query_id for qs in asked.values() for q in qs}
    assert before == {n: [q.query_id for q in harness.questions(t)] for n, t in tasks.items()}
    plain = harness.ask(lm, tasks, asked)
    assert {r["query_id"] for r in plain} == {r["query_id"] for r in rows}
    assert not {r["prompt_hash"] for r in plain} & {r["prompt_hash"] for r in rows}
    assert {r["doc_hash"] for r in plain} == {r["doc_hash"] for r in rows}


def test_chat_template_and_system_instruction_reach_the_model(
    tasks: dict[str, Any], lm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    real = lm.generate_until

    def watched(requests: list[Any], *args: Any, **kwargs: Any) -> Any:
        seen.extend(r.args[0] for r in requests)
        return real(requests, *args, **kwargs)

    monkeypatch.setattr(lm, "generate_until", watched)
    ask(lm, tasks, "c_train", [0], chat_template=True, system_instruction="Be brief.")
    ask(lm, tasks, "c_train", [0], chat_template=True, num_fewshot={"c_train": 1})
    ask(lm, tasks, "c_train", [0], system_instruction="Be brief.")
    assert seen[0] == "[system]Be brief.[user]Q0:[assistant]"
    assert seen[1].startswith("[user]T") and seen[1].endswith("[user]Q0:[assistant]")
    assert seen[1].count("[assistant]A") == 1
    assert seen[2] == "Be brief.Q0:"  # lm-eval puts nothing in between


def test_a_template_that_is_missing_or_takes_no_system_message_is_said(
    tasks: dict[str, Any], told: Any, tmp_path: Path
) -> None:
    deaf = load(write_model(tmp_path / "m"), NO_SYSTEM + TEMPLATE)
    assert ask(deaf, tasks, "c_test", [0], chat_template=True)[0]["status"] == "ok"
    with pytest.raises(HarnessError, match="drops the system message"):
        ask(deaf, tasks, "c_test", [0], chat_template=True, system_instruction="Be brief.")
    with pytest.raises(HarnessError, match="chat template can't be used"):
        ask(told, tasks, "c_test", [0], chat_template=True)


def test_the_wanted_metric_is_the_score(tasks: dict[str, Any], told: Any) -> None:
    rows = ask(told, tasks, "c_picky", [0, 1, 2], metrics={"c_picky": "other"})
    assert [(r["metric"], r["score"]) for r in rows] == [("other", 0.5)] * 3
    rows = ask(told, tasks, "c_picky", [0, 1, 2], metrics={"c_test": "exact_match"})
    assert [(r["metric"], r["score"]) for r in rows] == [
        ("good", 0.0),
        ("good", 1.0),
        ("good", 0.0),
    ]
    rows = ask(told, tasks, "c_filter", [0, 1], metrics={"c_filter": "exact_match,lenient"})
    assert [(r["filter"], r["score"]) for r in rows] == [("lenient", 0.0), ("lenient", 1.0)]
    assert harness.primary_metric(tasks["c_filter"]) == ("exact_match", "strict")
    assert set(json.loads(rows[0]["metrics"])) == {"exact_match,strict", "exact_match,lenient"}


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("acc", r"'c_filter' has no metric 'acc': it has exact_match"),
        ("exact_match,none", r"'c_filter' has no filter 'none': it has strict, lenient"),
    ],
)
def test_an_unknown_metric_is_named_with_those_there_are(
    tasks: dict[str, Any], told: Any, wanted: str, message: str
) -> None:
    with pytest.raises(HarnessError, match=message):
        ask(told, tasks, "c_filter", [0], metrics={"c_filter": wanted})


def test_an_answer_that_can_t_be_scored_costs_itself_only(tasks: dict[str, Any], told: Any) -> None:
    rows = ask(told, tasks, "c_picky", range(9))
    failed = {i: r["detail"] for i, r in enumerate(rows) if r["status"] == "error"}
    assert failed == {
        3: "scoring raised ValueError: can't read[31m this answer",
        4: "metric good gave nan",
        5: "metric good gave None",
        6: "scoring gave NoneType, not metrics",
    }
    for i, row in enumerate(rows):
        assert row["response"] == "A1"
        assert row["score"] == (None if i in failed else float(i % 2))
        assert row["status"] == ("error" if i in failed else "ok")
    # JSON as the warehouse takes it: no NaN.
    assert json.loads(rows[4]["metrics"], parse_constant=pytest.fail) == {"other,none": 1.0}


def test_a_filter_that_raises_costs_the_answer_only(tasks: dict[str, Any], told: Any) -> None:
    rows = ask(told, tasks, "c_filter", range(12))
    assert {i: r["detail"] for i, r in enumerate(rows) if r["status"] == "error"} == {
        7: "filter strict raised KeyError: 'seven'",
        8: "filter strict raised ValueError: 0 answers came out of 1",
    }
    scores = [r["score"] for r in rows]
    assert scores == [None if i in (7, 8) else float(i == 1) for i in range(12)]
    # An answer that is lost is not made up for by another's.
    rows = ask(told, tasks, "c_filter", [8, 1, 2])
    assert [(r["status"], r["score"]) for r in rows] == [("error", None), ("ok", 1), ("ok", 0)]
    # By the other filter it has a score.
    rows = ask(told, tasks, "c_filter", [7], metrics={"c_filter": "exact_match,lenient"})
    assert (rows[0]["status"], rows[0]["score"]) == ("ok", 0.0)


@pytest.mark.parametrize(
    ("name", "wanted", "message"),
    [
        ("c_wide", None, r"'c_wide': metric 'good' gave 1\.5"),
        ("c_picky", "curve", r"'c_picky': metric 'curve' gave a value of type tuple"),
        ("c_silent", None, r"'c_silent' lists metric 'good' and does not give it .* unlisted"),
        ("c_lacks", None, r"'c_lacks' can't be scored here: .*no_such_package_anywhere"),
    ],
)
def test_what_no_answer_can_mend_is_an_error_of_the_task(
    tasks: dict[str, Any], told: Any, name: str, wanted: str | None, message: str
) -> None:
    with pytest.raises(HarnessError, match=message):
        ask(told, tasks, name, [0, 1, 2], metrics={name: wanted} if wanted else {})


def test_a_model_without_likelihoods_is_said(task_folder: Path, told: Any) -> None:
    choice = harness.load_tasks(["tiny_choice"], [task_folder])
    with pytest.raises(HarnessError, match=r"'tiny_choice': NotImplementedError: no likelihoods"):
        ask(told, choice, "tiny_choice", [0])


def test_code_of_a_model_is_never_run(tasks: dict[str, Any], folder: Path, told: Any) -> None:
    assert harness.unsafe(tasks["c_test"]) is None
    assert "code that the model wrote" in str(harness.unsafe(tasks["c_code"]))
    with pytest.raises(HarnessError, match=r"'c_code' is not asked: it runs code"):
        ask(told, tasks, "c_code", [0])
    with pytest.raises(HarnessError, match=r"nothing is left to ask: task 'c_code': it runs code"):
        read_catalogue(["c_code"], [folder])


def test_pictures_are_for_models_that_see(tasks: dict[str, Any], told: Any) -> None:
    assert harness.unsuited(tasks["c_test"], told) is None
    with pytest.raises(HarnessError, match=r"'c_image' is not asked: it shows images"):
        ask(told, tasks, "c_image", [0])


def test_the_catalogue_knows_examples_and_leaves_code_out(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found, queries = read_catalogue(["c_named", "c_test", "c_zero", "c_code"], [folder])
    assert dict(found.schema) == frames.CATALOGUED_TASKS
    assert dict(found.select("task", "num_fewshot").iter_rows()) == {
        "c_named": 2, "c_test": 0, "c_zero": 0,
    }  # fmt: skip
    assert set(queries["task"]) == {"c_named", "c_test", "c_zero"}
    assert "'c_code' is left out: it runs code" in caplog.text


def test_numbers_of_examples(tasks: dict[str, Any]) -> None:
    assert harness.effective_fewshot(tasks["c_named"]) == 2
    assert harness.effective_fewshot(tasks["c_named"], 0) == 0
    assert harness.effective_fewshot(tasks["c_test"]) == 0
    assert harness.effective_fewshot(tasks["c_zero"], 4) == 4
    for wrong in (-1, True):
        with pytest.raises(HarnessError, match="'c_zero': num_fewshot is a whole number"):
            harness.effective_fewshot(tasks["c_zero"], wrong)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["c_group"], {"c_test", "c_train"}),
        (["c_tag"], {"c_tag_a", "c_tag_b"}),
        (["c_outer"], {"c_test", "c_train", "c_zero"}),
        (["c_outer", "c_group", "c_test", "c_tag", "c_tag_a"],
         {"c_test", "c_train", "c_zero", "c_tag_a", "c_tag_b"}),
    ],
)  # fmt: skip
def test_groups_and_tags_are_their_tasks_once(
    folder: Path, told: Any, names: list[str], found: set[str]
) -> None:
    loaded = harness.load_tasks(names, [folder])
    assert set(loaded) == found
    asked = {name: harness.questions(task)[:2] for name, task in loaded.items()}
    assert len(harness.ask(told, loaded, asked)) == 2 * len(found)


def test_multiple_choice_with_examples_on_a_real_model(task_folder: Path, lm: Any) -> None:
    choice = harness.load_tasks(["tiny_choice"], [task_folder])
    wanted = {"num_fewshot": {"tiny_choice": 1}}
    plain = ask(lm, choice, "tiny_choice", [3, 8])
    several = ask(lm, choice, "tiny_choice", [3, 8, 1, 30], **wanted)
    alone = ask(lm, choice, "tiny_choice", [8], **wanted)
    assert several[1]["query_id"] == alone[0]["query_id"] == plain[1]["query_id"]
    assert several[1]["prompt_hash"] == alone[0]["prompt_hash"] != plain[1]["prompt_hash"]
    assert several[1]["response"] == alone[0]["response"]
    assert several[1]["tokens_in"] > 1.5 * plain[1]["tokens_in"]
