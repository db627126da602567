"""A tiny real model and tiny real tasks, made once."""

from pathlib import Path

import polars as pl
import pytest
from tiny import write_model, write_tasks

from locus.evaluation.catalogue import read_catalogue


@pytest.fixture(scope="session")
def task_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def bank(task_folder: Path) -> pl.DataFrame:
    return read_catalogue(["tiny_choice", "tiny_copy"], [task_folder])[1]
