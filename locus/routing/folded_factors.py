"""The factor predictor with a pool folded in: what depends on no query is multiplied out once.

The kernel of `locus.embedding.textmap` is a sum. Its linear and its benchmark part are products of
something of the query with something of the landmarks, so the landmarks go away: one small matrix
each. What is left per landmark are two exponentials. Their exponents are inner products as well,
with the squares of both sides as two more columns, and the weight of the surface kernel
(``surface + surface_in_benchmark * agreement``) is the query's memberships times a matrix, since
memberships add up to 1. All is float32, in place, a block of queries at a time; only the last small
product, which ranks the models, is float64, so that equal models stay equal.

Shape letters: M models, T queries, f width of query features, p of an encoding, s surface features,
n benchmarks, L landmarks, e numbers of an embedding that are in use, g = 1 + e (mean score first),
u of a packed covariance.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locus.embedding.calibration import Calibration, bounded
from locus.embedding.textmap import TextMap
from locus.routing.triangles import triangle

Array = NDArray[np.float32]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Three buffers of so many queries by 1,000 landmarks are 1.5 MB: they stay in a core's cache, and
# the products are long enough to pay for their packing.
_BLOCK = 128


@dataclass(frozen=True)
class FoldedFactors:
    """What `fold` made; it is only read, so threads may share it.

    Attributes:
        gaussian: weight of the Gaussian kernel of encodings.
        near_xL: from [encoding; its square; 1] to that kernel's exponents, [p + 2, L].
        centre_s: means that standardise surface features.
        scale_s: what standardised ones are multiplied with.
        surface_xL: as ``near_xL`` for the surface kernel, [s + 2, L]; None without such features.
        sharp_pn: from an encoding to the logits of its benchmark memberships.
        alike_nL: from memberships to the weights of the surface kernel.
        weights_Lg: from kernel values to mean score and public item features.
        linear_pg: the same from an encoding, all landmarks summed.
        member_ng: the same from memberships.
        constant_g: the same from nothing.
        z_gM: the pool's embeddings below a row of ones, float64.
        calibration: of the result.
        pairs: rows and columns of a packed covariance.
        covariance_Mu: packed covariances, what is off the diagonal twice, float64; None if unknown.
    """

    gaussian: float
    near_xL: Array
    centre_s: Array
    scale_s: Array
    surface_xL: Array | None
    sharp_pn: Array
    alike_nL: Array
    weights_Lg: Array
    linear_pg: Array
    member_ng: Array
    constant_g: Array
    z_gM: Floats
    calibration: Calibration
    pairs: tuple[NDArray[np.intp], NDArray[np.intp]] | None
    covariance_Mu: Floats | None

    @property
    def d_query(self) -> int:
        """Width of a query encoding."""
        return len(self.sharp_pn)

    def read(self, x_Tf: Array) -> Array:
        """Mean score and public item features of queries, float32 [T, 1 + e]."""
        x_Tf = np.asarray(x_Tf, dtype=np.float32)
        g_Tg = np.empty((len(x_Tf), len(self.constant_g)), dtype=np.float32)
        buffers = np.empty((3, min(_BLOCK, len(x_Tf)), len(self.weights_Lg)), dtype=np.float32)
        for start in range(0, len(x_Tf), _BLOCK):
            self._read(x_Tf[start : start + _BLOCK], g_Tg[start : start + _BLOCK], buffers)
        return g_Tg

    def _read(self, x_Tf: Array, out_Tg: Array, buffers: Array) -> None:
        near_TL, surface_TL, alike_TL = buffers[:, : len(x_Tf)]
        phi_Tp = x_Tf[:, : len(self.sharp_pn)]
        member_Tn = phi_Tp @ self.sharp_pn
        member_Tn -= member_Tn.max(axis=1, keepdims=True)
        np.exp(member_Tn, out=member_Tn)
        member_Tn /= member_Tn.sum(axis=1, keepdims=True)
        _exponential(phi_Tp, self.near_xL, near_TL)
        near_TL *= self.gaussian
        if self.surface_xL is not None:
            standard_Ts = (x_Tf[:, len(self.sharp_pn) :] - self.centre_s) * self.scale_s
            _exponential(standard_Ts, self.surface_xL, surface_TL)
            np.matmul(member_Tn, self.alike_nL, out=alike_TL)
            surface_TL *= alike_TL
            near_TL += surface_TL
        np.matmul(near_TL, self.weights_Lg, out=out_Tg)
        out_Tg += phi_Tp @ self.linear_pg
        out_Tg += member_Tn @ self.member_ng
        out_Tg += self.constant_g

    def chances(self, read_Tg: Array) -> Array:
        """P(correct) of the pool, float32 [T, M], from what `read` gave."""
        return self.calibration(bounded(read_Tg.astype(np.float64) @ self.z_gM))

    def doubts(self, read_Tg: Array, of_T: Ints | None = None) -> Array | None:
        """Standard deviation of the predicted score due to a model's place; None if unknown.

        Args:
            read_Tg: what `read` gave.
            of_T: one model a query; None takes all.

        Returns:
            [T, M], or [T] with ``of_T``.
        """
        if self.covariance_Mu is None or self.pairs is None:
            return None
        g_Te = read_Tg[:, 1:].astype(np.float64)
        products_Tu = g_Te[:, self.pairs[0]] * g_Te[:, self.pairs[1]]
        if of_T is None:
            variance = products_Tu @ self.covariance_Mu.T
        else:
            variance = np.einsum("tu,tu->t", products_Tu, self.covariance_Mu[of_T])
        deviation: Array = np.sqrt(np.maximum(variance, 0)).astype(np.float32)
        return deviation

    def probabilities(self, x_Tf: Array) -> Array:
        """P(correct), float32 [T, M]."""
        return self.chances(self.read(x_Tf))


def fold(
    text: TextMap,
    with_offset: NDArray[np.int64],
    own_offset: float,
    to_public_ke: Floats,
    calibration: Calibration,
    z_Me: Array,
    covariance_Mu: Array | None,
) -> FoldedFactors:
    """Fold a factor predictor's parts (see `locus.routing.factor_predictor`) and a pool.

    The pool stays a factor of its own: [L, g] and [g, M] cost L g + g M products a query, and one
    [L, M] would cost L M, more for every pool of more than g models.
    """
    c = text.config
    n_factors = text.weights_Lj.shape[1] - 1
    # Columns: the mean score, then factors and offsets in public coordinates.
    weights_Lg = _with_mean(text.weights_Lj, to_public_ke[:n_factors])
    landmarks_Ln = text.memberships(text.phi_Lp)
    member_ng = c.benchmark * landmarks_Ln.T @ weights_Lg
    member_ng[with_offset, 1:] += own_offset * to_public_ke[n_factors:]
    width = text.surface_Ls.shape[1]
    surface_xL = _exponents(text.surface_Ls, c.surface_gamma / width) if width else None
    pairs, covariance = None, None
    if covariance_Mu is not None:
        pairs = triangle(covariance_Mu.shape[1])
        twice_u = np.where(pairs[0] == pairs[1], 1.0, 2.0)
        covariance = covariance_Mu.astype(np.float64) * twice_u
    return FoldedFactors(
        gaussian=c.gaussian,
        near_xL=_exponents(text.phi_Lp, c.gamma),
        centre_s=_single(text.centre_s),
        scale_s=_single(1 / text.scale_s),
        surface_xL=surface_xL,
        sharp_pn=_single(c.sharpness * text.centroids_np.T),
        alike_nL=_single(c.surface + c.surface_in_benchmark * landmarks_Ln.T),
        weights_Lg=_single(weights_Lg),
        linear_pg=_single(c.linear * text.phi_Lp.T @ weights_Lg),
        member_ng=_single(member_ng),
        constant_g=_single(_with_mean(text.mean_j[None], to_public_ke[:n_factors])[0]),
        z_gM=np.vstack([np.ones(len(z_Me)), z_Me.T.astype(np.float64)]),
        calibration=calibration,
        pairs=pairs,
        covariance_Mu=covariance,
    )


def _with_mean(outputs_Nj: Floats, to_public_ke: Floats) -> Floats:
    return np.concatenate([outputs_Nj[:, :1], outputs_Nj[:, 1:] @ to_public_ke], axis=1)


def _exponents(rows_Lx: Floats, gamma: float) -> Array:
    """With [row; its square; 1]: -gamma |row - landmark|^2, [x + 2, L]."""
    squares_L = (rows_Lx**2).sum(axis=1)
    ones_L = np.ones(len(rows_Lx))
    return _single(np.vstack([2 * gamma * rows_Lx.T, -gamma * ones_L, -gamma * squares_L]))


def _exponential(rows_Tx: Array, exponents_xL: Array, out_TL: Array) -> None:
    extended = np.empty((len(rows_Tx), len(exponents_xL)), dtype=np.float32)
    extended[:, :-2] = rows_Tx
    np.einsum("tx,tx->t", rows_Tx, rows_Tx, out=extended[:, -2])
    extended[:, -1] = 1
    np.matmul(extended, exponents_xL, out=out_TL)
    # Rounding can bring a squared distance of nothing below 0.
    np.minimum(out_TL, 0, out=out_TL)
    np.exp(out_TL, out=out_TL)


def _single(values: NDArray[Any]) -> Array:
    return np.ascontiguousarray(values, dtype=np.float32)
