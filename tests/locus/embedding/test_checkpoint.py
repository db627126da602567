"""Checkpoints: whole, named by content, and never executed."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from locus.embedding import checkpoint
from locus.embedding.config import ArchitectureConfig
from locus.embedding.network import Locus
from locus.embedding.placement import embed

SMALL = ArchitectureConfig(d_query=8, d_model=16, n_latents=4, d_feedforward=16, d_hidden=8)


def test_round_trip_and_identity(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Locus(SMALL).eval()
    first = checkpoint.save(network, "enc@1", {"n": 3}, tmp_path)
    assert checkpoint.save(network, "enc@1", {"n": 3}, tmp_path) == first
    assert checkpoint.save(network, "enc@2", {"n": 3}, tmp_path) != first
    loaded = checkpoint.load(tmp_path / first)
    assert (loaded.checkpoint_id, loaded.encoder, loaded.facts) == (first, "enc@1", {"n": 3})
    rng = np.random.default_rng(0)
    phi, y = rng.normal(size=(6, 8)).astype(np.float32), rng.random((2, 6)).astype(np.float32)
    np.testing.assert_array_equal(embed(network, phi, y), embed(loaded.network, phi, y))
    assert not list(tmp_path.glob(".building-*"))


def test_a_changed_byte_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / checkpoint.save(Locus(SMALL), "e", {}, tmp_path)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(checkpoint.CheckpointError, match="has changed"):
        checkpoint.load(folder)


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path(marker).write_text, ("boom",))

    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(pickle.dumps(Bomb()))
    (folder / "config.json").write_text(
        json.dumps({"format": 1, "architecture": SMALL.to_dict(), "encoder": "e", "facts": {}})
    )
    named = folder.rename(tmp_path / checkpoint._identity(folder))
    with pytest.raises(checkpoint.CheckpointError, match="can't be read"):
        checkpoint.load(named)
    assert not marker.exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 99}'])
def test_a_broken_config_is_one_clear_error(tmp_path: Path, content: str) -> None:
    folder = tmp_path / checkpoint.save(Locus(SMALL), "e", {}, tmp_path)
    (folder / "config.json").write_text(content)
    named = folder.rename(tmp_path / checkpoint._identity(folder))
    with pytest.raises(checkpoint.CheckpointError, match=named.name[:12]):
        checkpoint.load(named)
