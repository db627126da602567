"""Training: it learns structure, is deterministic for a seed, and refuses what it can't use."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from locus.embedding.config import ArchitectureConfig, TrainingConfig
from locus.embedding.placement import embed
from locus.embedding.training import TrainingData, noise_std, train

SMALL = ArchitectureConfig(d_query=8, d_model=32, n_latents=8, d_feedforward=32, d_hidden=16)
CONFIG = TrainingConfig(steps=150, lr_encoder=2e-3, lr_predictor=4e-3, noise_start=0.02,
                        noise_end=0.02, check_every=25, patience=20)  # fmt: skip


def specialists(seed: int, n_models: int = 20, n: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """Two kinds of queries; each model is good at one of them. Returns (phi, scores)."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, n)
    phi = np.eye(8)[kind] + 0.1 * rng.normal(size=(n, 8))
    home = np.arange(n_models) % 2
    p = np.where(home[:, None] == kind[None], 0.9, 0.15)
    return phi.astype(np.float32), (rng.random((n_models, n)) < p).astype(np.float32)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    phi, y = specialists(0)
    return TrainingData(phi[:120], y[:, :120], phi[120:], y[:, 120:])


def test_it_learns_who_is_good_at_what(data: TrainingData) -> None:
    result = train(data, CONFIG, SMALL, device="cpu")
    # A coin costs 0.69 nats; the best any predictor can do here is about 0.37.
    assert result.val_bce < 0.55
    assert result.val_accuracy > 0.75
    # A model that training never saw is placed with its like.
    phi, y = specialists(1, n_models=6)
    z = embed(result.network, phi, y)
    gap = np.linalg.norm(z[:, None] - z[None], axis=-1)
    alike, unlike = gap[0, [2, 4]].mean(), gap[0, [1, 3, 5]].mean()
    assert alike < unlike


def test_a_seed_decides_everything(data: TrainingData) -> None:
    config = replace(CONFIG, steps=12, check_every=6)
    first, second = train(data, config, SMALL, "cpu"), train(data, config, SMALL, "cpu")
    for one, two in zip(
        first.network.state_dict().values(), second.network.state_dict().values(), strict=True
    ):
        assert torch.equal(one, two)
    other = train(data, replace(config, seed=1), SMALL, "cpu")
    assert not torch.equal(first.network.encoder.out.weight, other.network.encoder.out.weight)


def test_training_leaves_the_global_generator_alone(data: TrainingData) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(data, replace(CONFIG, steps=2, check_every=1), SMALL, "cpu")
    assert torch.equal(torch.rand(3), expected)


def test_fixed_subsets_train_too(data: TrainingData) -> None:
    config = replace(CONFIG, steps=60, subsets="fixed", context_max=64)
    assert train(data, config, SMALL, "cpu").val_bce < math.log(2)


def test_the_kept_step_is_the_best_one(data: TrainingData) -> None:
    seen: list[float] = []
    config = replace(CONFIG, steps=60, check_every=10)
    result = train(data, config, SMALL, "cpu", lambda step, of, bce: seen.append(bce))
    assert result.val_bce == min(seen)
    assert result.best_step == 10 * (seen.index(min(seen)) + 1)


def test_missing_scores_are_fine_and_too_few_are_not(data: TrainingData) -> None:
    holes = data.values_MQ.copy()
    holes[np.random.default_rng(0).random(holes.shape) < 0.5] = np.nan
    train(replace(data, values_MQ=holes), replace(CONFIG, steps=2), SMALL, "cpu")
    holes[3] = np.nan
    with pytest.raises(ValueError, match="two scored training queries"):
        replace(data, values_MQ=holes)
    with pytest.raises(ValueError, match="validation"):
        replace(data, val_values_MV=np.full_like(data.val_values_MV, np.nan))


def test_noise_falls_along_half_a_cosine() -> None:
    config = TrainingConfig.published()
    assert noise_std(0, config) == pytest.approx(0.10)
    assert noise_std(250, config) == pytest.approx(0.075)
    assert noise_std(500, config) == noise_std(5000, config) == pytest.approx(0.05)
