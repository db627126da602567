"""Every peer keeps the contract of `Method`, and knows what it can know."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from locus.bank import Bank, Method, Queries
from locus.peers.embedllm import EmbedLLM
from locus.peers.irt_net import IRTNet
from locus.peers.knn import KNearest
from locus.peers.published import LocusPublished
from locus.peers.ridge import RidgeOnEncodings
from locus.peers.trivial import BestSingle, GroupMeans, Majority, MajorityPredicted, bce
from locus.peers.uniroute import UniRoute

METHODS: dict[str, Callable[[], Method]] = {
    "best_single": BestSingle,
    "majority": Majority,
    "majority_predicted": MajorityPredicted,
    "knn": KNearest,
    "uniroute": UniRoute,
    "ridge": RidgeOnEncodings,
    "ridge_pooled": lambda: RidgeOnEncodings(pooled=True),
    "embedllm": EmbedLLM,
    "irt_net": IRTNet,
    "published": lambda: LocusPublished(steps=60, device="cpu"),
}
KINDS, WIDTH = 3, 8


def specialists(seed: int, n_models: int, n_queries: int) -> tuple[Queries, Any]:
    """Three kinds of queries, each a benchmark; each model is good at one of them."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, KINDS, n_queries)
    phi = np.eye(WIDTH)[kind] + 0.15 * rng.normal(size=(n_queries, WIDTH))
    phi /= np.linalg.norm(phi, axis=1, keepdims=True)
    home = np.arange(n_models) % KINDS
    p = np.where(home[:, None] == kind[None], 0.9, 0.2)
    values = (rng.random((n_models, n_queries)) < p).astype(np.float32)
    return Queries(phi.astype(np.float32), tuple(f"kind{k}" for k in kind)), values


def part(queries: Queries, values: Any, start: int, stop: int) -> tuple[Queries, Any]:
    cut = slice(start, stop)
    return Queries(queries.phi_Qp[cut], queries.benchmark[cut]), values[:, cut]


class World:
    """18 training models and 6 new ones on the same queries; half of the bank is missing."""

    def __init__(self) -> None:
        queries, values = specialists(0, 24, 300)
        train, train_values = part(queries, values, 0, 160)
        val, val_values = part(queries, values, 160, 220)
        self.targets, target_values = part(queries, values, 220, 300)
        rng = np.random.default_rng(1)
        holes = rng.random(train_values.shape) < 0.5
        train_values = np.where(holes, np.nan, train_values).astype(np.float32)
        # A graded score here and there.
        graded = ~np.isnan(train_values) & (rng.random(train_values.shape) < 0.05)
        train_values[graded] = 0.75 * train_values[graded] + 0.125
        self.bank = Bank(train, train_values[:18], val, val_values[:18])
        self.new, self.answers = train_values[18:], target_values[18:]


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module", params=METHODS)
def fitted(request: pytest.FixtureRequest, world: World) -> tuple[str, Method]:
    method = METHODS[request.param]()
    method.fit(world.bank, 0)
    return request.param, method


def predict(method: Method, values: Any, targets: Queries) -> Any:
    return method.predict(method.place(values), targets)


def test_probabilities_for_every_model_and_query(fitted: tuple[str, Method], world: World) -> None:
    p = predict(fitted[1], world.new, world.targets)
    assert p.shape == world.answers.shape
    assert p.dtype == np.float32
    assert np.isfinite(p).all()
    assert p.min() >= 0
    assert p.max() <= 1
    assert np.ptp(p) > 0


def test_new_models_beat_a_constant_on_new_queries(
    fitted: tuple[str, Method], world: World
) -> None:
    constant = np.full_like(world.answers, world.answers.mean())
    gain = bce(constant, world.answers) - bce(
        predict(fitted[1], world.new, world.targets), world.answers
    )
    if fitted[0] == "best_single":
        # All models are as good as one another overall: it can't gain, and must not lose much.
        assert abs(gain) < 0.02
    else:
        # A constant costs 0.69 nats, perfect knowledge 0.44.
        assert gain > (0.05 if fitted[0] == "published" else 0.12)


def test_a_model_alone_is_placed_as_in_a_batch(fitted: tuple[str, Method], world: World) -> None:
    together = predict(fitted[1], world.new, world.targets)
    for i in range(len(world.new)):
        alone = predict(fitted[1], world.new[i : i + 1], world.targets)
        np.testing.assert_allclose(alone[0], together[i], atol=1e-4)


def test_order_of_models_and_of_targets_does_not_matter(
    fitted: tuple[str, Method], world: World
) -> None:
    method = fitted[1]
    p = predict(method, world.new, world.targets)
    rows = np.array([3, 0, 5, 1, 4, 2])
    np.testing.assert_allclose(predict(method, world.new[rows], world.targets), p[rows], atol=1e-4)
    turned = Queries(world.targets.phi_Qp[::-1].copy(), world.targets.benchmark[::-1])
    np.testing.assert_allclose(predict(method, world.new, turned), p[:, ::-1], atol=1e-4)


def test_placing_changes_nothing_for_later_models(fitted: tuple[str, Method], world: World) -> None:
    method = fitted[1]
    before = predict(method, world.new, world.targets)
    method.place(1 - np.nan_to_num(world.new))
    np.testing.assert_array_equal(predict(method, world.new, world.targets), before)


def test_a_model_without_scores_gets_the_prior(fitted: tuple[str, Method], world: World) -> None:
    values = world.new.copy()
    values[2] = np.nan
    p = predict(fitted[1], values, world.targets)
    assert np.isfinite(p).all()
    # The average training model has 0.43; the prior is neither certain nor far from it.
    assert 0.25 < p[2].mean() < 0.65
    np.testing.assert_allclose(
        p[[0, 1]], predict(fitted[1], world.new[:2], world.targets), atol=1e-4
    )


def test_right_answers_raise_and_wrong_ones_lower(fitted: tuple[str, Method], world: World) -> None:
    right, wrong = world.new[:1].copy(), world.new[:1].copy()
    kind = np.array(world.bank.queries.benchmark) == "kind1"
    right[:, kind], wrong[:, kind] = 1, 0
    there = np.array(world.targets.benchmark) == "kind1"
    p_right, p_wrong = (predict(fitted[1], v, world.targets)[0, there] for v in (right, wrong))
    # Training models are all alike overall, so that an overall mean hardly moves.
    assert p_right.mean() > p_wrong.mean() + (0 if fitted[0] == "best_single" else 0.1)


@pytest.mark.parametrize("name", METHODS)
def test_a_seed_decides_everything(name: str, world: World) -> None:
    p = []
    for _ in range(2):
        method = METHODS[name]() if name != "published" else LocusPublished(3, device="cpu")
        method.fit(world.bank, 7)
        p.append(predict(method, world.new, world.targets))
    np.testing.assert_array_equal(p[0], p[1])


def test_only_what_says_so_reads_the_benchmark_of_targets(
    fitted: tuple[str, Method], world: World
) -> None:
    method = fitted[1]
    hidden = Queries(world.targets.phi_Qp, ("unknown",) * len(world.targets))
    p = predict(method, world.new, world.targets)
    same = np.array_equal(predict(method, world.new, hidden), p)
    assert same is not method.needs_benchmark
    blank = Queries(np.zeros_like(world.targets.phi_Qp), world.targets.benchmark)
    reads_text = fitted[0] not in ("best_single", "majority")
    assert np.array_equal(predict(method, world.new, blank), p) is not reads_text


def test_means_are_trusted_by_what_the_bank_shows() -> None:
    rng = np.random.default_rng(0)
    member = np.ones((200, 1), np.float32)
    alike = (rng.random((50, 200)) < 0.5).astype(np.float32)
    ability = rng.choice([0.1, 0.9], size=(50, 1))
    unlike = (rng.random((50, 200)) < ability).astype(np.float32)
    strength_alike = GroupMeans.fit(alike, member).strength_model
    strength_unlike = GroupMeans.fit(unlike, member).strength_model
    # Beta-binomial by moments: within 0.09 over between 0.16 is less than one score.
    assert strength_unlike < 2
    assert strength_alike > 100
    place = GroupMeans(member, np.array([0.5], np.float32), 4.0, 1000.0).place
    four_right = np.full((1, 200), np.nan, np.float32)
    four_right[0, :4] = 1
    # Half way from 0.5 to 1 for the model, and next to nothing more for the group.
    assert place(four_right)[0, 0] == pytest.approx(0.75, abs=0.01)


def test_what_makes_no_sense_is_refused(world: World) -> None:
    with pytest.raises(ValueError, match="no scores"):
        nothing = np.full_like(world.bank.values_MQ, np.nan)
        BestSingle().fit(replace(world.bank, values_MQ=nothing), 0)
    blind = replace(world.bank, val_values_MV=np.full_like(world.bank.val_values_MV, np.nan))
    for name in ("knn", "uniroute", "ridge", "embedllm", "irt_net", "published"):
        with pytest.raises(ValueError, match=r"to compare with|validation"):
            METHODS[name]().fit(blind, 0)
    for make in (
        lambda: KNearest(0),
        lambda: UniRoute(()),
        lambda: LocusPublished(0),
        lambda: EmbedLLM(steps=0),
    ):
        with pytest.raises(ValueError, match="1"):
            make()
