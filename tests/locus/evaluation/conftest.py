"""A tiny real model and tiny real tasks, made once."""

from pathlib import Path

import polars as pl
import pytest
from tiny import write_model, write_tasks

from locus.evaluation.catalogue import read_catalogue
from locus.evaluation.request import EvaluationRequest


@pytest.fixture(scope="session")
def task_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def bank(task_folder: Path) -> pl.DataFrame:
    return read_catalogue(["tiny_choice", "tiny_copy"], [task_folder])[1]


@pytest.fixture
def request_(
    tmp_path: Path, tiny_model: Path, task_folder: Path, bank: pl.DataFrame
) -> EvaluationRequest:
    """All queries of the tiny tasks, for the tiny model."""
    queries = {
        str(task): rows["query_id"].sort().to_list() for (task,), rows in bank.group_by("task")
    }
    return EvaluationRequest(
        run_id="run-1",
        model_id="org/tiny",
        revision="r1",
        backend="hf",
        args={"pretrained": str(tiny_model)},
        queries=queries,
        parts=str(tmp_path / "parts"),
        task_folders=[str(task_folder)],
        chunk_size=16,
        device="cpu",
    )
