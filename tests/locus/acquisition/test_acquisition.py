"""Choosing queries: the mathematics by direct recomputation, and what choosing is worth."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locus.acquisition import (
    Adaptive,
    Items,
    Panel,
    Purse,
    Random,
    Strategy,
    Stratified,
    allocate,
    choose,
    expected_gain,
    expected_gains,
    items_of,
    panel_order,
    simulate,
)
from locus.acquisition.beliefs import Lookahead, noise_for
from locus.bank import Array, Bank, Queries
from locus.embedding.factors import FactorPlacement
from locus.embedding.posterior import weights_of
from locus.encoding import DEFAULT_ENCODER, TextEncoder
from locus.matrix import ScoreMatrix

STRATEGIES: list[Strategy] = [Random(), Stratified(), Panel(), Adaptive(), Adaptive(explore=1.0)]


def some_items(seed: int, n: int = 60, k: int = 4) -> Items:
    rng = np.random.default_rng(seed)
    factors = rng.normal(0, 0.15, (n, k))
    targets = rng.normal(0, 0.15, (20, k)) * np.linspace(1, 0.2, k)
    return Items(
        rng.uniform(0.1, 0.9, n), factors, rng.uniform(0.05, 0.25, n),
        tuple(f"b{i % 3}" for i in range(n)), targets.T @ targets / 20,
    )  # fmt: skip


def some_values(seed: int, models: int, n: int, answered: int) -> Array:
    rng = np.random.default_rng(seed)
    values = np.full((models, n), np.nan, dtype=np.float32)
    for row in values:
        chosen = rng.permutation(n)[:answered]
        row[chosen] = rng.integers(0, 2, answered)
    return values


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), answered=st.integers(0, 20))
def test_rank_one_updates_equal_recomputation_and_variance_never_grows(
    seed: int, answered: int
) -> None:
    items = some_items(seed)
    values = some_values(seed, 3, len(items), answered)
    mean, cov = weights_of(values, items)
    noise = noise_for(items, mean, 0.5)
    ahead = Lookahead(items, cov, noise)
    precision = np.linalg.inv(cov)
    rng = np.random.default_rng(seed)
    for _ in range(6):
        picks = rng.integers(0, len(items), 3)
        before, gains = ahead.cov_Bkk.copy(), ahead.gains()
        ahead.ask(picks)
        for row, pick in enumerate(picks):
            f = items.factors_Qk[pick]
            precision[row] += np.outer(f, f) / noise[row, pick]
            direct = np.linalg.inv(precision[row])
            np.testing.assert_allclose(ahead.cov_Bkk[row], direct, atol=1e-9)
            fallen = np.trace((before[row] - direct) @ items.moment_kk)
            assert gains[row, pick] == pytest.approx(fallen, rel=1e-6, abs=1e-12)
            assert np.linalg.eigvalsh(before[row] - direct).min() > -1e-10
            expected = np.einsum("qk,kl,ql->q", items.factors_Qk, direct, items.factors_Qk)
            np.testing.assert_allclose(ahead.variance_BQ[row], expected, atol=1e-9)
    ahead.ask(np.array([-1, -1, -1]))
    np.testing.assert_allclose(ahead.cov_Bkk, np.linalg.inv(precision), atol=1e-9)


def test_posterior_is_bayesian_linear_regression() -> None:
    items = some_items(1)
    values = np.concatenate([some_values(1, 5, len(items), 12), some_values(1, 1, len(items), 0)])
    mean, cov = weights_of(values, items)
    for row, scores in enumerate(values):
        asked = ~np.isnan(scores)
        f, noise = items.factors_Qk[asked], items.noise_Q[asked]
        direct = np.linalg.inv(np.eye(4) + f.T @ np.diag(1 / noise) @ f)
        np.testing.assert_allclose(cov[row], direct, atol=1e-9)
        pulled = direct @ f.T @ ((scores[asked] - items.mean_Q[asked]) / noise)
        np.testing.assert_allclose(mean[row], pulled, atol=1e-6)


def test_greedy_takes_the_largest_gain_at_every_step() -> None:
    items = some_items(2)
    order = panel_order(items)[:10]
    precision = np.eye(4)
    left = list(range(len(items)))
    for pick in order:
        falls = {}
        now = np.trace(np.linalg.inv(precision) @ items.moment_kk)
        for i in left:
            f = items.factors_Qk[i]
            then = np.linalg.inv(precision + np.outer(f, f) / items.noise_Q[i])
            falls[i] = now - np.trace(then @ items.moment_kk)
        assert falls[int(pick)] == pytest.approx(max(falls.values()), rel=1e-9)
        f = items.factors_Qk[pick]
        precision += np.outer(f, f) / items.noise_Q[pick]
        left.remove(int(pick))


@dataclass(frozen=True)
class Fitted:
    mean_Q: np.ndarray
    factors_Qk: np.ndarray
    noise_Q: np.ndarray


def test_items_shrink_what_few_models_have_taught() -> None:
    base = some_items(13)
    noise = np.where(np.arange(60) < 30, 0.01, 0.2)
    fitted = Fitted(np.linspace(-0.1, 1.1, 60), base.factors_Qk, noise)
    kept = items_of(fitted, base.benchmark, None)
    np.testing.assert_array_equal(kept.factors_Qk, base.factors_Qk)
    few, many = (items_of(fitted, base.benchmark, n).factors_Qk for n in (20, 20_000))
    np.testing.assert_allclose(many, base.factors_Qk, rtol=1e-2)
    left = np.abs(few / base.factors_Qk)
    assert (left < 1).all()
    assert left[30:].max() < left[:30].min()  # the noisier an item, the more it is shrunk
    # A binary score at the mean, or the estimate; never 0, not even for means beyond 0..1.
    sure = items_of(fitted, base.benchmark, None, trust_noise=0.0)
    assert sure.noise_Q.min() > 0.01
    trusted = items_of(fitted, base.benchmark, None, trust_noise=1.0)
    np.testing.assert_array_equal(trusted.noise_Q, noise)


def test_targets_are_what_is_asked_for() -> None:
    base = some_items(14)
    fitted = Fitted(base.mean_Q, base.factors_Qk, base.noise_Q)
    one = np.zeros((1, 4))
    one[0, 2] = 1.0
    only = items_of(fitted, base.benchmark, None, one, bank_share=0.0)
    np.testing.assert_allclose(only.moment_kk, np.diag([0.0, 0, 1, 0]))
    first = panel_order(only)[0]
    telling = only.factors_Qk[:, 2] ** 2 / (only.noise_Q + (only.factors_Qk**2).sum(axis=1))
    assert first == telling.argmax()
    # By default: benchmark means, weighed by size.
    labels = np.array(base.benchmark)
    means = np.stack([base.factors_Qk[labels == b].mean(axis=0) for b in base.benchmark])
    moment = means.T @ means
    default = items_of(fitted, base.benchmark, None, bank_share=0.0)
    np.testing.assert_allclose(default.moment_kk, moment / np.trace(moment))
    with pytest.raises(ValueError, match="59 benchmarks for 60 queries"):
        items_of(fitted, base.benchmark[1:], None)
    with pytest.raises(ValueError, match="bank_share is 2"):
        items_of(fitted, base.benchmark, None, bank_share=2)


def test_panels_are_nested_and_the_same_for_everybody() -> None:
    items = some_items(3, n=200)
    nobody = np.full((2, 200), np.nan)
    of = {n: Panel().choose_many(items, nobody, n, [1, 2]) for n in (32, 64, 128)}
    np.testing.assert_array_equal(of[32], of[128][:, :32])
    np.testing.assert_array_equal(of[64], of[128][:, :64])
    np.testing.assert_array_equal(of[128][0], of[128][1])
    assert sorted(panel_order(items)) == list(range(200))


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), answered=st.integers(0, 50), n=st.integers(0, 60))
def test_never_asks_what_is_answered_forbidden_or_asked_twice(
    strategy: Strategy, seed: int, answered: int, n: int
) -> None:
    items = some_items(seed)
    values = some_values(seed, 3, len(items), answered)
    allowed = np.random.default_rng(seed).random(values.shape) < 0.5
    allowed[2] = False
    chosen = strategy.choose_many(items, values, n, [5, 6, 7], allowed)
    for row, picks in enumerate(chosen):
        asked = picks[picks >= 0]
        may = allowed[row] & np.isnan(values[row])
        assert may[asked].all()
        assert len(set(asked.tolist())) == len(asked) == min(n, may.sum())
        assert (picks[len(asked) :] == -1).all()


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_a_seed_decides_and_a_batch_is_what_each_would_be_alone(strategy: Strategy) -> None:
    items = some_items(4)
    values = some_values(4, 70, len(items), 9)
    seeds = list(range(70))
    chosen = strategy.choose_many(items, values, 12, seeds)
    np.testing.assert_array_equal(chosen, strategy.choose_many(items, values, 12, seeds))
    for row in (0, 33, 69):
        alone = choose(strategy, items, values[row], 12, row)
        np.testing.assert_array_equal(chosen[row], alone)
    if not isinstance(strategy, Panel):
        other = strategy.choose_many(items, values, 12, [s + 1000 for s in seeds])
        assert not np.array_equal(chosen, other)


@pytest.mark.parametrize("strategy", [Random(), Stratified(), Panel()], ids=str)
def test_fixed_orders_go_on_where_they_stopped(strategy: Strategy) -> None:
    items = some_items(5)
    nothing = np.full(len(items), np.nan)
    whole = choose(strategy, items, nothing, 20, 3)
    partly = nothing.copy()
    partly[whole[:12]] = 1.0
    np.testing.assert_array_equal(choose(strategy, items, partly, 8, 3), whole[12:])


def test_stratified_keeps_proportions_at_every_point() -> None:
    items = some_items(6, n=100)
    labels = np.array(["big"] * 70 + ["small"] * 30)
    items = Items(items.mean_Q, items.factors_Qk, items.noise_Q, tuple(labels), items.moment_kk)
    for seed in range(5):
        order = choose(Stratified(), items, np.full(100, np.nan), 100, seed)
        for n in (10, 20, 50, 90):
            assert abs((labels[order[:n]] == "small").sum() - 0.3 * n) <= 1


def test_explores_the_share_that_was_asked_for() -> None:
    base = some_items(7, n=400)
    factors = base.factors_Qk.copy()
    factors[200:] = 0  # an answer tells nothing: only exploring asks for it
    items = Items(base.mean_Q, factors, base.noise_Q, base.benchmark, base.moment_kk)
    truth = np.random.default_rng(7).integers(0, 2, (40, 400)).astype(np.float32)
    told_nothing = {}
    for explore in (0.0, 0.25, 1.0):
        seen = simulate(items, truth, Adaptive(explore=explore, batch=3), [64], 0)[64]
        told_nothing[explore] = float((~np.isnan(seen[:, 200:])).sum(axis=1).mean())
    assert told_nothing[0.0] == 0
    # 16 of 64 explore, of which a little over half fall on the second half of the bank.
    assert 7 < told_nothing[0.25] < 11
    assert 28 < told_nothing[1.0] < 36


def test_foregone_answers_are_asked_less() -> None:
    """A model that is right on everything is asked harder queries than one that is always wrong."""
    rng = np.random.default_rng(8)
    mean = rng.uniform(0.1, 0.9, 300)
    spread = mean * (1 - mean)
    items = Items(mean, 0.6 * spread[:, None], spread, ("b",) * 300, np.eye(1))
    truth = np.stack([np.ones(300), np.zeros(300)]).astype(np.float32)
    seen = simulate(items, truth, Adaptive(sharpness=1.0, explore=0), [48], 0)[48]
    strong, weak = (mean[~np.isnan(row)].mean() for row in seen)
    assert strong < weak - 0.1
    blind = simulate(items, truth, Adaptive(sharpness=0.0, explore=0), [48], 0)[48]
    np.testing.assert_array_equal(np.isnan(blind[0]), np.isnan(blind[1]))


def test_simulation_shows_only_what_can_be_asked() -> None:
    items = some_items(9)
    truth = np.random.default_rng(9).integers(0, 2, (6, 60)).astype(np.float32)
    truth[0, 10:] = np.nan
    for strategy in STRATEGIES:
        seen = simulate(items, truth, strategy, [4, 16, 32], 1)
        for budget, values in seen.items():
            counts = (~np.isnan(values)).sum(axis=1).tolist()
            assert counts == [min(budget, 10)] + [budget] * 5
            known = ~np.isnan(values)
            np.testing.assert_array_equal(values[known], truth[known])
        assert not (~np.isnan(seen[4]) & np.isnan(seen[32])).any()


def skilled_world(seed: int) -> tuple[Queries, Array, Queries, Array, Array]:
    """Queries that need one of three hidden skills; a third of them tell hardly anything."""
    rng = np.random.default_rng(seed)
    n, models = 360, 160
    skill = rng.integers(0, 3, n)
    telling = np.where(rng.random(n) < 0.33, 3.0, 0.4)
    ease = rng.normal(0, 1, n)
    able = rng.normal(0, 1, (models, 1)) * 0.6 + rng.normal(0, 1, (models, 3))
    p = 1 / (1 + np.exp(-telling * (able[:, skill] + ease)))
    y = (rng.random((models, n)) < p).astype(np.float32)
    phi = (np.eye(6)[skill] + 0.05 * rng.normal(size=(n, 6))).astype(np.float32)
    bank, rest = slice(0, 240), slice(240, n)
    labels = tuple(f"b{k}" for k in skill)
    return (
        Queries(phi[bank], labels[bank]), y[:, bank],
        Queries(phi[rest], labels[rest]), y[:, rest], p[:, rest].astype(np.float32),
    )  # fmt: skip


def test_choosing_beats_random_where_skills_are_hidden() -> None:
    """On models and queries that nothing was learned from, over two worlds of 80 models."""
    errors: dict[str, list[float]] = {}
    for seed in range(2):
        bank, y, rest, _, p = skilled_world(seed)
        placement = FactorPlacement()
        placement.fit(Bank(bank, y[:80], rest, np.full((80, len(rest)), np.nan)), seed)
        items = items_of(placement, bank.benchmark, 80)
        for strategy in (Random(), Panel(), Adaptive()):
            for budget, seen in simulate(items, y[80:], strategy, [16, 32], seed).items():
                found = placement.predict(placement.place(seen), rest)
                # Of what can be known about a skill: its mean probability of a right answer.
                kinds = np.array(rest.benchmark)
                error = np.mean(
                    [
                        ((found - p[80:])[:, kinds == kind].mean(axis=1) ** 2).mean()
                        for kind in set(rest.benchmark)
                    ]
                )
                errors.setdefault(f"{strategy.name} {budget}", []).append(float(error))
    mean = {name: float(np.mean(found)) for name, found in errors.items()}
    assert mean["adaptive 16"] < 0.65 * mean["random 16"], mean
    assert mean["adaptive 32"] < 0.65 * mean["random 32"], mean
    assert mean["panel 16"] < 0.65 * mean["random 16"], mean
    assert mean["adaptive 16"] < mean["random 32"], mean


def test_the_next_queries_are_worth_less_to_a_model_that_is_known() -> None:
    items = some_items(10)
    values = np.concatenate([some_values(10, 1, 60, n) for n in (0, 5, 20, 60)])
    worth = expected_gain(items, values, 8)
    assert worth[0] > worth[1] > worth[2] > worth[3] == 0
    gains = expected_gains(items, values, 8, sharpness=0.0)
    mean, cov = weights_of(values, items)
    ahead = Lookahead(items, cov, noise_for(items, mean, 0.0))
    chosen = Adaptive(sharpness=0.0, explore=0.0).choose_many(items, values, 8, [0] * 4)
    before = np.trace(cov @ items.moment_kk, axis1=1, axis2=2)
    for column in chosen.T:
        ahead.ask(column)
    after = np.trace(ahead.cov_Bkk @ items.moment_kk, axis1=1, axis2=2)
    np.testing.assert_allclose(gains.sum(axis=1), before - after, atol=1e-12)


def test_a_budget_goes_where_it_is_worth_most() -> None:
    items = some_items(11)
    values = np.concatenate([some_values(11, 1, 60, n) for n in (0, 0, 30, 60, 57)])
    given_to = allocate(items, values, 40, block=4)
    assert given_to.sum() == 40
    assert given_to[0] == given_to[1] > given_to[2]
    assert given_to[3] == 0
    assert allocate(items, values, 10_000, most=16).tolist() == [16, 16, 16, 0, 3]
    assert allocate(items, values, 0).sum() == 0
    assert allocate(items, values, 7, block=4).sum() == 7
    # No other way of giving out blocks is worth more.
    gains = expected_gains(items, values, 40)
    worth = sum(gains[row, :n].sum() for row, n in enumerate(given_to))
    for other in ([40, 0, 0, 0, 0], [8, 8, 24, 0, 0], [20, 12, 8, 0, 0], [12, 12, 16, 0, 0]):
        assert worth >= sum(gains[row, :n].sum() for row, n in enumerate(other)) - 1e-12


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    budget=st.integers(0, 90),
    block=st.integers(1, 9),
    tokens=st.floats(0, 400),
    least=st.sampled_from([0.0, 0.002, 0.02]),
)
def test_an_allocation_keeps_every_limit(
    seed: int, budget: int, block: int, tokens: float, least: float
) -> None:
    items = some_items(seed)
    rng = np.random.default_rng(seed)
    values = np.concatenate([some_values(seed + i, 1, 60, n) for i, n in enumerate((0, 8, 30, 56))])
    allowed = rng.random(values.shape) < 0.7
    most = rng.integers(0, 40, 4)
    need = rng.uniform(0, 10, (4, 1))
    given_to = allocate(
        items, values, budget, allowed, block=block, most=most, least=least,
        purse=Purse(np.array([tokens]), need),
    )  # fmt: skip
    gains = expected_gains(items, values, 40, allowed)
    assert given_to.sum() <= budget
    assert (given_to <= most).all()
    assert (given_to <= (allowed & np.isnan(values)).sum(axis=1)).all()
    assert given_to @ need[:, 0] <= tokens * (1 + 1e-6)
    for row, n in enumerate(given_to.tolist()):
        assert all(gains[row, i : min(i + block, n)].mean() >= least for i in range(0, n, block))
    # What is left over is only what some limit holds back.
    if given_to.sum() < budget:
        room = np.minimum(most, (allowed & np.isnan(values)).sum(axis=1))
        for row in np.flatnonzero(given_to < room).tolist():
            ahead = gains[row, given_to[row] : min(given_to[row] + block, room[row])].mean()
            poor = tokens - given_to @ need[:, 0] < need[row, 0]
            assert ahead < least or poor


def test_prices_floor_and_ties_of_an_allocation() -> None:
    items = some_items(15)
    twins = np.concatenate([some_values(15, 1, 60, 6)] * 3)
    assert allocate(items, twins, 8).tolist() == [8, 0, 0]
    assert allocate(items, twins, 20).tolist() == [8, 8, 4]
    # The same to be learned: the cheap one first, and what costs nothing before it.
    price = np.array([10.0, 1.0, 0.0])
    assert allocate(items, twins, 8, price_B=price).tolist() == [0, 0, 8]
    assert allocate(items, twins, 32, price_B=price, most=16).tolist() == [0, 16, 16]
    # The floor is about a query whatever it costs, so that an end comes for everybody.
    floor = float(expected_gains(items, twins[:1], 24)[0, 16:24].mean())
    ends = allocate(items, twins, 10_000, least=floor, price_B=price, most=60)
    assert ends.tolist() == [24, 24, 24]
    assert not allocate(items, twins, 10, most=0).any()
    with pytest.raises(ValueError, match="none may be negative or unknown"):
        allocate(items, twins, 8, price_B=np.array([1.0, np.nan, 1.0]))


def test_says_what_is_wrong() -> None:
    items = some_items(12)
    values = some_values(12, 2, 60, 3)
    with pytest.raises(ValueError, match="3 models and 60 queries"):
        Random().choose_many(items, values, 4, [1, 2, 3])
    with pytest.raises(ValueError, match="ask for 0 or more"):
        Adaptive().choose_many(items, values, -1, [1, 2])
    with pytest.raises(ValueError, match="mask"):
        Panel().choose_many(items, values, 1, [1, 2], np.ones((2, 59), dtype=bool))
    with pytest.raises(ValueError, match=r"explore must lie within 0\.\.1"):
        Adaptive(explore=1.5)
    with pytest.raises(ValueError, match="must be positive"):
        noise = items.noise_Q.copy()
        noise[7] = 0
        Items(items.mean_Q, items.factors_Qk, noise, items.benchmark, items.moment_kk)
    with pytest.raises(ValueError, match="from one fit"):
        Items(items.mean_Q[:5], items.factors_Qk, items.noise_Q, items.benchmark, items.moment_kk)
    with pytest.raises(ValueError, match="can't be negative"):
        allocate(items, values, -1)


@pytest.fixture(scope="module")
def leaderboard(
    shared_data: Path,
) -> tuple[FactorPlacement, Items, Array, Queries, Array]:
    """Factors of an eighth of the training queries, so that texts are encoded in seconds."""
    folder = shared_data / "oll-v1"
    models = pl.read_parquet(folder / "models.parquet").filter(
        pl.col("pool112") | pl.col("heldout64")
    )
    queries = pl.read_parquet(folder / "queries.parquet").sort("query_id")
    queries = queries.filter((pl.col("split") == "test") | (pl.col("split") == "train"))
    matrix = ScoreMatrix.from_frame(
        pl.read_parquet(folder / "scores.parquet"),
        models["model_id"].to_list(),
        queries["query_id"].to_list(),
    )
    split = queries["split"].to_numpy()
    train, test = np.flatnonzero(split == "train")[::8], np.flatnonzero(split == "test")[::4]
    texts, labels = queries["text"].to_list(), queries["benchmark"].to_list()
    encoder = TextEncoder(DEFAULT_ENCODER)
    bank, unseen = (
        Queries(encoder.encode([texts[i] for i in part]), tuple(labels[i] for i in part))
        for part in (train, test)
    )
    pool = models["pool112"].to_numpy()
    placement = FactorPlacement()
    values = matrix.values_MQ
    nothing = np.full((pool.sum(), len(unseen)), np.nan, dtype=np.float32)
    placement.fit(Bank(bank, values[pool][:, train], unseen, nothing), 0)
    items = items_of(placement, bank.benchmark, int(pool.sum()))
    return placement, items, values[~pool][:, train], unseen, values[~pool][:, test]


@pytest.mark.slow
def test_choosing_beats_random_on_a_real_leaderboard(
    leaderboard: tuple[FactorPlacement, Items, Array, Queries, Array],
) -> None:
    """Unseen models of other organisations, unseen queries, 16 scores per model."""
    placement, items, truth, unseen, answers = leaderboard
    known = ~np.isnan(answers)
    loss: dict[str, float] = {}
    for strategy in (Random(), Panel(), Adaptive()):
        found = []
        for seed in range(3):
            seen = simulate(items, truth, strategy, [16], seed)[16]
            placed = placement.place(seen)
            p = np.clip(placement.predict(placed, unseen)[known], 1e-4, 1 - 1e-4)
            y = answers[known]
            found.append(float(-(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()))
        loss[strategy.name] = float(np.mean(found))
    assert loss["adaptive"] < loss["random"] - 0.001, loss
    assert loss["panel"] < loss["random"] - 0.001, loss
