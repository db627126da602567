"""Every fuzz test stands deep in a ground of its own, with a key that must not be told."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile import CANARY, CANARY_VARIABLE

from warehouse.store import Warehouse


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder; the working directory lies deep in it, so that ``../../x`` stays inside."""
    monkeypatch.setenv(CANARY_VARIABLE, CANARY)
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    return tmp_path


@pytest.fixture
def home(ground: Path) -> Path:
    """The one folder that may be written to, beside the working directory."""
    folder = ground / "a" / "b" / "home"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """An empty warehouse."""
    with Warehouse.open(tmp_path_factory.mktemp("warehouse") / "warehouse.duckdb") as opened:
        yield opened
