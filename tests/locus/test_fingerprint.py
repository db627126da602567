"""Fingerprints: the statistic by integration, its error rates on models that no fit has seen."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.stats import betabinom, norm

from locus.bank import Array, Bank, Queries
from locus.benchmark.readers import read_folder
from locus.embedding.factors import FactorPlacement
from locus.fingerprint import Fingerprint, FingerprintError, Side, place_features
from locus.matrix import ScoreMatrix

Floats = NDArray[np.float64]


def _posteriors(rng: np.random.Generator, count: int, k: int) -> tuple[Floats, Floats]:
    """Posteriors as placing makes them: prior identity plus some evidence."""
    a = rng.normal(size=(count, 6, k))
    cov = np.linalg.inv(np.eye(k) + np.einsum("pni,pnj->pij", a, a))
    return rng.normal(size=(count, k)), np.asarray(cov)


def test_the_evidence_is_the_integral() -> None:
    m1, c1, m2, c2 = 0.8, 0.3, -0.4, 0.6
    integral, _ = quad(
        lambda x: norm.pdf(x, m1, c1**0.5) * norm.pdf(x, m2, c2**0.5) / norm.pdf(x), -15, 15
    )
    found = place_features([[m1]], [[[c1]]], [[m2]], [[[c2]]])[0]
    assert found[0] == pytest.approx((m1 - m2) ** 2 / (c1 + c2))
    assert found[1] == pytest.approx(np.log(integral) + found[0] / 2)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_sides_and_axes_do_not_matter(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    m1, c1 = _posteriors(rng, 3, k)
    m2, c2 = _posteriors(rng, 3, k)
    found = place_features(m1, c1, m2, c2)
    np.testing.assert_allclose(found, place_features(m2, c2, m1, c1), atol=1e-9)
    turn, _ = np.linalg.qr(rng.normal(size=(k, k)))
    turned = place_features(m1 @ turn, turn.T @ c1 @ turn, m2 @ turn, turn.T @ c2 @ turn)
    np.testing.assert_allclose(found, turned, atol=1e-8)
    assert (found[:, 0] >= 0).all()
    np.testing.assert_allclose(place_features(m1, c1, m1, c2)[:, 0], 0, atol=1e-12)


def test_places_that_can_not_be_are_refused() -> None:
    one = np.zeros((1, 2)), np.eye(2)[None] / 2
    with pytest.raises(FingerprintError, match="standard normal prior"):
        place_features(*one, np.zeros((1, 2)), np.eye(2)[None] * -1)
    with pytest.raises(FingerprintError, match="standard normal prior"):
        place_features(np.zeros((1, 2)), np.eye(2)[None] * 3, np.zeros((1, 2)), np.eye(2)[None] * 3)
    with pytest.raises(FingerprintError, match="can't be compared"):
        place_features(*one, np.zeros((1, 3)), np.eye(3)[None])
    with pytest.raises(FingerprintError, match="not finite"):
        place_features(*one, np.full((1, 2), np.nan), np.eye(2)[None] / 2)


class World:
    """Models with three hidden skills, and a method that has learned from some of them."""

    def __init__(self, values_MQ: Array, benchmark: tuple[str, ...], learned: int) -> None:
        names = sorted(set(benchmark))
        phi = np.eye(len(names), dtype=np.float32)[[names.index(b) for b in benchmark]]
        queries = Queries(phi, benchmark)
        known = values_MQ[:learned]
        self.method = FactorPlacement()
        self.method.fit(Bank(queries, known, queries, known), seed=0)
        self.unseen = values_MQ[learned:]

    def place(self, values_BQ: Array) -> tuple[Floats, Floats]:
        placed = self.method.place(values_BQ)
        return placed.mean_Bk, placed.cov_Bkk

    def side(self, values_Q: Array, asked: NDArray[np.int64]) -> Side:
        some = np.full((1, len(values_Q)), np.nan, dtype=np.float32)
        some[0, asked] = values_Q[asked]
        mean, cov = self.place(some)
        return Side(mean[0], cov[0], len(asked))


def _skilled(seed: int, models: int, queries: int) -> Array:
    rng = np.random.default_rng(seed)
    kind = np.arange(queries) % 3
    chance = 1 / (1 + np.exp(-(rng.normal(0, 2, (models, 3))[:, kind] - rng.normal(0, 1, queries))))
    return (rng.random(chance.shape) < chance).astype(np.float32)


@pytest.fixture(scope="module")
def world() -> World:
    return World(_skilled(0, 460, 420), tuple(f"skill{i % 3}" for i in range(420)), 60)


@pytest.fixture(scope="module")
def real(shared_data: Path) -> tuple[World, Array]:
    """Learned from the pool; unseen training models to calibrate on; unseen organisations."""
    frames, _, _ = read_folder(shared_data / "oll-v1")
    queries = frames["queries"].filter(split="train")
    models = frames["models"]
    rest = models.filter((pl.col("split") == "train") & ~pl.col("pool112"))
    rest = rest[np.random.default_rng(0).permutation(rest.height)[:300]]

    def values(rows: pl.DataFrame) -> Array:
        ids = rows["model_id"].to_list(), queries["query_id"].to_list()
        return ScoreMatrix.from_frame(frames["scores"], *ids).values_MQ

    pool = values(models.filter("pool112"))
    world = World(
        np.concatenate([pool, values(rest)]), tuple(queries["benchmark"].to_list()), len(pool)
    )
    return world, values(models.filter("heldout64"))


def _errors(
    test: Fingerprint, world: World, values_MQ: Array, seed: int
) -> tuple[int, int, int, int, Floats, int]:
    """One same and one different pair a model, drawn and counted apart from the library.

    Returns:
        same called different, different called same, same called same, different called different,
        P(same) of all pairs (same first), and pairs of each kind.
    """
    rng = np.random.default_rng(seed)
    m = len(values_MQ)
    other = (np.arange(m) + rng.integers(1, m, m)) % m
    verdicts: list[list[str]] = [[], []]
    chances: list[list[float]] = [[], []]
    for a in range(m):
        for kind, b in enumerate((a, int(other[a]))):
            both = np.flatnonzero(~np.isnan(values_MQ[a]) & ~np.isnan(values_MQ[b]))
            drawn = rng.permutation(both)[: 2 * test.n - test.n_common]
            left_at = drawn[: test.n]
            right_at = np.concatenate([drawn[: test.n_common], drawn[test.n :]])
            right = values_MQ[b].copy()
            if kind == 0:
                flips = left_at[: test.n_common][rng.random(test.n_common) < 0.02]
                right[flips] = 1 - right[flips]
            given_: dict[str, Any] = {}
            if test.n_common:
                common = drawn[: test.n_common]
                agree = int((values_MQ[a, common] == right[common]).sum())
                given_ = {"n_agree": agree, "n_common": test.n_common}
            found = test.compare(
                world.side(values_MQ[a], left_at), world.side(right, right_at), **given_
            )
            verdicts[kind].append(found.verdict)
            chances[kind].append(found.p_same)
    same, different = verdicts
    return (
        same.count("different"),
        different.count("same"),
        same.count("same"),
        different.count("different"),
        np.concatenate(chances),
        m,
    )


def _most(n: int, calibration: int, rate: float = 0.05) -> float:
    """Errors that are exceeded once in a thousand, by chance in the new pairs and the threshold."""
    wrong = int(np.floor(rate * (calibration + 1)))
    return float(betabinom.ppf(0.999, n, wrong, calibration + 1 - wrong))


@pytest.mark.parametrize(("n", "n_common"), [(60, 0), (60, 30)])
def test_stated_rates_hold_for_models_never_seen(world: World, n: int, n_common: int) -> None:
    calibrate, new = world.unseen[:250], world.unseen[250:]
    test = Fingerprint.fit(world.place, calibrate, n, n_common=n_common, rounds=1)
    missed, mistaken, found, told, chances, pairs = _errors(test, world, new, seed=1)
    assert missed <= _most(pairs, len(test.same_P))
    assert mistaken <= _most(pairs, len(test.different_P))
    assert told > pairs / 2
    assert found > (pairs / 2 if n_common else pairs / 4)
    # P(same) is a probability: where it says 0.x, about that share is the same.
    same = np.arange(2 * pairs) < pairs
    for low in (0.0, 0.5):
        at = (chances >= low) & (chances < low + 0.5)
        error = np.sqrt((chances[at] * (1 - chances[at])).mean())
        assert abs(same[at].mean() - chances[at].mean()) < 4 * error / np.sqrt(at.sum())


@pytest.mark.parametrize(("n", "n_common"), [(64, 0), (128, 0), (64, 64)])
def test_stated_rates_hold_on_real_models_of_unseen_organisations(
    real: tuple[World, Array], n: int, n_common: int
) -> None:
    world, held = real
    test = Fingerprint.fit(world.place, world.unseen, n, n_common=n_common, rounds=1)
    missed, mistaken, found, told, _, pairs = _errors(test, world, held, seed=2)
    assert missed <= _most(pairs, len(test.same_P))
    assert mistaken <= _most(pairs, len(test.different_P))
    # Without common queries few scores seldom suffice; with them they nearly always do.
    assert found / pairs > (0.9 if n_common else 0.15)
    assert told / pairs > (0.9 if n_common else 0.5)


def test_look_alikes_are_harder_than_strangers(world: World) -> None:
    strangers = Fingerprint.fit(world.place, world.unseen, 60, rounds=1)
    rivals = Fingerprint.fit(world.place, world.unseen, 60, rounds=1, rivals=3)

    def overlap(test: Fingerprint) -> float:
        same_above, _ = test.thresholds()
        return float((test.same_P <= same_above).mean())

    assert overlap(rivals) > overlap(strangers)


def test_same_seed_same_test_and_more_apart_is_never_more_alike(world: World) -> None:
    one, two = (Fingerprint.fit(world.place, world.unseen[:80], 50, seed=4) for _ in range(2))
    np.testing.assert_array_equal(one.weights_f, two.weights_f)
    np.testing.assert_array_equal(one.same_P, two.same_P)
    assert one.weights_f[1] < 0 < one.weights_f[2]
    k = len(world.place(world.unseen[:1])[0][0])
    cov = np.eye(k) / 4
    judged = [
        one.compare(Side(np.full(k, -x), cov, 50), Side(np.full(k, x), cov, 50))
        for x in (0.0, 0.5, 1.0, 2.0)
    ]
    assert judged[-1].verdict == "different"
    odds = [v.statistic for v in judged]
    assert odds == sorted(odds, reverse=True)
    sure = one.compare(
        Side(np.zeros(k), cov, 50), Side(np.zeros(k), cov, 70), prior_same=0.9, false_same=0.2
    )
    assert sure.p_same > judged[0].p_same
    assert sure.statistic == judged[0].statistic
    assert sure.n == 50
    assert sure.threshold <= judged[0].threshold


def _plain(same: list[float], different: list[float], **given_: Any) -> Fingerprint:
    settings_of: dict[str, Any] = {"n": 10, "n_common": 0} | given_
    weights = np.array([0.0, -1.0, 0.0] + [1.0] * (settings_of["n_common"] > 0))
    return Fingerprint(
        near_agreement=0.8, self_disagreement=0.02, weights_f=weights,
        same_P=np.sort(same), different_P=np.sort(different), **settings_of,
    )  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(-9, 9), min_size=19, max_size=60),
    st.lists(st.floats(-9, 9), min_size=19, max_size=60),
)
def test_thresholds_are_order_statistics(same: list[float], different: list[float]) -> None:
    test = _plain(same, different)
    above, below = test.thresholds(0.1, 0.05)
    # Whichever pair had been the new one, no more than the stated share of them would be wrong.
    assert (test.different_P > above).sum() <= 0.1 * (len(different) + 1)
    assert (test.same_P < below).sum() <= 0.05 * (len(same) + 1)
    assert below <= above
    looser = test.thresholds(0.3, 0.05)
    if looser[0] > looser[1]:
        assert looser[0] <= above


def test_far_apart_kinds_leave_nothing_undecided() -> None:
    test = _plain([5.0 + i / 100 for i in range(40)], [-5.0 - i / 100 for i in range(40)])
    above, below = test.thresholds()
    assert above == below
    assert -5 < above < 5


def test_what_was_not_calibrated_is_refused() -> None:
    side = Side(np.zeros(1), np.eye(1) / 2, 10)
    alone = _plain([1.0] * 40, [0.0] * 40)
    joint = _plain([1.0] * 40, [0.0] * 40, n_common=5)
    with pytest.raises(FingerprintError, match="one side has 9"):
        alone.compare(side, Side(np.zeros(1), np.eye(1) / 2, 9))
    with pytest.raises(FingerprintError, match="fit with n_common=4"):
        alone.compare(side, side, n_agree=4, n_common=4)
    with pytest.raises(FingerprintError, match="calibrated for 5 common"):
        joint.compare(side, side)
    with pytest.raises(FingerprintError, match="6 agreements on 5"):
        joint.compare(side, side, n_agree=6, n_common=5)
    with pytest.raises(FingerprintError, match="prior_same is 1"):
        alone.compare(side, side, prior_same=1.0)
    with pytest.raises(FingerprintError, match="takes 99 calibration pairs, and there are 40"):
        alone.compare(side, side, false_same=0.01)
    with pytest.raises(FingerprintError, match="false_different is 0"):
        alone.thresholds(false_different=0.0)
    assert joint.compare(side, side, n_agree=5, n_common=5).p_same > 0.5


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"n": 0}, "n is 0"),
        ({"n": 20, "n_common": 21}, "n_common 21"),
        ({"n": 20, "self_disagreement": 0.0}, "self_disagreement"),
        ({"n": 20, "rivals": 0}, "rivals is 0"),
        ({"n": 20, "rounds": 0}, "rounds is 0"),
        ({"n": 400}, "0 pairs of the same model"),
    ],
)
def test_a_fit_that_can_not_be_is_refused(world: World, given_: Any, message: str) -> None:
    with pytest.raises(FingerprintError, match=message):
        Fingerprint.fit(world.place, world.unseen[:30], **given_)
