"""The numpy predictors compute what they were made from, and check themselves when read."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from locus.bank import Bank, Queries
from locus.embedding.config import ArchitectureConfig
from locus.embedding.factors import FactorPlacement
from locus.embedding.maps import FactorMap
from locus.embedding.network import Locus
from locus.routing import predictor as predictors
from locus.routing.attention_predictor import AttentionPredictor
from locus.routing.factor_predictor import pack, unpack
from locus.routing.predictor import PredictorError


@pytest.fixture(scope="module")
def network() -> Locus:
    torch.manual_seed(1)
    return Locus(ArchitectureConfig(d_query=24, d_model=16, n_latents=4, d_hidden=8)).eval()


@pytest.fixture(scope="module")
def predictor(network: Locus) -> AttentionPredictor:
    weights = {k: v.numpy() for k, v in network.predictor.state_dict().items()}
    return AttentionPredictor(weights, "enc@1")


def arrays(m: int, t: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(m * 100 + t)
    return rng.normal(size=(m, 16)).astype(np.float32), rng.normal(size=(t, 24)).astype(np.float32)


@pytest.mark.parametrize(("m", "t"), [(1, 1), (7, 5), (300, 3)])
def test_parity_with_torch(network: Locus, predictor: AttentionPredictor, m: int, t: int) -> None:
    z, phi = arrays(m, t)
    with torch.no_grad():
        expected = torch.sigmoid(network.predictor(torch.from_numpy(z), torch.from_numpy(phi)))
    np.testing.assert_allclose(predictor.probabilities(z, phi), expected.T.numpy(), atol=1e-5)


def test_blocks_don_t_change_the_result(predictor: AttentionPredictor) -> None:
    z, phi = arrays(9, 4)
    np.testing.assert_allclose(
        predictor.probabilities(z, phi), predictor.probabilities(z, phi, block=2), atol=1e-6
    )
    assert predictor.probabilities(z[:0], phi).shape == (4, 0)


def test_round_trip_checks_its_own_examples(predictor: AttentionPredictor, tmp_path: Path) -> None:
    z, phi = arrays(4, 3)
    predictors.write(predictor, z, phi, tmp_path)
    again = predictors.read(tmp_path)
    assert again.encoder == "enc@1"
    np.testing.assert_array_equal(again.probabilities(z, phi), predictor.probabilities(z, phi))
    weights = load_file(tmp_path / "predictor.safetensors")
    weights["out.bias"] = weights["out.bias"] + 0.1
    save_file(weights, tmp_path / "predictor.safetensors")
    with pytest.raises(PredictorError, match="test vectors"):
        predictors.read(tmp_path)


@pytest.fixture(scope="module")
def factor_map() -> tuple[FactorMap, np.ndarray, np.ndarray]:
    """A fitted map, query features [90, 13] and scores [40, 90]; the first 60 are its bank."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 90)
    phi = np.eye(8)[kind] + 0.2 * rng.normal(size=(90, 8))
    x = np.concatenate([phi, rng.random((90, 5))], axis=1).astype(np.float32)
    y = (rng.random((40, 90)) < 1 / (1 + np.exp(-rng.normal(0, 1.5, (40, 2))[:, kind]))) * 1.0
    y = y.astype(np.float32)
    bank = Queries(x[:60, :8], tuple(f"b{k}" for k in kind[:60]), x[:60, 8:])
    placement = FactorPlacement()
    placement.fit(Bank(bank, y[:, :60], bank, y[:, :60]), 0)
    return FactorMap(placement, tuple(f"q{i}" for i in range(60))), x, y


def test_factors_predict_as_the_placement_does(
    factor_map: tuple[FactorMap, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    model_map, x, y = factor_map
    placement, ids = model_map.placement, list(model_map.ids)
    placed = placement.place(y[:, :60])
    targets = Queries(x[60:, :8], ("",) * 30, x[60:, 8:])
    embedded = model_map.embed(ids, x[:60], y[:, :60])
    predictors.write(model_map.predictor("enc@1"), embedded.z_Md[:3], x[60:64], tmp_path)
    again = predictors.read(tmp_path)
    p_TM = again.probabilities(embedded.z_Md, x[60:])
    np.testing.assert_allclose(p_TM, placement.predict(placed, targets).T, atol=1e-4)
    assert embedded.uncertainty_M is not None
    deviation_TM = again.deviations(embedded.covariance_Mu, x[60:])
    assert deviation_TM is not None
    np.testing.assert_allclose(deviation_TM, placement.spread(placed, targets).T, atol=1e-4)


def test_uncertainty_falls_with_scores_and_queries_beyond_the_bank_count(
    factor_map: tuple[FactorMap, np.ndarray, np.ndarray],
) -> None:
    model_map, x, y = factor_map
    ids = [*model_map.ids, *(f"new{i}" for i in range(30))]
    few, many = np.full_like(y, np.nan), y
    few[:, :6] = y[:, :6]
    beyond = np.full_like(y, np.nan)
    beyond[:, 60:] = y[:, 60:]
    unsure = [model_map.embed(ids, x, v).uncertainty_M for v in (few, beyond, many)]
    assert (unsure[0] > unsure[2]).all()
    assert (unsure[1] > unsure[2]).all()
    order = np.random.default_rng(1).permutation(90)
    shuffled = model_map.embed([ids[i] for i in order], x[order], y[:, order])
    np.testing.assert_allclose(shuffled.z_Md, model_map.embed(ids, x, y).z_Md, atol=1e-5)
    with pytest.raises(ValueError, match="no scores"):
        model_map.embed(ids, x, np.full_like(y, np.nan))


def test_packed_covariances() -> None:
    full = np.random.default_rng(0).normal(size=(3, 4, 4))
    full = full + full.transpose(0, 2, 1)
    np.testing.assert_allclose(unpack(pack(full)), full, rtol=1e-6)
    with pytest.raises(ValueError, match="triangle"):
        unpack(np.zeros((1, 5), np.float32))


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(PredictorError, match="can't be read"):
        predictors.read(tmp_path)
