"""Nights that several tests look at: each is run once a session, whatever process asks first.

Tests that do something to a night take a copy: a home can lie anywhere.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from filelock import FileLock
from shared_server import environment
from tiny import write_model, write_tasks

from locus.snapshots import Snapshot, current

ROOT = Path(__file__).parents[2]
BUDGET = 20
"""Queries that one model may be asked in the hard night."""

# The folders' own conftest modules share one name, so this one is read by its path.
_PATH = ROOT / "tests" / "flows" / "conftest.py"
_spec = importlib.util.spec_from_file_location("flow_fixtures", _PATH)
assert _spec is not None
assert _spec.loader is not None
flow_fixtures = importlib.util.module_from_spec(_spec)
sys.modules["flow_fixtures"] = flow_fixtures
_spec.loader.exec_module(flow_fixtures)

Pipeline = flow_fixtures.Pipeline


def empty_pipeline(folder: Path, api_url: str) -> "Pipeline":
    """A folder with settings and tasks; beside it four models, two of them registered."""
    folder.mkdir(parents=True)
    (folder / "locus.toml").write_text(flow_fixtures.SETTINGS)
    write_tasks(folder / "tasks")
    # Outside, since a copy's models must be the same ones: where they lie is noted of them.
    models = folder.with_name("models")
    for seed, name in enumerate(("a", "b", "late", "later")):
        write_model(models / name, seed)
    (folder / "models").symlink_to(models)
    made = Pipeline(folder, environment(folder, api_url))
    made.register("a", "b")
    return made


def copy_of(night: "Pipeline", folder: Path) -> "Pipeline":
    """The same pipeline in another folder."""
    shutil.copytree(night.folder, folder, symlinks=True)
    return replace(night, folder=folder, environment=dict(night.environment))


def one_more(night: "Pipeline", folder: Path) -> "Pipeline":
    """A copy in which the model ``late`` is new, to be asked in many parts."""
    copy = copy_of(night, folder)
    copy.register("a", "b", "late")
    copy.environment["LOCUS_EVALUATION__CHUNK_SIZE"] = "4"
    return copy


def once(
    factory: pytest.TempPathFactory, name: str, api_url: str, make: Callable[[Path], "Pipeline"]
) -> "Pipeline":
    """A pipeline that one process of this test session makes and all of them see."""
    base = factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "nights" / name
    folder.parent.mkdir(exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        done = folder.with_suffix(".done")
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            done.touch()
    return Pipeline(folder, environment(folder, api_url))


def query(pipeline: "Pipeline", sql: str) -> list[tuple[object, ...]]:
    """Rows of the working warehouse, between two runs."""
    database = pipeline.folder / "state" / "warehouse.duckdb"
    with duckdb.connect(str(database), read_only=True) as con:
        return con.sql(sql).fetchall()


def published(pipeline: "Pipeline") -> Path:
    """Where the pipeline publishes."""
    return Path(pipeline.folder / "state" / "published")


def snapshot(pipeline: "Pipeline") -> Snapshot:
    """What the pipeline has published."""
    return current(published(pipeline))


def note_status(pipeline: "Pipeline", run: "subprocess.CompletedProcess[str]") -> None:
    """Keep how a run ended and what it said, for tests in other processes."""
    said = {"status": run.returncode, "said": run.stdout + run.stderr}
    (pipeline.folder / "ended.json").write_text(json.dumps(said))


def status_of(pipeline: "Pipeline") -> tuple[int, str]:
    """The exit status of the pipeline's run, and what that said."""
    ended = json.loads((pipeline.folder / "ended.json").read_text())
    return ended["status"], ended["said"]
