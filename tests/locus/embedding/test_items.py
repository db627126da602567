"""Item factors: they find how many there are, and sparse scores do not make them up."""

import numpy as np
import pytest

from locus.embedding.items import learn_items


def scores(n_models: int, rank: int, share: float = 1.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    theta, v = rng.normal(size=(n_models, rank)), 0.2 * rng.normal(size=(300, rank))
    p = np.clip(0.5 + 0.1 * rng.normal(size=300) + theta @ v.T, 0.02, 0.98)
    y = (rng.random(p.shape) < p).astype(np.float32)
    y[rng.random(p.shape) > share] = np.nan
    return y


@pytest.mark.parametrize("rank", [1, 3])
def test_it_keeps_as_many_factors_as_there_are(rank: int) -> None:
    items = learn_items(scores(120, rank), factors=12, sweeps=60)
    power = (items.factors_Qk**2).mean(0)
    # Clipped probabilities bend a little: a faint factor beside the real ones is that bend.
    assert (power > 0.05 * power[0]).sum() == rank
    assert len(power) <= rank + 2


def test_noise_has_no_factors_worth_mentioning() -> None:
    rng = np.random.default_rng(0)
    y = (rng.random((80, 300)) < 0.6).astype(np.float32)
    items = learn_items(y, factors=8, sweeps=40)
    assert (items.factors_Qk**2).mean() < 1e-3


def test_few_scores_shrink_what_is_claimed() -> None:
    dense = learn_items(scores(120, 2), factors=8, sweeps=30)
    sparse = learn_items(scores(120, 2, share=0.05), factors=8, sweeps=30)
    assert (sparse.factors_Qk**2).sum() < (dense.factors_Qk**2).sum()
    assert sparse.mean_Q.std() < dense.mean_Q.std() + 0.05
    assert np.isfinite(sparse.noise_Q).all()


def test_it_is_deterministic_and_refuses_nothing() -> None:
    y = scores(40, 2, share=0.6)
    first, second = learn_items(y, 6, 20), learn_items(y, 6, 20)
    np.testing.assert_array_equal(first.factors_Qk, second.factors_Qk)
    with pytest.raises(ValueError, match="no scores"):
        learn_items(np.full((4, 5), np.nan, dtype=np.float32), 2, 3)


def test_an_item_that_everybody_gets_right_has_little_noise() -> None:
    y = scores(120, 2)
    y[:, 0] = 1
    items = learn_items(y, 6, 30)
    assert items.mean_Q[0] > 0.93
    assert items.noise_Q[0] < 0.5 * np.median(items.noise_Q)
