"""Packed symmetric matrices: their upper triangles, row by row, as they are published.

Shape letters: M models, e side of a matrix, u = e (e + 1) / 2 numbers of its triangle.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Floats = NDArray[np.float64]


def pack(covariance_Mee: Floats) -> Array:
    """Upper triangles row by row, float32 [M, e (e + 1) / 2]."""
    rows, columns = np.triu_indices(covariance_Mee.shape[1])
    packed: Array = covariance_Mee[:, rows, columns].astype(np.float32)
    return packed


def unpack(packed_Mu: Array) -> Floats:
    """Symmetric matrices [M, e, e] from what `pack` gave.

    Raises:
        ValueError: the width is no triangle number.
    """
    rows, columns = triangle(packed_Mu.shape[1])
    e = int(rows.max()) + 1
    full = np.zeros((len(packed_Mu), e, e))
    full[:, rows, columns] = packed_Mu
    full[:, columns, rows] = packed_Mu
    return full


def triangle(width: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of so many packed numbers.

    Raises:
        ValueError: the width is no triangle number.
    """
    e = round((np.sqrt(8 * width + 1) - 1) / 2)
    if e * (e + 1) // 2 != width or not e:
        raise ValueError(f"{width} numbers are not the upper triangle of a square matrix")
    return np.triu_indices(e)
