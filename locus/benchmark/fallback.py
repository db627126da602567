"""What is lost when every model is down and its nearest neighbour answers in its place."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from locus.bank import Array
from locus.benchmark.geometry import Floats, disagreement, euclidean
from locus.benchmark.metrics import RIGHT
from locus.benchmark.protocols import ALL
from locus.benchmark.results import Measured

SCHEMA = {
    "method": pl.String,
    "neighbour": pl.String,
    "agreement": pl.Float64,
    "hit1": pl.Float64,
    "hit1_in_place": pl.Float64,
    "kept": pl.Float64,
}


def neighbours(distance_BB: Floats) -> NDArray[np.int64]:
    """The nearest other model of each [B]; ties go to the first."""
    away = np.where(np.isfinite(distance_BB), distance_BB, np.inf)
    np.fill_diagonal(away, np.inf)
    return np.asarray(away.argmin(axis=1), dtype=np.int64)


def in_place(p_BT: Array, y_BT: Array, neighbour_B: NDArray[np.int64]) -> tuple[float, float]:
    """Routing hit@1, and the same with the chosen model's neighbour answering.

    Over queries that the chosen model and its neighbour both answered; only models with an answer
    can be chosen.
    """
    chosen_T = np.where(np.isnan(y_BT), -np.inf, p_BT).argmax(axis=0)
    at = np.arange(y_BT.shape[1])
    own, other = y_BT[chosen_T, at], y_BT[neighbour_B[chosen_T], at]
    both = ~np.isnan(own) & ~np.isnan(other)
    if not both.any():
        return float("nan"), float("nan")
    return float(own[both].mean()), float(other[both].mean())


def agreement(y_BT: Array, neighbour_B: NDArray[np.int64]) -> float:
    """Mean share of common queries on which a model and its neighbour are both right or wrong."""
    one, other = y_BT, y_BT[neighbour_B]
    both = ~np.isnan(one) & ~np.isnan(other)
    same = ((one >= RIGHT) == (other >= RIGHT)) & both
    count = both.sum(axis=1)
    share = same.sum(axis=1)[count > 0] / count[count > 0]
    return float(share.mean()) if len(share) else float("nan")


def fallback(measured: Measured) -> pl.DataFrame:
    """Rows of `SCHEMA` on the pool under P1 with all scores, means over seeds.

    ``neighbour`` says by what: euclidean distance of embeddings, or of predictions on test queries
    (profile) where a method doesn't embed. The rows ``(training answers)`` and ``(random)`` are
    what plain statistics and chance do, under the default method's routing.
    """
    pool = measured.data.pool
    y_BT = pool.scores["test"]
    trained = neighbours(disagreement(pool.scores["train"]))
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}

    def add(method: str, kind: str, p_BT: Array, neighbour_B: NDArray[np.int64]) -> None:
        routed = in_place(p_BT, y_BT, neighbour_B)
        found.setdefault((method, kind), []).append((agreement(y_BT, neighbour_B), *routed))

    for method in measured.methods:
        for cell, arrays in measured.outputs("P1", method, ALL):
            p_BT: Array = arrays["test"]
            if "vectors" in arrays:
                add(method, "euclidean", p_BT, neighbours(euclidean(arrays["vectors"])))
            else:
                add(method, "profile", p_BT, neighbours(euclidean(p_BT)))
            if method == (measured.default or measured.methods[0]):
                add("(training answers)", "observed disagreement", p_BT, trained)
                rng = np.random.default_rng(cell.seed)
                shift = rng.integers(1, len(pool), size=len(pool))
                add("(random)", "any", p_BT, (np.arange(len(pool)) + shift) % len(pool))
    rows = []
    for (method, kind), values in found.items():
        same, own, other = (float(v) for v in np.mean(values, axis=0))
        rows.append((method, kind, same, own, other, other / own if own else None))
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    return frame.with_columns(pl.selectors.float().fill_nan(None))
