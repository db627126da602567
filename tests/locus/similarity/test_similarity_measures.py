"""The mathematics of similarity: properties that must hold for any pool, and plain counts."""

from itertools import combinations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from polars.testing import assert_frame_equal

from locus.similarity import (
    PAIR_SCHEMA,
    SimilarityInputError,
    clusters,
    dendrogram_order,
    distance_agreement_correlation,
    distance_matrix,
    group_tree,
    nearest,
    pairs,
    project,
    wilson,
)

FLOATS = st.floats(-4, 4, allow_nan=False, width=32)


@st.composite
def pools(draw):
    """A pool of 2 to 7 models with embeddings [B, 3] and a score matrix with holes."""
    B, N = draw(st.integers(2, 7)), draw(st.integers(1, 9))
    z = draw(hnp.arrays(np.float64, (B, 3), elements=FLOATS))
    cells = st.sampled_from([None, 0.0, 0.3, 0.5, 1.0])
    matrix = draw(st.lists(st.lists(cells, min_size=N, max_size=N), min_size=B, max_size=B))
    return [f"org/m{i}" for i in range(B)], z, matrix


def long_scores(ids, matrix):
    rows = [
        (model, f"q{j}", score)
        for model, line in zip(ids, matrix, strict=True)
        for j, score in enumerate(line)
    ]
    return pl.DataFrame(
        rows,
        schema={"model_id": pl.String, "query_id": pl.String, "score": pl.Float64},
        orient="row",
    )


@given(pools())
@settings(max_examples=60, deadline=None)
def test_pairs_equal_counting_by_hand(pool):
    ids, z, matrix = pool
    frame = pairs(ids, z, long_scores(ids, matrix))
    assert dict(frame.schema) == PAIR_SCHEMA
    assert frame.select("model_a", "model_b").rows() == list(combinations(ids, 2))
    for row in frame.iter_rows(named=True):
        a, b = ids.index(row["model_a"]), ids.index(row["model_b"])
        both = [
            (x, y)
            for x, y in zip(matrix[a], matrix[b], strict=True)
            if x is not None and y is not None
        ]
        assert row["n_common"] == len(both)
        assert row["euclidean_distance"] == pytest.approx(np.linalg.norm(z[a] - z[b]), abs=1e-9)
        norms = np.linalg.norm(z[a]), np.linalg.norm(z[b])
        if min(norms) > 1e-3:
            cosine = 1 - z[a] @ z[b] / norms[0] / norms[1]
            assert row["cosine_distance"] == pytest.approx(cosine, abs=1e-6)
        elif min(norms) == 0:
            assert row["cosine_distance"] is None
        if not both:
            assert row["observed_agreement"] is None
            assert row["agreement_low"] is None
            assert row["agreement_high"] is None
        else:
            agreed = sum((x >= 0.5) == (y >= 0.5) for x, y in both) / len(both)
            assert row["observed_agreement"] == pytest.approx(agreed)
            assert 0 <= row["agreement_low"] <= agreed <= row["agreement_high"] <= 1


@given(pools(), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_order_of_models_and_scores_does_not_matter(pool, random):
    ids, z, matrix = pool
    order = list(range(len(ids)))
    random.shuffle(order)
    scores = long_scores(ids, matrix)
    shuffled = scores.sample(fraction=1, shuffle=True, seed=random.randrange(1000))
    assert_frame_equal(pairs(ids, z, scores), pairs([ids[i] for i in order], z[order], shuffled))


@given(pools())
@settings(max_examples=40, deadline=None)
def test_equal_vectors_are_at_distance_zero(pool):
    ids, z, matrix = pool
    z[1] = z[0]
    row = pairs(ids, z, long_scores(ids, matrix)).row(0, named=True)
    assert row["euclidean_distance"] == 0
    assert row["cosine_distance"] in ((None,) if not z[0].any() else (0.0,))


@given(pools(), st.integers(1, 7))
@settings(max_examples=40, deadline=None)
def test_top_k_keeps_every_models_nearest(pool, k):
    ids, z, matrix = pool
    scores = long_scores(ids, matrix)
    every, few = pairs(ids, z, scores), pairs(ids, z, scores, top_k=k)
    assert_frame_equal(nearest(few, k), nearest(every, k))
    kept = every.join(few, on=["model_a", "model_b"], how="semi")
    assert_frame_equal(kept, few)
    assert few.height <= len(ids) * min(k, len(ids) - 1)


def test_blocks_of_rows_join_without_a_seam():
    rng = np.random.default_rng(0)
    B = 1100  # more than two blocks
    ids, z = [f"m{i:04d}" for i in range(B)], rng.normal(size=(B, 4))
    scores = pl.DataFrame(
        {"model_id": ids, "query_id": ["q"] * B, "score": rng.integers(0, 2, B).astype(float)}
    )
    frame = pairs(ids, z, scores)
    assert frame.height == B * (B - 1) // 2
    matrix = distance_matrix(frame, ids)
    np.testing.assert_allclose(matrix, np.linalg.norm(z[:, None] - z[None], axis=2), atol=1e-9)
    agreement = distance_matrix(frame, ids, "observed_agreement")
    right = scores["score"].to_numpy()
    expected = (right[:, None] == right[None]).astype(float)
    np.fill_diagonal(expected, 0)
    np.testing.assert_array_equal(agreement, expected)


def test_nearest_names_neighbours_in_order_with_ties_by_id():
    frame = pairs(["c", "b", "a"], [[0.0], [1.0], [-1.0]], long_scores(["a"], [[1.0]]))
    found = nearest(frame, 2).select("model_id", "rank", "neighbour_id").rows()
    assert found == [
        ("a", 1, "c"),
        ("a", 2, "b"),
        ("b", 1, "c"),
        ("b", 2, "a"),
        ("c", 1, "a"),
        ("c", 2, "b"),
    ]


@given(st.integers(0, 5000), st.integers(0, 5000), st.floats(0.1, 4))
def test_wilson_contains_the_rate_and_stays_in_bounds(one, other, z):
    hits, n = min(one, other), max(one, other)
    low, high = (bound[0] for bound in wilson([hits], [n], z))
    if n == 0:
        assert low is None
        assert high is None
    else:
        assert 0 <= low <= hits / n <= high <= 1


@given(st.integers(1, 400), st.data())
def test_wilson_solves_its_own_equation(n, data):
    """At each bound p, the observed rate lies exactly z standard errors of p away."""
    hits = data.draw(st.integers(0, n))
    for bound in wilson(hits, n):
        p = bound[0]
        assert (hits / n - p) ** 2 == pytest.approx(1.96**2 * p * (1 - p) / n, abs=1e-9)


@given(st.integers(2, 12), st.integers(1, 14), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_dendrogram_orders_every_model_once_and_cuts_into_k(B, k, seed):
    z = np.random.default_rng(seed).normal(size=(B, 3))
    distances = np.linalg.norm(z[:, None] - z[None], axis=2)
    for tree in (dendrogram_order(distances), group_tree(z)):
        cut_in_runs(tree, B, k)


def cut_in_runs(tree, B, k):
    assert sorted(tree.order.tolist()) == list(range(B))
    labels = clusters(tree.linkage, k)
    sizes = np.bincount(labels)
    assert len(sizes) == min(k, B)
    assert sizes.min() > 0
    assert (np.diff(sizes) <= 0).all()
    # A cluster is a run of leaves: nothing foreign stands between its members.
    runs = 1 + np.count_nonzero(np.diff(labels[tree.order]))
    assert runs == min(k, B)


@given(st.integers(4, 9), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_clusters_do_not_depend_on_the_order_of_models(B, seed):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(B, 3))
    distances = np.linalg.norm(z[:, None] - z[None], axis=2)
    order = rng.permutation(B)
    one = clusters(dendrogram_order(distances).linkage, 3)[order]
    other = clusters(dendrogram_order(distances[np.ix_(order, order)]).linkage, 3)
    np.testing.assert_array_equal(one[:, None] == one, other[:, None] == other)


@pytest.mark.parametrize("B", [0, 1])
def test_a_pool_without_pairs_is_no_error(B):
    ids = [f"m{i}" for i in range(B)]
    frame = pairs(ids, np.zeros((B, 3)), long_scores(ids, [[1.0]] * B))
    assert frame.is_empty()
    assert dict(frame.schema) == PAIR_SCHEMA
    assert nearest(frame, 3).is_empty()
    assert dendrogram_order(distance_matrix(frame, ids)).order.tolist() == list(range(B))
    assert distance_agreement_correlation(frame).n == 0


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 8), st.integers(1, 5)), elements=FLOATS),
    st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_projection_never_stretches_and_follows_a_permutation(z, random):
    flat = project(z)
    assert flat.shape == (len(z), 2)
    full = np.linalg.norm(z[:, None] - z[None], axis=2)
    seen = np.linalg.norm(flat[:, None] - flat[None], axis=2)
    assert (seen <= full + 1e-6).all()
    order = list(range(len(z)))
    random.shuffle(order)
    again = project(z[order])
    np.testing.assert_allclose(
        np.linalg.norm(again[:, None] - again[None], axis=2), seen[np.ix_(order, order)], atol=1e-3
    )


def test_projection_keeps_its_sign_when_rows_move_or_the_pool_is_mirrored():
    rng = np.random.default_rng(3)
    z = rng.normal(size=(20, 6)) * [5, 2, 1, 0.5, 0.2, 0.1]
    order = rng.permutation(20)
    np.testing.assert_allclose(project(z[order]), project(z)[order], atol=1e-9)
    np.testing.assert_allclose(project(-z), -project(z), atol=1e-9)


def test_correlation_finds_distance_that_tracks_disagreement():
    frame = pl.DataFrame(
        {
            "cosine_distance": [0.1, 0.2, 0.3, 0.4, None],
            "euclidean_distance": [1.0, 2.0, 3.0, 40.0, 5.0],
            "observed_agreement": [0.9, 0.8, 0.7, 0.6, 0.1],
        }
    )
    found = distance_agreement_correlation(frame)
    assert found.n == 4
    assert found.pearson_cosine == pytest.approx(1)
    assert found.spearman_euclidean == pytest.approx(1)
    assert found.pearson_euclidean is not None
    assert found.pearson_euclidean < 0.9
    constant = frame.with_columns(pl.lit(0.5).alias("observed_agreement"))
    assert distance_agreement_correlation(constant).pearson_cosine is None


@pytest.mark.parametrize(
    ("ids", "z", "rows", "words"),
    [
        (["a", "a"], np.ones((2, 2)), [], "'a' has two embeddings"),
        (["a", "b"], np.ones((3, 2)), [], "one row a model"),
        (["a", "b"], [[1.0], [np.nan]], [], "'b' is not finite"),
        (["a", "b"], np.ones((2, 2)), [("a", "q", 1.5)], r"1.5 of 'a' on 'q'"),
        (["a", "b"], np.ones((2, 2)), [("a", "q", float("nan"))], "use NULL"),
        (["a", "b"], np.ones((2, 2)), [("a", "q", 1.0), ("a", "q", 0.0)], "two scores for query"),
    ],
)
def test_bad_input_is_named(ids, z, rows, words):
    schema = {"model_id": pl.String, "query_id": pl.String, "score": pl.Float64}
    with pytest.raises(SimilarityInputError, match=words):
        pairs(ids, z, pl.DataFrame(rows, schema=schema, orient="row"))


def test_other_wrong_requests_are_named():
    with pytest.raises(SimilarityInputError, match="'isomap' is unknown"):
        project(np.ones((2, 2)), method="isomap")
    with pytest.raises(SimilarityInputError, match="0 <= successes <= n"):
        wilson([3], [2])
    with pytest.raises(SimilarityInputError, match="finite numbers"):
        dendrogram_order([[0, np.nan], [np.nan, 0]])
    with pytest.raises(SimilarityInputError, match="finite"):
        group_tree([[0.0], [np.nan]])
    with pytest.raises(SimilarityInputError, match="symmetric"):
        dendrogram_order([[0.0, 1.0], [2.0, 0.0]])


def test_real_scores_distance_tracks_disagreement(shared_data):
    """Models placed by one half of the queries agree on the other half the more, the nearer."""
    raw = pl.read_parquet(shared_data / "oll-v1" / "scores.parquet")
    ids = raw["model_id"].unique().sort().head(200).to_list()
    queries = raw["query_id"].unique().sort()
    scores = raw.filter(pl.col("model_id").is_in(ids))
    seen = pl.col("query_id").is_in(queries.gather_every(2).implode())
    wide = scores.filter(seen).pivot("query_id", index="model_id", values="score").sort("model_id")
    matrix = wide.drop("model_id").to_numpy().astype(float)
    matrix = np.where(np.isnan(matrix), np.nanmean(matrix, axis=0), matrix)
    left, singular, _ = np.linalg.svd(matrix - matrix.mean(axis=0), full_matrices=False)
    frame = pairs(wide["model_id"].to_list(), left[:, :16] * singular[:16], scores.filter(~seen))
    found = distance_agreement_correlation(frame)
    assert found.n == 200 * 199 // 2
    assert found.spearman_euclidean is not None
    assert found.spearman_euclidean > 0.6
