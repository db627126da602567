"""Fixtures: an empty warehouse, one with a catalogue, a filled one, a published copy."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from warehouse_sample import fill, fill_catalogue

from warehouse.store import Warehouse


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.duckdb"


@pytest.fixture
def empty(db: Path) -> Iterator[Warehouse]:
    with Warehouse.open(db) as w:
        yield w


@pytest.fixture(scope="session")
def catalogued_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("catalogued") / "warehouse.duckdb"
    with Warehouse.open(path) as w:
        fill_catalogue(w)
    return path


@pytest.fixture(scope="session")
def filled_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled")
    with Warehouse.open(folder / "warehouse.duckdb") as w:
        fill(w, folder)
    return folder / "warehouse.duckdb"


@pytest.fixture
def catalogued(catalogued_file: Path, db: Path) -> Iterator[Warehouse]:
    """Models, revisions, tasks and queries, but no scores; a file of its own for each test."""
    shutil.copy(catalogued_file, db)
    with Warehouse.open(db) as w:
        yield w


@pytest.fixture
def filled(filled_file: Path, db: Path) -> Iterator[Warehouse]:
    """Everything of `warehouse_sample`; a file of its own for each test."""
    shutil.copy(filled_file, db)
    with Warehouse.open(db) as w:
        yield w


@pytest.fixture(scope="session")
def published(filled_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published copy of the filled warehouse, with the working file beside its folder."""
    folder = tmp_path_factory.mktemp("published")
    shutil.copy(filled_file, folder / "work.duckdb")
    with Warehouse.open(folder / "work.duckdb") as w:
        w.snapshots.copy_to(folder / "copy" / "warehouse.duckdb")
    return folder / "copy" / "warehouse.duckdb"
