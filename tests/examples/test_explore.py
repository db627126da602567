"""The page to look around runs on a published copy: all of it as an app, as a page, as a script."""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from answered import AnsweredHome, MadeQueries

from locus.snapshots import Snapshot
from tasks.publish import publish_snapshot

EXPLORE = Path(__file__).resolve().parents[2] / "examples" / "explore.py"
MODELS, N_QUERIES = [f"org/m{i}" for i in range(8)], 60


class World(AnsweredHome):
    """Eight models that answered sixty questions of two tasks."""

    queries = MadeQueries(
        [("sums", "words")[q % 2] for q in range(N_QUERIES)],
        [("train", "train", "val", "test")[q % 4] for q in range(N_QUERIES)],
        np.random.default_rng(0).normal(size=(N_QUERIES, 8)).astype(np.float32),
    )
    reference_queries = 40


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    world = World(tmp_path_factory.mktemp("explored") / "home")
    y = np.random.default_rng(1).random((len(MODELS), N_QUERIES)) < 0.6
    world.file(range(N_QUERIES), dict(zip(MODELS, y.astype(np.float32), strict=True)))
    return publish_snapshot.fn(world.settings, world.placed())


@pytest.fixture
def home(published: Snapshot, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings say where the published folder lies."""
    home = published.folder.parents[2]
    file = home.parent / "locus.toml"
    file.write_text(f'home = "{home.name}"\n')
    monkeypatch.setenv("LOCUS_CONFIG", str(file))
    return home


def explored(monkeypatch: pytest.MonkeyPatch, **chosen: Any) -> dict[str, Any]:
    """Run the app in this process; what is chosen stands in for what somebody would click."""
    monkeypatch.setattr(sys, "argv", [str(EXPLORE)])
    _, found = runpy.run_path(str(EXPLORE))["app"].run(defs=chosen)
    return dict(found)


def test_the_app_shows_what_is_published(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = explored(monkeypatch, picked="org/m3", statement="FROM coverage")
    folder = home / "published" / "snapshots" / found["snapshot"].snapshot_id
    assert found["picked_accuracy"]["task"].to_list() == ["sums", "words"]
    assert found["picked_accuracy"]["n"].to_list() == [30, 30]
    nearest = pl.read_parquet(folder / "similarity" / "nearest.parquet").filter(model_id="org/m3")
    assert found["picked_nearest"]["neighbour_id"].to_list() == nearest["neighbour_id"].to_list()
    assert set(found["ranking"]["model_id"]) == set(MODELS)
    assert found["ranking"]["rank"].is_sorted()
    assert found["answer"]["n_scores"].to_list() == [240, 240]


@pytest.mark.parametrize(
    "hostile",
    ["COPY model TO '{out}'", "FROM read_text('{out}')", "DROP TABLE model", "SELECT 1; SELECT 2"],
)
def test_the_box_only_reads(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    hostile: str,
) -> None:
    (tmp_path / "there").write_text("private")
    found = explored(monkeypatch, statement=hostile.format(out=tmp_path / "there"))
    assert found["answer"] is None
    assert "Not run" in capsys.readouterr().out
    assert (tmp_path / "there").read_text() == "private"


def _run(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_it_becomes_a_page_and_runs_as_a_script(published: Snapshot, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "LOCUS_CONFIG"}
    asked = (
        "--snapshot",
        str(published.folder),
        "--model",
        "org/m5",
        "--sql",
        "SELECT 40 + 2 AS z",
    )
    page = tmp_path / "page.html"
    # A copy, since marimo leaves a folder beside what it exports.
    copy = shutil.copy(EXPLORE, tmp_path)
    export = ("-m", "marimo", "-q", "export", "html", str(copy), "-o", str(page), "--", *asked)
    made = _run(*export, environment=environment)
    assert made.returncode == 0, made.stderr
    html = page.read_text(encoding="utf-8")
    assert published.snapshot_id in html
    assert "org/m5" in html
    script = _run(str(EXPLORE), *asked, environment=environment)
    assert script.returncode == 0, script.stderr
    assert "org/m5: accuracy" in script.stdout
    assert "42" in script.stdout


def test_an_unknown_model_is_refused_with_a_hint(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [str(EXPLORE), "--model", "org/m9"])
    with pytest.raises(ValueError, match="did you mean org/m"):
        runpy.run_path(str(EXPLORE))["app"].run()


def test_what_was_typed_is_shown_as_text() -> None:
    shown = runpy.run_path(str(EXPLORE))["show"]("<b>title</b>", "<img src=x onerror=alert(1)>")
    assert "&lt;b&gt;title" in shown.text
    assert "<img" not in shown.text
