"""The numpy predictor computes what torch does, and checks itself when it is read."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from locus.embedding.config import ArchitectureConfig
from locus.embedding.network import Locus
from locus.routing import predictor as predictors
from locus.routing.predictor import Predictor, PredictorError


@pytest.fixture(scope="module")
def network() -> Locus:
    torch.manual_seed(1)
    return Locus(ArchitectureConfig(d_query=24, d_model=16, n_latents=4, d_hidden=8)).eval()


@pytest.fixture(scope="module")
def predictor(network: Locus) -> Predictor:
    weights = {k: v.numpy() for k, v in network.predictor.state_dict().items()}
    return Predictor(weights, "enc@1")


def arrays(m: int, t: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(m * 100 + t)
    return rng.normal(size=(m, 16)).astype(np.float32), rng.normal(size=(t, 24)).astype(np.float32)


@pytest.mark.parametrize(("m", "t"), [(1, 1), (7, 5), (300, 3)])
def test_parity_with_torch(network: Locus, predictor: Predictor, m: int, t: int) -> None:
    z, phi = arrays(m, t)
    with torch.no_grad():
        expected = torch.sigmoid(network.predictor(torch.from_numpy(z), torch.from_numpy(phi)))
    np.testing.assert_allclose(predictor.probabilities(z, phi), expected.T.numpy(), atol=1e-5)


def test_blocks_don_t_change_the_result(predictor: Predictor) -> None:
    z, phi = arrays(9, 4)
    np.testing.assert_allclose(
        predictor.probabilities(z, phi), predictor.probabilities(z, phi, block=2), atol=1e-6
    )
    assert predictor.probabilities(z[:0], phi).shape == (4, 0)


def test_round_trip_checks_its_own_examples(predictor: Predictor, tmp_path: Path) -> None:
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


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(PredictorError, match="can't be read"):
        predictors.read(tmp_path)
