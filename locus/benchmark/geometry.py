"""Whether distance means difference: correlation of distances with observed disagreement."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from locus.bank import Array
from locus.benchmark.protocols import ALL, columns_of
from locus.benchmark.results import Measured
from locus.similarity import observed_disagreement, predicted_disagreement

Floats = NDArray[np.float64]

PLACES = (("P1", ALL, "pool"), ("P2", 256, "held-out"))
"""Where it is looked at: protocol, budget, and which pairs these are."""

BAR = "(training answers)"
"""The row of disagreement on the training queries themselves."""

SCHEMA = {
    "pairs": pl.String,
    "n_pairs": pl.Int64,
    "method": pl.String,
    "distance": pl.String,
    "pearson": pl.Float64,
    "spearman": pl.Float64,
    "kendall": pl.Float64,
}


def disagreement(y_BT: Array) -> Floats:
    """Share of common queries that one answered right and the other wrong [B, B].

    NaN for two models without a common query.
    """
    return observed_disagreement(y_BT).rate_MM


def euclidean(z_Bd: Array) -> Floats:
    """Euclidean distances [B, B]."""
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(z_Bd.astype(np.float64), z_Bd.astype(np.float64)))


def cosine(z_Bd: Array) -> Floats:
    """Cosine distances [B, B]; NaN with the zero vector."""
    z = z_Bd.astype(np.float64)
    length = np.linalg.norm(z, axis=1, keepdims=True)
    unit = np.divide(z, length, out=np.full_like(z, np.nan), where=length > 0)
    return np.asarray(1 - unit @ unit.T)


def correlations(one_BB: Floats, other_BB: Floats) -> tuple[int, list[float]]:
    """Pairs that have both, and Pearson, Spearman and Kendall (tau-b) over them.

    NaN below three pairs, or where one side doesn't vary.
    """
    from scipy.stats import kendalltau, pearsonr, spearmanr

    upper = np.triu_indices(len(one_BB), k=1)
    x, y = one_BB[upper], other_BB[upper]
    both = np.isfinite(x) & np.isfinite(y)
    x, y = x[both], y[both]
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return len(x), [float("nan")] * 3
    tests = (pearsonr(x, y), spearmanr(x, y), kendalltau(x, y))
    return len(x), [float(test.statistic) for test in tests]


def _by_training_answers(
    measured: Measured, protocol: str, budget: int, observed: Floats
) -> tuple[int, Floats] | None:
    """What needs no method: disagreement on the queries that the models were placed from."""
    seeds = sorted({cell.seed for cell in measured.of(protocol, budget=budget)})
    train = measured.placed(protocol).scores["train"] if seeds else None
    if train is None:
        return None
    found = [
        correlations(disagreement(train[:, columns_of(measured.data, protocol, seed)]), observed)
        for seed in seeds
    ]
    return found[0][0], np.mean([values for _, values in found], axis=0)


def geometry(measured: Measured) -> pl.DataFrame:
    """Correlations with disagreement on test queries, mean over seeds.

    Returns:
        Rows of `SCHEMA`; ``distance`` is euclidean or cosine (between embeddings, for methods that
        embed), history (the method's own expected disagreement on bank queries, for methods that
        know the bank), predicted (the same on test queries, by their texts) or profile (Euclidean,
        between its predictions on test queries).
    """
    rows = []
    for protocol, budget, pairs in PLACES:
        observed = disagreement(measured.placed(protocol).scores["test"])
        for method in measured.methods:
            found: dict[str, list[list[float]]] = {}
            n_pairs = 0
            for _, arrays in measured.outputs(protocol, method, budget):
                kinds = {
                    "predicted": predicted_disagreement(arrays["test"].T),
                    "profile": euclidean(arrays["test"]),
                }
                if "vectors" in arrays:
                    kinds |= {
                        "euclidean": euclidean(arrays["vectors"]),
                        "cosine": cosine(arrays["vectors"]),
                    }
                if "knows_bank" in arrays:
                    kinds["history"] = predicted_disagreement(arrays["bank"].T)
                for kind, distance_BB in kinds.items():
                    n_pairs, values = correlations(distance_BB, observed)
                    found.setdefault(kind, []).append(values)
            for kind, seeds in sorted(found.items()):
                mean = np.mean(seeds, axis=0)
                rows.append((pairs, n_pairs, method, kind, *map(float, mean)))
        bar = _by_training_answers(measured, protocol, budget, observed)
        if bar is not None:
            rows.append((pairs, bar[0], BAR, "profile", *map(float, bar[1])))
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    return frame.with_columns(pl.selectors.float().fill_nan(None))
