"""Other layouts of the map beside the flat view, and what a distance means in each."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from locus.report.digits import significant
from locus.report.tidy import REAL, TEXT, ReportDataError, tidy

LAYOUT: dict[str, pl.DataType] = {"model_id": TEXT, "x": REAL, "y": REAL}

NAMES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}

WORDS = {
    "pca": "The map is the best flat view of the embedding (PCA): read neighbourhoods from it, and "
    "distances from the tables.",
    "tsne": "t-SNE keeps neighbourhoods and nothing else: who lies side by side is near in the "
    "embedding too. How far groups lie apart, how large and how dense they look means nothing, and "
    "neither axis has a meaning.",
    "umap": "UMAP keeps neighbourhoods: who lies side by side is near in the embedding too. How "
    "far groups lie apart says next to nothing, how large and how dense they look says nothing, "
    "and neither axis has a meaning.",
}


def checked_layouts(
    layouts: Mapping[str, pl.DataFrame], known: pl.Series
) -> dict[str, pl.DataFrame]:
    """Layouts with frames as in `LAYOUT`.

    Raises:
        ReportDataError: a layout has no name here, or its frame doesn't fit.
    """
    if strange := set(layouts) - (set(NAMES) - {"pca"}):
        raise ReportDataError(f"layouts {sorted(strange)} are unknown; the page knows tsne, umap")
    found = {
        name: tidy(frame, LAYOUT, f"layouts[{name!r}]", "model_id")
        for name, frame in layouts.items()
    }
    for name, frame in found.items():
        if stray := set(frame["model_id"]) - set(known):
            raise ReportDataError(
                f"layouts[{name!r}] names {min(stray)!r}, which is not in models; "
                "add it there or leave its row out"
            )
        if frame["model_id"].is_duplicated().any():
            raise ReportDataError(f"layouts[{name!r}] places a model twice; pass one row per model")
    return found


def pack_layouts(
    layouts: Mapping[str, pl.DataFrame], models: pl.DataFrame
) -> dict[str, dict[str, Any]]:
    """Coordinates by model in the page's order, to four digits; NULL where there is none."""
    ids = models.select("model_id")
    packed = {}
    for name, frame in layouts.items():
        placed = ids.join(frame, on="model_id", how="left", maintain_order="left")
        packed[name] = {axis: [significant(value) for value in placed[axis]] for axis in ("x", "y")}
    return packed
