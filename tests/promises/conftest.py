"""What a nightly run promises, each promise proven by real runs: first two nights for all tests."""

import json
from pathlib import Path

import pytest
from killing import undisturbed
from nights import BUDGET, Pipeline, copy_of, empty_pipeline, note_status, once, one_more


@pytest.fixture(scope="session")
def before(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> Pipeline:
    """Settings, tasks and two models, and nothing done yet. To be copied, not run."""
    return once(
        tmp_path_factory, "before", prefect_server, lambda f: empty_pipeline(f, prefect_server)
    )


@pytest.fixture(scope="session")
def first_night(
    tmp_path_factory: pytest.TempPathFactory, before: Pipeline, prefect_server: str
) -> Pipeline:
    """After the first night, which nobody disturbed. To be looked at or copied."""
    return once(
        tmp_path_factory, "first", prefect_server, lambda f: undisturbed(copy_of(before, f))
    )


@pytest.fixture(scope="session")
def second_night(
    tmp_path_factory: pytest.TempPathFactory, first_night: Pipeline, prefect_server: str
) -> Pipeline:
    """After a second night, in which the model ``late`` was new. To be looked at or copied."""
    return once(
        tmp_path_factory, "second", prefect_server, lambda f: undisturbed(one_more(first_night, f))
    )


@pytest.fixture(scope="session")
def hard_night(
    tmp_path_factory: pytest.TempPathFactory, first_night: Pipeline, prefect_server: str
) -> Pipeline:
    """After a second night with a new model that can't be loaded and one that a budget ended."""

    def make(folder: Path) -> Pipeline:
        night = one_more(first_night, folder)
        broken = folder / "broken"
        broken.mkdir()
        (broken / "config.json").write_text("{}")
        with (folder / "models.yaml").open("a") as registry:
            registry.write("- {id: org/broken, args: {pretrained: broken}}\n")
        night.environment["LOCUS_EVALUATION__MODEL_BUDGET"] = json.dumps({"queries": BUDGET})
        run = night.locus("run", "nightly")
        note_status(night, run)
        return night

    return once(tmp_path_factory, "hard", prefect_server, make)


@pytest.fixture
def after_first(first_night: Pipeline, tmp_path: Path) -> Pipeline:
    """A copy of the first night, for one test."""
    return copy_of(first_night, tmp_path / "night")
