"""The mathematics of encoder and predictor: order, padding, batching, the published sizes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.bench.plain import embed_one_by_one
from locus.embedding.config import ArchitectureConfig
from locus.embedding.network import Locus, ScoreSets
from locus.embedding.placement import embed
from locus.embedding.sets import pick, shuffled_queries, whole_sets

SMALL = ArchitectureConfig(d_query=12, d_model=16, n_latents=8, d_feedforward=24, d_hidden=8)


@pytest.fixture(scope="module")
def network() -> Locus:
    torch.manual_seed(3)
    return Locus(SMALL).eval()


def one_set(index: list[int], score: list[float]) -> ScoreSets:
    return ScoreSets(
        torch.tensor([index]),
        torch.tensor([score], dtype=torch.float32),
        torch.ones(1, len(index), dtype=torch.bool),
    )


def test_published_sizes() -> None:
    network = Locus(ArchitectureConfig(d_query=768))
    encoder = sum(p.numel() for p in network.encoder.parameters())
    predictor = sum(p.numel() for p in network.predictor.parameters())
    # arXiv 2601.21082: 0.89 M and 0.12 M parameters with 768-d encodings.
    assert round(encoder / 1e6, 2) == 0.89
    assert round(predictor / 1e6, 2) == 0.12


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 20), seed=st.integers(0, 999))
def test_order_of_the_set_does_not_matter(network: Locus, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    phi = torch.from_numpy(rng.normal(size=(20, 12)).astype(np.float32))
    index, score = rng.permutation(20)[:n], rng.random(n)
    other = rng.permutation(n)
    with torch.no_grad():
        z = network.encoder(phi, one_set(index.tolist(), score.tolist()))
        z_permuted = network.encoder(phi, one_set(index[other].tolist(), score[other].tolist()))
    torch.testing.assert_close(z, z_permuted, atol=1e-5, rtol=1e-4)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), density=st.floats(0.1, 1.0))
def test_batch_and_padding_equal_one_by_one(network: Locus, seed: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    phi = rng.normal(size=(15, 12)).astype(np.float32)
    values = rng.random((6, 15)).astype(np.float32)
    values[rng.random((6, 15)) > density] = np.nan
    values[:, 0] = 1.0
    together = embed(network, phi, values)
    alone = np.concatenate([embed(network, phi, values[i : i + 1]) for i in range(6)])
    np.testing.assert_allclose(together, alone, atol=1e-5, rtol=1e-4)


def test_scores_and_queries_both_move_the_embedding(network: Locus) -> None:
    phi = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        z = network.encoder(phi, one_set([0, 1, 2], [1, 0, 1]))
        assert not torch.allclose(z, network.encoder(phi, one_set([0, 1, 2], [0, 1, 1])))
        assert not torch.allclose(z, network.encoder(phi, one_set([0, 1, 3], [1, 0, 1])))


@pytest.mark.parametrize("graded", [False, True])
def test_placing_is_the_published_forward_pass(network: Locus, graded: bool) -> None:
    rng = np.random.default_rng(5)
    phi = rng.normal(size=(40, 12)).astype(np.float32)
    values = rng.random((9, 40)) if graded else rng.integers(0, 2, (9, 40))
    # Sets of all sizes, and queries that nobody was asked.
    values = np.where(rng.random((9, 40)) < np.linspace(0.1, 0.9, 9)[:, None], values, np.nan)
    values[:, 0], values[:, 7:12] = 1, np.nan
    values = values.astype(np.float32)
    expected = embed_one_by_one(network, phi, values)
    np.testing.assert_allclose(embed(network, phi, values), expected, atol=1e-5, rtol=1e-4)


def test_factored_predictor_is_the_published_one(network: Locus) -> None:
    predictor = network.predictor
    z, phi = torch.randn(4, 16), torch.randn(9, 12)
    with torch.no_grad():
        u = predictor.query(phi)
        pair = torch.cat(
            [
                z[:, None].expand(4, 9, 16),
                u[None].expand(4, 9, 16),
                z[:, None] * u[None],
            ],
            dim=-1,
        )
        expected = predictor.out(torch.relu(predictor.hidden(pair))).squeeze(-1)
        whole = predictor(z, phi)
        picked = predictor(z, phi, torch.tensor([[8, 0]] * 4))
    torch.testing.assert_close(whole, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(picked, expected[:, [8, 0]], atol=1e-5, rtol=1e-4)


def test_a_model_without_scores_is_refused(network: Locus) -> None:
    values = np.full((2, 3), np.nan, dtype=np.float32)
    values[0, 0] = 1
    with pytest.raises(ValueError, match=r"rows \[1\]"):
        embed(network, np.zeros((3, 12), np.float32), values)
    with pytest.raises(ValueError, match="no scores"):
        ScoreSets(torch.zeros(1, 2).long(), torch.zeros(1, 2), torch.zeros(1, 2).bool())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999))
def test_drawn_sets_never_overlap_nor_invent_scores(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(5, 12, generator=generator)
    values[torch.rand(5, 12, generator=generator) < 0.4] = torch.nan
    values[:, :4] = 0.5
    order = shuffled_queries(~torch.isnan(values), generator)
    known = (~torch.isnan(values)).sum(1)
    size = torch.clamp(known // 2, min=1)
    context = pick(values, order, torch.zeros_like(size), size)
    target = pick(values, order, size, known)
    for row in range(5):
        mine = set(context.index_BN[row][context.mask_BN[row]].tolist())
        theirs = set(target.index_BN[row][target.mask_BN[row]].tolist())
        assert not mine & theirs
        assert mine | theirs == set(torch.nonzero(~torch.isnan(values[row])).flatten().tolist())
    assert not torch.isnan(context.score_BN).any()
    assert not torch.isnan(target.score_BN).any()


def test_whole_sets_keep_every_score() -> None:
    values = np.array([[1, np.nan, 0], [np.nan, 0.5, np.nan]], dtype=np.float32)
    sets = whole_sets(values, [1, 0])
    assert sets.mask_BN.sum(1).tolist() == [1, 2]
    assert sets.score_BN[0, 0] == 0.5
    assert sets.index_BN[1].tolist() == [0, 2]
