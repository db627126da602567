"""Relatives: a copy is recognised, a stranger is not, and predictions profit."""

import numpy as np
import pytest

from locus.embedding import relatives
from locus.embedding.relatives import SHARES, kinship, learn_prior

FLAT = np.full(len(SHARES), 1 / len(SHARES))


def pool(n: int = 30, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.random((n, 200)) < 0.6).astype(np.float64)


def asked(values: np.ndarray, n: int) -> np.ndarray:
    some = np.full_like(values, np.nan)
    for row, one in enumerate(values):
        chosen = np.random.default_rng(row).permutation(len(one))[:n]
        some[row, chosen] = one[chosen]
    return some


def test_a_retune_finds_its_base_and_a_stranger_finds_nobody() -> None:
    rng = np.random.default_rng(3)
    bases = pool()
    retunes = np.where(rng.random((10, 200)) < 0.1, 1 - bases[:10], bases[:10])
    strangers = pool(10, seed=9)
    own = np.full((10, 200), 0.6)
    kin = kinship(asked(retunes, 64), own, bases, FLAT)
    assert (kin.weights_BM.argmax(1) == np.arange(10)).all()
    assert kin.own_B.mean() < 0.4
    assert kinship(asked(strangers, 64), own, bases, FLAT).own_B.mean() > 0.7


def test_weights_are_shares() -> None:
    values = asked(pool(6, seed=4), 20)
    kin = kinship(values, np.full((6, 200), 0.5), pool(), FLAT)
    assert (kin.weights_BM >= 0).all()
    assert (kin.weights_BM.sum(1) <= 1 + 1e-9).all()
    np.testing.assert_allclose(kin.shares_Bc.sum(1), 1)
    one = kinship(values[2:3], np.full((1, 200), 0.5), pool(), FLAT)
    np.testing.assert_allclose(one.weights_BM[0], kin.weights_BM[2], rtol=1e-4, atol=1e-6)


def test_the_pool_says_how_common_relatives_are() -> None:
    strangers = pool(40)
    family = np.concatenate([strangers, 1 - np.abs(strangers - (pool(40, 5) < 0.05))])
    own = np.full((80, 200), 0.6)
    alone = learn_prior(strangers, own[:40], strangers, 0)
    related = learn_prior(family, own, family, 0)
    assert alone.min() > 0
    np.testing.assert_allclose([alone.sum(), related.sum()], 1)
    assert related @ SHARES < alone @ SHARES


def test_narrowing_down_many_relatives_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(8)
    bases = (rng.random((400, 600)) < 0.6).astype(np.float32)
    retunes = np.where(rng.random((12, 600)) < 0.2, 1 - bases[:12], bases[:12]).astype(np.float64)
    retunes[:, 590:] = np.nan
    placed = np.concatenate([retunes, asked(retunes[:2], 100)])
    own = np.full(placed.shape, 0.6)
    with_all = kinship(placed, own, bases, FLAT)
    monkeypatch.setattr(relatives, "_MANY", 100)
    narrowed = kinship(placed, own, bases, FLAT)
    # Most were not looked at on all queries; the two with few scores were compared with everybody.
    assert (narrowed.weights_BM[:12] == 0).sum(1).min() >= 400 - 128
    assert (narrowed.weights_BM[12:] > 0).all()
    np.testing.assert_allclose(narrowed.weights_BM, with_all.weights_BM, atol=1e-5)
    np.testing.assert_allclose(narrowed.shares_Bc, with_all.shares_Bc, atol=1e-5)
