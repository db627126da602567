"""What the parts of `locus.similarity` share: the error, and the interval of a rate."""

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class SimilarityInputError(ValueError):
    """Input that can't be compared; the message names the item and the next step."""


def wilson(
    successes: ArrayLike | pl.Series, n: ArrayLike | pl.Series, z: float = 1.96
) -> tuple[pl.Series, pl.Series]:
    """Wilson score interval of a rate (Wilson 1927); sound for small n and rates near 0 or 1.

    Args:
        successes: number of successes, any shape that flattens to [P]; 0 <= successes <= n.
        n: number of trials [P], or one number for all.
        z: normal quantile; 1.96 gives 95 %.

    Returns:
        Lower and upper bounds [P], named ``low`` and ``high``, in [0, 1]; NULL where n is 0.

    Raises:
        SimilarityInputError: a count is negative, not finite, or successes exceed n.
    """
    hits_P, n_P = np.broadcast_arrays(
        np.atleast_1d(np.asarray(successes, dtype=np.float64)),
        np.atleast_1d(np.asarray(n, dtype=np.float64)),
    )
    hits_P, n_P = hits_P.ravel(), n_P.ravel()
    bad = ~np.isfinite(hits_P) | ~np.isfinite(n_P) | (hits_P < 0) | (hits_P > n_P)
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        raise SimilarityInputError(
            f"interval {at}: {hits_P[at]} successes of {n_P[at]} trials is not a rate; "
            "pass counts with 0 <= successes <= n"
        )
    trials_P = np.maximum(n_P, 1)
    rate_P = hits_P / trials_P
    shrink_P = 1 + z**2 / trials_P
    centre_P = (rate_P + z**2 / (2 * trials_P)) / shrink_P
    half_P = z * np.sqrt(rate_P * (1 - rate_P) / trials_P + z**2 / (4 * trials_P**2)) / shrink_P
    # min and max with the rate: at 0 and 1 the formula touches the rate up to a rounding error.
    low_P = np.clip(np.minimum(centre_P - half_P, rate_P), 0, 1)
    high_P = np.clip(np.maximum(centre_P + half_P, rate_P), 0, 1)
    return null_where(n_P == 0, low_P, "low"), null_where(n_P == 0, high_P, "high")


def null_where(missing_P: NDArray[np.bool_], values_P: Floats, name: str) -> pl.Series:
    """A Float64 series [P] with NULL where ``missing_P``."""
    return pl.Series(name, np.where(missing_P, np.nan, values_P)).fill_nan(None)
