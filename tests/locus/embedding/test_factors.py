"""Closed-form placement: its mathematics, its uncertainty, and that others' answers help."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locus.bank import Bank, Queries
from locus.embedding import maps
from locus.embedding.calibration import bounded
from locus.embedding.factors import D_MODEL, FactorConfig, FactorPlacement
from locus.encoding.surface import SURFACE


def world(seed: int, n_models: int, n_queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores from three hidden skills, of which the text shows the kind. (phi, probabilities)."""
    items = np.random.default_rng(7)
    kind = items.integers(0, 3, n_queries)
    phi = np.eye(12)[kind] + 0.05 * items.normal(size=(n_queries, 12))
    phi /= np.linalg.norm(phi, axis=1, keepdims=True)
    hard = items.normal(0, 1.0, n_queries)
    skill = np.random.default_rng(seed).normal(0, 1.5, (n_models, 3))
    return phi.astype(np.float32), 1 / (1 + np.exp(-(skill[:, kind] - hard)))


def scores(seed: int, n_models: int) -> tuple[np.ndarray, np.ndarray]:
    phi, p = world(seed, n_models, 240)
    return phi, (np.random.default_rng(seed + 1).random(p.shape) < p).astype(np.float32)


def queries(phi: np.ndarray) -> Queries:
    return Queries(phi, tuple(f"b{int(row[:3].argmax())}" for row in phi))


@pytest.fixture(scope="module")
def method() -> FactorPlacement:
    phi, y = scores(0, 60)
    fitted = FactorPlacement(FactorConfig(factors=6))
    fitted.fit(Bank(queries(phi[:160]), y[:, :160], queries(phi[160:200]), y[:, 160:200]), seed=0)
    return fitted


def bce(y: np.ndarray, p: np.ndarray) -> float:
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return float(-(y * np.log(p) + (1 - y) * np.log(1 - p)).mean())


def asked(y: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    some = np.full_like(y, np.nan)
    for row in range(len(y)):
        chosen = np.random.default_rng([seed, row]).permutation(y.shape[1])[:n]
        some[row, chosen] = y[row, chosen]
    return some


def test_unseen_models_on_unseen_queries(method: FactorPlacement) -> None:
    phi, y = scores(5, 30)
    test = queries(phi[200:])
    losses = [
        bce(y[:, 200:], method.predict(method.place(asked(y[:, :160], n)), test))
        for n in (0, 8, 64)
    ]
    assert losses[0] > losses[1] > losses[2]
    assert losses[2] < 0.93 * bce(y[:, 200:], np.full_like(y[:, 200:], y[:, :160].mean()))


def test_what_others_answered_beats_the_text_alone(method: FactorPlacement) -> None:
    phi, y = scores(6, 30)
    given_ = asked(y[:, :160], 40)
    rest = np.isnan(given_)
    placed = method.place(given_)
    from_history = method.predict_bank(placed, np.arange(160))
    from_text = method.predict(placed, queries(phi[:160]))
    assert bce(y[:, :160][rest], from_history[rest]) < bce(y[:, :160][rest], from_text[rest])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 500), n=st.integers(0, 60))
def test_more_scores_never_make_it_less_sure(method: FactorPlacement, seed: int, n: int) -> None:
    _, y = scores(seed, 3)
    fewer, more = asked(y[:, :160], n, seed), asked(y[:, :160], n + 20, seed)
    placed_fewer, placed_more = method.place(fewer), method.place(more)
    shrink = placed_fewer.cov_Bkk - placed_more.cov_Bkk
    assert np.linalg.eigvalsh(shrink).min() > -1e-9
    assert np.linalg.eigvalsh(placed_more.cov_Bkk).min() > 0


def test_one_by_one_equals_together_and_blocks_add_up(method: FactorPlacement) -> None:
    _, y = scores(9, 5)
    given_ = asked(y[:, :160], 30)
    together = method.place(given_)
    for row in range(5):
        alone = method.place(given_[row : row + 1])
        np.testing.assert_allclose(alone.mean_Bk[0], together.mean_Bk[row], atol=1e-12)


def test_a_map_places_the_same_in_blocks(
    method: FactorPlacement, monkeypatch: pytest.MonkeyPatch
) -> None:
    phi, y = scores(10, 7)
    ids = tuple(f"q{i:03d}" for i in range(160))
    x = np.concatenate([phi, np.zeros((240, len(SURFACE)), np.float32)], axis=1)
    given_ = asked(y[:, :160], 30)
    whole = maps.FactorMap(method, ids).embed(ids, x[:160], given_)
    monkeypatch.setattr(maps, "_BLOCK", 3 * 320)
    blocks = maps.FactorMap(method, ids).embed(ids, x[:160], given_)
    for one, other in zip(vars(whole).values(), vars(blocks).values(), strict=True):
        assert len(one) == 7
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_no_scores_is_the_prior_and_vectors_are_128_wide(method: FactorPlacement) -> None:
    placed = method.place(np.full((2, 160), np.nan, dtype=np.float32))
    assert np.abs(placed.mean_Bk).max() == 0
    np.testing.assert_allclose(placed.cov_Bkk[0], np.eye(placed.mean_Bk.shape[1]), atol=1e-12)
    assert placed.kinship.own_B.tolist() == [1.0, 1.0]
    assert method.vectors(placed).shape == (2, D_MODEL)


def test_distances_are_differences_of_behaviour(method: FactorPlacement) -> None:
    _, y = scores(11, 12)
    placed = method.place(y[:, :160])
    z = method.vectors(placed)
    predicted = method.mean_Q + placed.weights_Bk @ method.factors_Qk.T
    apart = ((predicted[:, None] - predicted[None]) ** 2).mean(2)
    np.testing.assert_allclose(((z[:, None] - z[None]) ** 2).sum(2), apart, rtol=1e-3, atol=1e-6)


def test_scores_on_queries_beyond_the_bank_count(method: FactorPlacement) -> None:
    phi, y = scores(12, 40)
    nothing = np.full((40, 160), np.nan, dtype=np.float32)
    beyond = queries(phi[160:200])
    placed = method.place(np.concatenate([nothing, y[:, 160:200]], axis=1), beyond)
    test = queries(phi[200:])
    prior = method.predict(method.place(nothing), test)
    assert bce(y[:, 200:], method.predict(placed, test)) < 0.97 * bce(y[:, 200:], prior)
    on_bank = method.place(asked(y[:, :160], 40))
    assert np.trace(placed.cov_Bkk[0]) > np.trace(on_bank.cov_Bkk[0])


def test_surface_features_for_all_or_for_none() -> None:
    phi, y = scores(4, 20)
    long = np.random.default_rng(0).random((240, 2)).astype(np.float32)
    labels = queries(phi).benchmark
    bank = Queries(phi, labels, long)
    fitted = FactorPlacement()
    fitted.fit(Bank(bank, y, bank, y), 0)
    assert np.isfinite(fitted.predict(fitted.place(y), bank)).all()
    with pytest.raises(ValueError, match="surface"):
        fitted.predict(fitted.place(y), queries(phi))


def test_more_benchmarks_than_numbers() -> None:
    phi, y = scores(4, 20)
    many = Queries(phi, tuple(f"b{i % 200}" for i in range(240)))
    fitted = FactorPlacement()
    fitted.fit(Bank(many, y, many, y), 0)
    placed = fitted.place(y[:3])
    assert placed.mean_Bk.shape[1] <= D_MODEL
    assert fitted.predict(placed, many).shape == (3, 240)


def test_graded_scores_missing_blocks_and_determinism() -> None:
    phi, y = scores(3, 24)
    graded = (0.2 + 0.6 * y).astype(np.float32)
    graded[:12, :60] = np.nan
    bank = Bank(queries(phi[:160]), graded[:, :160], queries(phi[160:]), graded[:, 160:])
    first, second = FactorPlacement(), FactorPlacement()
    first.fit(bank, 3)
    second.fit(bank, 3)
    p = first.predict(first.place(graded[:4, :160]), queries(phi[160:]))
    assert np.isfinite(p).all()
    assert 0 < p.min() < p.max() < 1
    np.testing.assert_array_equal(
        p, second.predict(second.place(graded[:4, :160]), bank.val_queries)
    )
    spread = first.spread(first.place(graded[:4, :160]), bank.val_queries)
    assert (spread >= 0).all()
    none = first.spread(first.place(np.full((1, 160), np.nan, np.float32)), bank.val_queries)
    assert (none[0] >= spread[0] - 1e-6).all()


def test_the_surest_predictions_still_have_an_order() -> None:
    raw = np.linspace(-0.5, 1.6, 400)
    p = bounded(raw)
    assert (np.diff(p) > 0).all()
    assert 0 < p[0] < p[-1] < 1
    inside = (raw > 0.02) & (raw < 0.98)
    np.testing.assert_allclose(p[inside], raw[inside])
