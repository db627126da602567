"""The posterior of all models at once, held against each model alone and each answer left out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locus.embedding import posterior as module
from locus.embedding.items import Items
from locus.embedding.posterior import Floats, posterior, weights_of


def some_items(rng: np.random.Generator, n: int, k: int) -> Items:
    # Predictions stay where they are not bent: between the edges.
    return Items(rng.uniform(0.45, 0.55, n), rng.normal(0, 0.02, (n, k)), rng.uniform(0.05, 0.3, n))


def of_one(scores_Q: Floats, items: Items) -> tuple[Floats, Floats]:
    """Textbook Bayesian linear regression of one model."""
    asked = ~np.isnan(scores_Q)
    f, noise = items.factors_Qk[asked], np.diag(1 / items.noise_Q[asked])
    cov = np.linalg.inv(np.eye(f.shape[1]) + f.T @ noise @ f)
    return cov @ f.T @ noise @ (scores_Q[asked] - items.mean_Q[asked]), cov


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 40),
    k=st.integers(0, 5),
    block=st.sampled_from([1, 40, 1 << 21]),
)
def test_every_model_and_every_answer_left_out(seed: int, n: int, k: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    items = some_items(rng, n, k)
    values = rng.integers(0, 3, (4, n)) / 2
    values[rng.random(values.shape) < rng.uniform(0, 1, (4, 1))] = np.nan
    values[3] = np.nan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        patch.setattr(module, "_SCORES", block)
        mean, cov, expected = posterior(values, items)
        for got, again in zip(weights_of(values, items), (mean, cov), strict=True):
            np.testing.assert_array_equal(got, again)
    for row, scores in enumerate(values):
        its_mean, its_cov = of_one(scores, items)
        np.testing.assert_allclose(mean[row], its_mean, atol=1e-9)
        np.testing.assert_allclose(cov[row], its_cov, atol=1e-9)
        for column in range(n):
            others = scores.copy()
            others[column] = np.nan
            without, _ = of_one(others, items)
            told = items.mean_Q[column] + items.factors_Qk[column] @ without
            assert expected[row, column] == pytest.approx(told, abs=1e-9)
