"""Flat layouts that keep neighbourhoods rather than distances: t-SNE and UMAP."""

import importlib.util
from typing import Literal

from locus.similarity._base import Floats, SimilarityInputError

Layout = Literal["pca", "tsne", "umap"]

SEED = 0
_PERPLEXITY = 30
_NEIGHBOURS = 15
# Fewer points have no neighbourhood to keep that is less than all of them.
_FEWEST = 5


def missing_package(layout: str) -> str | None:
    """What to install before a layout can be drawn; None if nothing is missing."""
    if layout == "umap" and importlib.util.find_spec("umap") is None:
        return "the layout 'umap' needs umap-learn: pip install 'locus-map[umap]'"
    return None


def neighbourhoods(z_Bd: Floats, method: Layout) -> Floats | None:
    """Lay out points so that neighbours stay neighbours, the same way every time.

    Args:
        z_Bd: finite points.
        method: ``tsne`` (van der Maaten and Hinton 2008) or ``umap`` (McInnes et al. 2018).

    Returns:
        Positions [B, 2]; None for fewer than five points.

    Raises:
        SimilarityInputError: the package of the layout is not installed.
    """
    if missing := missing_package(method):
        raise SimilarityInputError(missing)
    n = len(z_Bd)
    if n < _FEWEST or z_Bd.shape[1] < 2:
        return None
    return _tsne(z_Bd) if method == "tsne" else _umap(z_Bd)


def _tsne(z_Bd: Floats) -> Floats:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(_PERPLEXITY, (len(z_Bd) - 1) / 3)
    layout = TSNE(perplexity=perplexity, init="pca", random_state=SEED, n_jobs=1)
    # Several threads add up in any order, and small differences grow.
    with threadpool_limits(1):
        flat: Floats = layout.fit_transform(z_Bd).astype("float64")
    return flat


def _umap(z_Bd: Floats) -> Floats:
    from umap import UMAP

    neighbours = min(_NEIGHBOURS, len(z_Bd) - 1)
    # Its spectral start takes eigenvectors of small graphs badly; principal directions always do.
    layout = UMAP(n_neighbors=neighbours, init="pca", random_state=SEED, n_jobs=1)
    flat: Floats = layout.fit_transform(z_Bd).astype("float64")
    return flat
