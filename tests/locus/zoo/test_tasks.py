"""The lm-eval tasks: every YAML loads, asks the skill's questions and knows their answers."""

from typing import Any

import pytest

from locus.zoo.skills import SKILLS, benchmark, prompt
from locus.zoo.tasks import FOLDER, TAG


@pytest.fixture(scope="module")
def tasks() -> dict[str, Any]:
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(FOLDER), include_defaults=False)
    loaded: dict[str, Any] = manager.load([TAG])["tasks"]
    return loaded


def test_the_tag_holds_one_task_for_each_skill(tasks: dict[str, Any]) -> None:
    assert set(tasks) == {f"zoo_{name}" for name in SKILLS}
    own_files = {path.stem for path in FOLDER.glob("*.yaml") if not path.stem.startswith("_")}
    assert own_files == set(tasks)


@pytest.mark.parametrize("name", sorted(SKILLS))
def test_a_task_asks_the_benchmark(tasks: dict[str, Any], name: str) -> None:
    task = tasks[f"zoo_{name}"]
    rows = list(task.test_docs())
    assert rows == [document.row() for document in benchmark(name)]
    assert SKILLS[name].kind == task.OUTPUT_TYPE
    assert task.VERSION == 1.0
    assert task.config.num_fewshot == 0
    for row, document in zip(rows, benchmark(name), strict=True):
        assert task.doc_to_text(row) == prompt(document.question)
        target = task.doc_to_target(row)
        if SKILLS[name].kind == "multiple_choice":
            # Answers that are numbers must not be taken for positions.
            assert task.doc_to_choice(row)[target] == document.answer
        else:
            assert target == document.answer


@pytest.mark.parametrize(
    ("written", "score"),
    [
        (" {}", 1.0),
        ("{}", 1.0),
        ("  {} \nand more", 1.0),
        (" {} x", 0.0),
        ("", 0.0),
        ("  ", 0.0),
        ("\n{}", 1.0),
    ],
)
def test_what_a_model_writes_is_scored_without_the_space_around_it(
    tasks: dict[str, Any], written: str, score: float
) -> None:
    from lm_eval.api.instance import Instance

    task = tasks["zoo_reverse"]
    row = task.test_docs()[0]
    instance = Instance("generate_until", row, ("", {}), 0)
    instance.resps = [written.format(row["answer"])]
    task._instances = [instance]
    task.apply_filters()
    result = task.process_results(row, [instance.filtered_resps["strip"]])
    assert result["exact_match"] == score
