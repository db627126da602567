"""A home with everything in it, made once a session by whichever process asks first."""

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from kept_home import KeptHome, make_home


@pytest.fixture(scope="session")
def _kept_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "kept"
    with FileLock(folder.with_suffix(".lock")):
        if not folder.with_suffix(".done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make_home(folder)
            folder.with_suffix(".done").touch()
    return folder


@pytest.fixture
def kept(_kept_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeptHome:
    """A copy of it, for one test; the working directory holds its settings and registry."""
    for name in ("home", "models.yaml", "locus.toml"):
        path = _kept_home / name
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return KeptHome(tmp_path / "home")
