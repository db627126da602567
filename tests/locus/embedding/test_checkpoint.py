"""Checkpoints: whole, named by content, and never executed."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from locus.bank import Bank, Queries
from locus.embedding import checkpoint
from locus.embedding.config import ArchitectureConfig
from locus.embedding.factors import FactorPlacement
from locus.embedding.maps import AttentionMap, FactorMap
from locus.embedding.network import Locus
from locus.embedding.placement import embed

SMALL = ArchitectureConfig(d_query=8, d_model=16, n_latents=4, d_feedforward=16, d_hidden=8)


def test_round_trip_and_identity(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Locus(SMALL).eval()
    kept = AttentionMap(network)
    first = checkpoint.save(kept, "enc@1", {"n": 3}, tmp_path)
    assert checkpoint.save(kept, "enc@1", {"n": 3}, tmp_path) == first
    assert checkpoint.save(kept, "enc@2", {"n": 3}, tmp_path) != first
    loaded = checkpoint.load(tmp_path / first)
    assert (loaded.checkpoint_id, loaded.encoder, loaded.facts) == (first, "enc@1", {"n": 3})
    rng = np.random.default_rng(0)
    phi, y = rng.normal(size=(6, 8)).astype(np.float32), rng.random((2, 6)).astype(np.float32)
    names = [f"q{i}" for i in range(6)]
    np.testing.assert_array_equal(embed(network, phi, y), loaded.map.embed(names, phi, y).z_Md)
    assert not list(tmp_path.glob(".building-*"))


def test_a_factor_map_places_and_predicts_the_same_after_a_round_trip(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 8 + 5)).astype(np.float32)
    y = (rng.random((20, 40)) < 0.6).astype(np.float32)
    bank = Queries(x[:, :8], ("a",) * 20 + ("b",) * 20, x[:, 8:])
    placement = FactorPlacement()
    placement.fit(Bank(bank, y, bank, y), 0)
    made = FactorMap(placement, tuple(f"q{i}" for i in range(40)))
    folder = tmp_path / checkpoint.save(made, "enc@1", {}, tmp_path)
    loaded = checkpoint.load(folder, "enc@1").map
    before, after = made.embed(made.ids, x, y), loaded.embed(made.ids, x, y)
    np.testing.assert_allclose(after.z_Md, before.z_Md, atol=1e-6)
    np.testing.assert_allclose(after.covariance_Mu, before.covariance_Mu, atol=1e-6)
    np.testing.assert_allclose(
        loaded.predictor("enc@1").probabilities(after.z_Md, x),
        made.predictor("enc@1").probabilities(before.z_Md, x),
        atol=1e-4,
    )
    with pytest.raises(checkpoint.CheckpointError, match=r"enc@2.*train anew"):
        checkpoint.load(folder, "enc@2")


def test_a_changed_byte_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / checkpoint.save(AttentionMap(Locus(SMALL)), "e", {}, tmp_path)
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
        json.dumps(
            {
                "format": checkpoint.FORMAT,
                "kind": "attention",
                "settings": {"architecture": SMALL.to_dict()},
                "encoder": "e",
                "facts": {},
            }
        )
    )
    named = folder.rename(tmp_path / checkpoint._identity(folder))
    with pytest.raises(checkpoint.CheckpointError, match="can't be read"):
        checkpoint.load(named)
    assert not marker.exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 99}'])
def test_a_broken_config_is_one_clear_error(tmp_path: Path, content: str) -> None:
    folder = tmp_path / checkpoint.save(AttentionMap(Locus(SMALL)), "e", {}, tmp_path)
    (folder / "config.json").write_text(content)
    named = folder.rename(tmp_path / checkpoint._identity(folder))
    with pytest.raises(checkpoint.CheckpointError, match=named.name[:12]):
        checkpoint.load(named)
