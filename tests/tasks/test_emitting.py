"""What other tools read of a snapshot, from the registry and the warehouse to their files."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from answered import ENCODER, AnsweredHome, MadeQueries
from typer.testing import CliRunner

from flows.cli import app
from tasks.publish import publish_snapshot

N = 60
SPLITS = ("train", "train", "train", "val", "test")
RNG = np.random.default_rng(0)
REGISTRY = """\
models:
- id: org/served
  backend: local-chat-completions
  args: {model: large, base_url: "http://127.0.0.1:9/v1/chat/completions"}
"""


class World(AnsweredHome):
    """A home of three models."""

    queries = MadeQueries(
        ["sums", "rhymes"] * (N // 2),
        [SPLITS[q % len(SPLITS)] for q in range(N)],
        RNG.normal(size=(N, 8)).astype(np.float32),
    )
    reference_queries = N


def test_a_snapshot_and_its_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path / "home")
    names = ("org/served", "org/local", "org/other")
    world.file(range(N), {name: RNG.integers(0, 2, N).astype(np.float32) for name in names})
    registry = tmp_path / "models.yaml"
    registry.write_text(REGISTRY)
    settings = world.settings.model_copy(update={"models_file": registry})
    snapshot = publish_snapshot.fn(settings, world.placed())
    assert set(snapshot.manifest["files"]) >= {
        "routing/litellm.yaml", "routing/semantic-router.yaml",
        "similarity/tensors.tsv", "similarity/metadata.tsv", "similarity/projector_config.pbtxt",
    }  # fmt: skip
    litellm = yaml.safe_load((snapshot.folder / "routing" / "litellm.yaml").read_text())
    assert [entry["model_name"] for entry in litellm["model_list"]] == ["org/served"]
    assert litellm["router_settings"]["model_group_alias"]["locus-best-sums"] == "org/served"

    (tmp_path / "locus.toml").write_text(f'home = "home"\nencoder = "{ENCODER}"\n')
    monkeypatch.setenv("LOCUS_CONFIG", str(tmp_path / "locus.toml"))
    out = tmp_path / "out"
    words = ["export", "dataset", str(out)]
    assert CliRunner().invoke(app, [*words, "--dry-run"]).exit_code == 0
    assert not out.exists()
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "choose a licence" in done.output
    scores = pl.concat([pl.read_parquet(f) for f in sorted((out / "scores").iterdir())])
    assert scores.height == 3 * N
    assert set(scores["model_id"]) == set(names)
    assert pl.read_parquet(out / "queries" / "test.parquet").height == N // len(SPLITS)
    routing = pl.read_parquet(out / "routing" / "train.parquet")
    assert {"all", "sums", "rhymes"} <= set(routing["bucket"])
    assert CliRunner().invoke(app, words).exit_code != 0  # not empty
    again = CliRunner().invoke(app, [*words, "--overwrite"])
    assert "files of the same name were replaced" in again.output
