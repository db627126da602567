"""Pairs of models: distance, observed agreement, neighbours, and how the first two match."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from locus.similarity._base import Floats, Ints, SimilarityInputError, null_where, wilson

PAIR_SCHEMA: dict[str, pl.DataType] = {
    "model_a": pl.String(),
    "model_b": pl.String(),
    "cosine_distance": pl.Float64(),
    "euclidean_distance": pl.Float64(),
    "observed_agreement": pl.Float64(),
    "n_common": pl.Int64(),
    "agreement_low": pl.Float64(),
    "agreement_high": pl.Float64(),
}

# Rows of the B x B matrices that are held at once: 512 x 20,000 doubles are 80 MB.
_BLOCK = 512


@dataclass(frozen=True)
class DistanceAgreement:
    """How well distance tracks disagreement over ``n`` pairs that have both.

    A coefficient is None below three pairs, or where one side doesn't vary.
    """

    n: int
    pearson_cosine: float | None
    spearman_cosine: float | None
    pearson_euclidean: float | None
    spearman_euclidean: float | None


def pairs(
    model_ids: Sequence[str],
    embeddings: ArrayLike,
    scores: pl.DataFrame,
    *,
    top_k: int | None = None,
    z: float = 1.96,
) -> pl.DataFrame:
    """Distance and observed agreement of every pair of models.

    Two models agree on a query when both are right or both are wrong; a score of 0.5 or more
    counts as right, which is what SQL's ``round`` does. Only queries that both answered count.

    Args:
        model_ids: B distinct ids, in the order of the rows of ``embeddings``.
        embeddings: [B, d], finite.
        scores: ``model_id``, ``query_id``, ``score`` in [0, 1]; a NULL score is no answer. Rows of
            models without an embedding are left out.
        top_k: keep a pair only if one of the two is among the other's ``top_k`` nearest
            (Euclidean; ties go to the id that sorts first). None keeps all B (B - 1) / 2.
        z: normal quantile of the interval.

    Returns:
        `PAIR_SCHEMA`, sorted by ``model_a`` and ``model_b``, with ``model_a < model_b``.
        ``observed_agreement`` and its bounds are NULL where ``n_common`` is 0,
        ``cosine_distance`` where an embedding is the zero vector.

    Raises:
        SimilarityInputError: ids repeat, shapes differ, a number is not finite, a score lies
            outside [0, 1], or a model has two scores for one query.
    """
    ids, z_Bd = _sorted_embeddings(model_ids, embeddings)
    if top_k is not None and top_k < 1:
        raise SimilarityInputError(f"top_k is {top_k}; pass 1 or more, or None for every pair")
    right_BN, answered_BN = _score_matrices(ids, scores)
    blocks = list(_pair_blocks(z_Bd, right_BN, answered_BN, top_k))
    if not blocks:
        return pl.DataFrame(schema=PAIR_SCHEMA)
    a_P, b_P, cosine_P, euclidean_P, agreed_P, common_P = (
        np.concatenate(column) for column in zip(*blocks, strict=True)
    )
    low, high = wilson(agreed_P, common_P, z)
    names = pl.Series(ids, dtype=pl.String)
    frame = pl.DataFrame(
        {
            "model_a": names.gather(a_P),
            "model_b": names.gather(b_P),
            "cosine_distance": pl.Series(cosine_P).fill_nan(None),
            "euclidean_distance": euclidean_P,
            "observed_agreement": null_where(
                common_P == 0, agreed_P / np.maximum(common_P, 1), "observed_agreement"
            ),
            "n_common": common_P.astype(np.int64),
            "agreement_low": low,
            "agreement_high": high,
        },
        schema=PAIR_SCHEMA,
    )
    if top_k is None:
        return frame
    # A pair that is near from both sides came twice.
    return frame.unique(["model_a", "model_b"]).sort("model_a", "model_b")


def _sorted_embeddings(model_ids: Sequence[str], embeddings: ArrayLike) -> tuple[list[str], Floats]:
    """Check the embeddings and sort them by id, so that no result hangs on the order given."""
    z_Bd = np.asarray(embeddings, dtype=np.float64)
    if len(model_ids) == 0:
        return [], z_Bd.reshape(0, 1)
    if z_Bd.ndim != 2 or len(z_Bd) != len(model_ids):
        raise SimilarityInputError(
            f"{len(model_ids)} model ids but embeddings of shape {z_Bd.shape}; pass one row a model"
        )
    order = sorted(range(len(model_ids)), key=lambda i: model_ids[i])
    ids = [model_ids[i] for i in order]
    for one, other in pairwise(ids):
        if one == other:
            raise SimilarityInputError(
                f"model {one!r} has two embeddings; pass the latest one only"
            )
    z_Bd = z_Bd[order]
    broken = ~np.isfinite(z_Bd).all(axis=1)
    if broken.any():
        name = ids[int(np.flatnonzero(broken)[0])]
        raise SimilarityInputError(f"the embedding of {name!r} is not finite; embed it again")
    return ids, z_Bd


def _score_matrices(
    ids: list[str], scores: pl.DataFrame
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """0/1 matrices [B, N]: answered right, answered at all. float32 counts exactly to 2**24."""
    missing = {"model_id", "query_id", "score"} - set(scores.columns)
    if missing:
        raise SimilarityInputError(f"scores lack the column(s) {sorted(missing)}; add them")
    rows = pl.DataFrame({"model_id": ids}, schema={"model_id": pl.String}).with_row_index("row")
    given = (
        scores.select(
            pl.col("model_id").cast(pl.String),
            pl.col("query_id").cast(pl.String),
            pl.col("score").cast(pl.Float64),
        )
        .drop_nulls()
        .join(rows, on="model_id")
    )
    bad = given.filter(~pl.col("score").is_between(0, 1) | pl.col("score").is_nan())
    if bad.height:
        model, query, score = bad.select("model_id", "query_id", "score").row(0)
        raise SimilarityInputError(
            f"score {score} of {model!r} on {query!r} is not in [0, 1]; use NULL for no answer"
        )
    row_P = given["row"].to_numpy().astype(np.int64)
    query = given["query_id"].rank("dense").cast(pl.Int64) - 1
    column_P, width = query.to_numpy(), given["query_id"].n_unique()
    if len(np.unique(row_P * max(width, 1) + column_P)) != given.height:
        twice = given.filter(given.select("model_id", "query_id").is_duplicated())
        raise SimilarityInputError(
            f"model {twice['model_id'][0]!r} has two scores for query {twice['query_id'][0]!r}; "
            "pass the latest one only"
        )
    right_BN = np.zeros((len(ids), width), dtype=np.float32)
    answered_BN = np.zeros_like(right_BN)
    answered_BN[row_P, column_P] = 1
    right_BN[row_P, column_P] = given["score"].to_numpy() >= 0.5
    return right_BN, answered_BN


def _pair_blocks(
    z_Bd: Floats,
    right_BN: NDArray[np.float32],
    answered_BN: NDArray[np.float32],
    top_k: int | None,
) -> Iterator[tuple[Ints, Ints, Floats, Floats, Floats, Floats]]:
    """Blocks of (a, b, cosine, Euclidean, agreed, common), each [p], with a < b."""
    from scipy.spatial.distance import cdist

    B = len(z_Bd)
    norm_B1 = np.linalg.norm(z_Bd, axis=1, keepdims=True)
    unit_Bd = np.divide(z_Bd, norm_B1, out=np.full_like(z_Bd, np.nan), where=norm_B1 > 0)
    wrong_BN = answered_BN - right_BN
    for start in range(0, B, _BLOCK):
        rows = slice(start, min(start + _BLOCK, B))
        # Only with top_k does a row have to see the models before it.
        first = 0 if top_k is not None else start
        euclidean_bB = cdist(z_Bd[rows], z_Bd[first:])
        if top_k is None:
            a_P, b_P = np.triu_indices(rows.stop - start, k=1, m=B - first)
        else:
            own_b = np.arange(rows.stop - start)
            ranked_bB = euclidean_bB.copy()
            ranked_bB[own_b, own_b + start] = np.inf
            k = min(top_k, B - 1)
            near_bk = np.argsort(ranked_bB, axis=1, kind="stable")[:, :k]
            a_P, b_P = np.repeat(own_b, k), near_bk.ravel()
        agreed_bB = right_BN[rows] @ right_BN[first:].T + wrong_BN[rows] @ wrong_BN[first:].T
        common_bB = answered_BN[rows] @ answered_BN[first:].T
        # |u - v|^2 / 2 of unit vectors is 1 - cos, and exactly 0 for equal ones.
        cosine_bB = cdist(unit_Bd[rows], unit_Bd[first:], "sqeuclidean") / 2
        one_P, other_P = a_P + start, b_P + first
        yield (
            np.minimum(one_P, other_P),
            np.maximum(one_P, other_P),
            np.clip(cosine_bB[a_P, b_P], 0, 2),
            euclidean_bB[a_P, b_P],
            agreed_bB[a_P, b_P].astype(np.float64),
            common_bB[a_P, b_P].astype(np.float64),
        )


def nearest(pairs: pl.DataFrame, k: int) -> pl.DataFrame:
    """Every model's ``k`` nearest by Euclidean distance, which tracks disagreement best (paper).

    Args:
        pairs: `PAIR_SCHEMA`; if made with ``top_k``, ask for no more than that many.
        k: neighbours per model, 1 or more.

    Returns:
        ``model_id``, ``rank`` (from 1), ``neighbour_id`` and the measures of `PAIR_SCHEMA`, sorted
        by model and rank. Ties go to the id that sorts first.
    """
    if k < 1:
        raise SimilarityInputError(f"k is {k}; ask for at least one neighbour")
    measures = [pl.col(name) for name in list(PAIR_SCHEMA)[2:]]
    one = pairs.select(
        pl.col("model_a").alias("model_id"), pl.col("model_b").alias("neighbour_id"), *measures
    )
    other = pairs.select(
        pl.col("model_b").alias("model_id"), pl.col("model_a").alias("neighbour_id"), *measures
    )
    return (
        pl.concat([one, other])
        .sort("model_id", "euclidean_distance", "neighbour_id")
        .with_columns(pl.int_range(1, pl.len() + 1).over("model_id").cast(pl.Int64).alias("rank"))
        .filter(pl.col("rank") <= k)
        .select("model_id", "rank", "neighbour_id", *measures)
    )


def distance_matrix(
    pairs: pl.DataFrame, model_ids: Sequence[str], column: str = "euclidean_distance"
) -> Floats:
    """One measure of ``pairs`` as a symmetric matrix [B, B] in the order of ``model_ids``.

    The diagonal is 0 and a pair that is not in the frame, or NULL there, is NaN.
    """
    index = pl.DataFrame({"id": list(model_ids)}, schema={"id": pl.String}).with_row_index("at")
    rows = (
        pairs.select("model_a", "model_b", column)
        .join(index.rename({"id": "model_a", "at": "a"}), on="model_a")
        .join(index.rename({"id": "model_b", "at": "b"}), on="model_b")
    )
    matrix_BB = np.full((len(model_ids), len(model_ids)), np.nan)
    np.fill_diagonal(matrix_BB, 0)
    a_P, b_P = rows["a"].to_numpy(), rows["b"].to_numpy()
    values_P = rows[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    matrix_BB[a_P, b_P] = values_P
    matrix_BB[b_P, a_P] = values_P
    return matrix_BB


def distance_agreement_correlation(pairs: pl.DataFrame) -> DistanceAgreement:
    """Correlation of distance with disagreement (1 - agreement), as the paper reports it.

    Args:
        pairs: `PAIR_SCHEMA`; pairs without an agreement or a distance are left out.
    """
    both = pairs.select("cosine_distance", "euclidean_distance", "observed_agreement").drop_nulls()
    apart_P = 1 - both["observed_agreement"].to_numpy()
    cosine_P, euclidean_P = (
        both["cosine_distance"].to_numpy(),
        both["euclidean_distance"].to_numpy(),
    )
    return DistanceAgreement(
        n=both.height,
        pearson_cosine=_correlation(cosine_P, apart_P),
        spearman_cosine=_correlation(_ranks(cosine_P), _ranks(apart_P)),
        pearson_euclidean=_correlation(euclidean_P, apart_P),
        spearman_euclidean=_correlation(_ranks(euclidean_P), _ranks(apart_P)),
    )


def _ranks(values_P: Floats) -> Floats:
    """Ranks with ties averaged, which turns a Pearson into a Spearman correlation."""
    return pl.Series(values_P).rank("average").cast(pl.Float64).to_numpy()


def _correlation(x_P: Floats, y_P: Floats) -> float | None:
    """Pearson correlation, or None where it is not defined."""
    if len(x_P) < 3 or np.ptp(x_P) == 0 or np.ptp(y_P) == 0:
        return None
    return float(np.clip(np.corrcoef(x_P, y_P)[0, 1], -1, 1))
