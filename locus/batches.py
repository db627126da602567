"""Sets of unlike length in batches in which little is padded."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def of_like_length(lengths: NDArray[np.int64], most: int) -> Iterator[NDArray[np.int64]]:
    """Rows in batches of at most ``most`` elements, padding counted, or of a single row.

    Args:
        lengths: elements of each row.
        most: elements of a batch, each row padded to the longest in it.

    Yields:
        Row numbers, the longest rows first.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        stop = start + max(most // max(int(lengths[order[start]]), 1), 1)
        yield order[start:stop]
        start = stop
