"""Surface features of a query's text: what a sentence encoding of unit length does not keep.

How long a question is, how many numbers it holds and how many lines it has say a good deal about
how hard it is, and are lost where token vectors are averaged, scaled to length one, and cut at the
encoder's window.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SURFACE = ("characters", "words", "digits", "line breaks", "mean word length")
"""The features, in order; every one is log(1 + x)."""

VERSION = "surface1"
"""Changes with the features: vectors of two versions are never mixed."""


def surface(texts: Sequence[str]) -> NDArray[np.float32]:
    """Surface features of each text, float32 [N, 5]; see `SURFACE`."""
    rows = np.zeros((len(texts), len(SURFACE)))
    for row, text in enumerate(texts):
        words = text.split()
        rows[row] = (
            len(text),
            len(words),
            sum(c.isdigit() for c in text),
            text.count("\n"),
            sum(map(len, words)) / max(len(words), 1),
        )
    return np.log1p(rows).astype(np.float32)
