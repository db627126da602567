"""Whether a model lands in the same place when it is placed from other queries."""

import numpy as np
import polars as pl

from locus.bank import Array
from locus.benchmark.geometry import euclidean
from locus.benchmark.protocols import STABILITY
from locus.benchmark.results import Measured

SCHEMA = {
    "protocol": pl.String,
    "method": pl.String,
    "evaluations": pl.Int64,
    "models": pl.Int64,
    "moved": pl.Float64,
    "found_again": pl.Float64,
    "by_chance": pl.Float64,
}


def moved_and_found(first_Bd: Array, second_Bd: Array) -> tuple[int, float, float]:
    """Compare two placements of the same models.

    Args:
        first_Bd: vectors from one sample.
        second_Bd: vectors from a disjoint one; rows of NaN are models with too few scores.

    Returns:
        Models compared; the median distance between a model's two vectors over the median
        distance between different models; and the share of models whose nearest vector of the
        second placement is their own. NaN below two models, or if all vectors are one.
    """
    from scipy.spatial.distance import cdist

    both = np.isfinite(first_Bd).all(axis=1) & np.isfinite(second_Bd).all(axis=1)
    first, second = first_Bd[both].astype(np.float64), second_Bd[both].astype(np.float64)
    n = len(first)
    if n < 2:
        return n, float("nan"), float("nan")
    across = cdist(first, second)
    between = np.median(euclidean(first_Bd[both])[np.triu_indices(n, k=1)])
    moved = float(np.median(np.diagonal(across)) / between) if between > 0 else float("nan")
    # A tie is not a find: all vectors being one would count as one otherwise.
    own = np.diagonal(across)
    rivals = across + np.where(np.eye(n, dtype=bool), np.inf, 0)
    return n, moved, float((own < rivals.min(axis=1)).mean())


def stability(measured: Measured) -> pl.DataFrame:
    """Rows of `SCHEMA`, means over seeds, for held-out models and methods that embed."""
    rows = []
    for protocol in ("P2", "P2-all"):
        for budget in STABILITY:
            for method in measured.methods:
                found = [
                    moved_and_found(arrays["vectors"], arrays["vectors_again"])
                    for _, arrays in measured.outputs(protocol, method, budget)
                    if "vectors_again" in arrays
                ]
                if not found or found[0][0] < 2:
                    continue
                n, moved, again = (float(v) for v in np.mean(found, axis=0))
                rows.append((protocol, method, budget, round(n), moved, again, 1 / n))
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    return frame.with_columns(pl.selectors.float().fill_nan(None))
