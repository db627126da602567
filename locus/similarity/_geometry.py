"""The shape of a pool: hierarchy, clusters, and the flat projection of the map."""

import math
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike

from locus.similarity._base import Floats, Ints, SimilarityInputError
from locus.similarity._layouts import Layout, neighbourhoods

# scipy's optimal leaf ordering grows faster than B**2; past this many leaves it takes seconds.
_OPTIMAL_LEAVES = 300


class Dendrogram(NamedTuple):
    """A hierarchy of models: scipy's linkage [B-1, 4] and the leaves from left to right [B]."""

    linkage: Floats
    order: Ints


def dendrogram_order(distances: ArrayLike) -> Dendrogram:
    """Average-linkage hierarchy of a distance matrix, with similar leaves side by side.

    Args:
        distances: [B, B], finite, symmetric, with a zero diagonal.

    Returns:
        The linkage and the order of the leaves. Up to 300 models the order is the one that
        minimises the distances between neighbouring leaves (Bar-Joseph 2001).

    Raises:
        SimilarityInputError: the matrix is not a finite, symmetric distance matrix.
    """
    from scipy.spatial.distance import squareform

    full_BB = np.asarray(distances, dtype=np.float64)
    B = len(full_BB)
    if full_BB.shape != (B, B) or not np.isfinite(full_BB).all():
        raise SimilarityInputError(
            f"distances of shape {full_BB.shape} must be a square of finite numbers; "
            "fill or leave out models without a distance"
        )
    if np.abs(np.diagonal(full_BB)).max(initial=0) > 0 or not np.allclose(full_BB, full_BB.T):
        raise SimilarityInputError("distances must be symmetric with a zero diagonal")
    return _hierarchy(squareform(full_BB, checks=False), B, "average")


def group_tree(embeddings: ArrayLike) -> Dendrogram:
    """Ward's hierarchy of places: what `clusters` cuts into groups.

    It merges what adds least to the spread within groups, and squared distances are mean squared
    differences of predictions: groups answer alike. Average linkage would split odd models off a
    large pool one by one.

    Args:
        embeddings: [B, d], finite.

    Returns:
        The linkage and the order of the leaves; as for `dendrogram_order`, the best one up to 300
        models.
    """
    z_Bd = _places(embeddings)
    return _hierarchy(z_Bd, len(z_Bd), "ward")


def _hierarchy(
    observations: Floats, n_models: int, method: Literal["average", "ward"]
) -> Dendrogram:
    """The hierarchy of so many models, from condensed distances or from places."""
    from scipy.cluster.hierarchy import leaves_list, linkage

    if n_models < 2:
        return Dendrogram(np.empty((0, 4)), np.arange(n_models, dtype=np.int64))
    optimal = n_models <= _OPTIMAL_LEAVES
    tree = np.asarray(linkage(observations, method, optimal_ordering=optimal))
    return Dendrogram(tree, np.asarray(leaves_list(tree), dtype=np.int64))


def _places(embeddings: ArrayLike) -> Floats:
    """Embeddings as a matrix; refused if they are none, or not finite."""
    z_Bd = np.asarray(embeddings, dtype=np.float64)
    if z_Bd.ndim != 2 or not np.isfinite(z_Bd).all():
        raise SimilarityInputError(f"embeddings of shape {z_Bd.shape} must be a finite [B, d]")
    return z_Bd


def usual_groups(n_models: int) -> int:
    """Into how many groups a pool is cut if nobody says: the square root, 2 to 8."""
    return min(max(2, round(math.sqrt(n_models))), 8)


def clusters(linkage: ArrayLike, k: int) -> Ints:
    """Cut a hierarchy into exactly ``min(k, B)`` clusters by undoing its last merges.

    Args:
        linkage: [B-1, 4] as in `Dendrogram`.
        k: clusters wanted, 1 or more.

    Returns:
        A label per model [B]: 0 is the largest cluster, ties in the order of the first member.
    """
    if k < 1:
        raise SimilarityInputError(f"k is {k}; ask for at least one cluster")
    tree = np.asarray(linkage, dtype=np.float64).reshape(-1, 4)
    B = len(tree) + 1
    members: dict[int, list[int]] = {leaf: [leaf] for leaf in range(B)}
    for step, (one, other) in enumerate(tree[: max(B - k, 0), :2].astype(int)):
        members[B + step] = members.pop(int(one)) + members.pop(int(other))
    labels_B = np.empty(B, dtype=np.int64)
    groups = sorted(members.values(), key=lambda group: (-len(group), min(group)))
    for label, group in enumerate(groups):
        labels_B[group] = label
    return labels_B


def project(embeddings: ArrayLike, method: Layout = "pca") -> Floats:
    """Flatten embeddings [B, d] to map positions [B, 2].

    ``pca`` is a rotation: it keeps as much of the spread as two directions can. The sign of each
    direction is fixed by making its largest loading positive, so that a map doesn't flip from one
    night to the next. Directions that don't exist (one model, d = 1) are 0.

    ``tsne`` and ``umap`` keep neighbourhoods, and distances between groups mean nothing; they are
    turned like the other. Fewer than five models are laid out by ``pca`` whatever is asked.

    Raises:
        SimilarityInputError: an unknown method, one whose package is not installed, or embeddings
            that are not a finite matrix.
    """
    if method not in get_args(Layout):
        raise SimilarityInputError(
            f"projection {method!r} is unknown; use {', '.join(map(repr, get_args(Layout)))}"
        )
    z_Bd = _places(embeddings)
    if method != "pca" and (laid_out := neighbourhoods(z_Bd, method)) is not None:
        z_Bd = laid_out
    flat_B2 = np.zeros((len(z_Bd), 2))
    if z_Bd.size == 0:
        return flat_B2
    centred_Bd = z_Bd - z_Bd.mean(axis=0)
    _, _, axes = np.linalg.svd(centred_Bd, full_matrices=False)
    axes = axes[:2]
    largest = np.abs(axes).argmax(axis=1)
    axes = axes * np.where(axes[np.arange(len(axes)), largest] < 0, -1.0, 1.0)[:, None]
    flat_B2[:, : len(axes)] = centred_Bd @ axes.T
    return flat_B2
