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
    items = learn_items(scores(120, rank), factors=12, sweeps=60)[0]
    power = (items.factors_Qk**2).mean(0)
    # Clipped probabilities bend a little: a faint factor beside the real ones is that bend.
    assert (power > 0.05 * power[0]).sum() == rank
    assert len(power) <= rank + 2


def test_noise_has_no_factors_worth_mentioning() -> None:
    rng = np.random.default_rng(0)
    y = (rng.random((80, 300)) < 0.6).astype(np.float32)
    items = learn_items(y, factors=8, sweeps=40)[0]
    assert (items.factors_Qk**2).mean() < 1e-3


def test_few_scores_shrink_what_is_claimed() -> None:
    dense = learn_items(scores(120, 2), factors=8, sweeps=30)[0]
    sparse = learn_items(scores(120, 2, share=0.05), factors=8, sweeps=30)[0]
    assert (sparse.factors_Qk**2).sum() < (dense.factors_Qk**2).sum()
    assert sparse.mean_Q.std() < dense.mean_Q.std() + 0.05
    assert np.isfinite(sparse.noise_Q).all()


def test_it_is_deterministic_and_refuses_nothing() -> None:
    y = scores(40, 2, share=0.6)
    first, second = learn_items(y, 6, 20)[0], learn_items(y, 6, 20)[0]
    np.testing.assert_array_equal(first.factors_Qk, second.factors_Qk)
    with pytest.raises(ValueError, match="no scores"):
        learn_items(np.full((4, 5), np.nan, dtype=np.float32), 2, 3)


def test_an_item_that_everybody_gets_right_has_little_noise() -> None:
    y = scores(120, 2)
    y[:, 0] = 1
    items = learn_items(y, 6, 30)[0]
    assert items.mean_Q[0] > 0.93
    assert items.noise_Q[0] < 0.5 * np.median(items.noise_Q)


def test_texts_carry_items_that_few_have_answered() -> None:
    """Where few have answered, an item is nearer to the truth for what its text says."""
    rng = np.random.default_rng(1)
    said = 0.2 * rng.normal(size=300)
    p = np.clip(0.5 + said + 0.03 * rng.normal(size=300), 0.02, 0.98)
    y = (rng.random((40, 300)) < p).astype(np.float32)
    y[rng.random(y.shape) > 0.06] = np.nan

    def read(weights_Qw: np.ndarray, trust_Q: np.ndarray) -> np.ndarray:
        assert ((trust_Q >= 0) & (trust_Q <= 1)).all()
        assert trust_Q[np.isnan(y).all(0)].max(initial=0) < 0.05
        told = np.zeros_like(weights_Qw)
        told[:, 0] = 0.5 + said
        return told

    without, _, _ = learn_items(y, 4, 20)
    knowing, _, trust = learn_items(y, 4, 20, read)
    assert np.abs(knowing.mean_Q - p).mean() < 0.6 * np.abs(without.mean_Q - p).mean()
    asked = (~np.isnan(y)).sum(0)
    assert np.corrcoef(trust, asked)[0, 1] > 0.8
