"""The predictor of LOCUS as published (arXiv 2601.21082, section 3), in numpy alone.

Shape letters: M models, T queries, p width of a query encoding, d width of an embedding,
h hidden width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

# Numbers of z * u at a time: 512 KB, half of a core's cache.
_IN_CACHE = 1 << 17


@dataclass(frozen=True)
class AttentionPredictor:
    """G(z, phi) of arXiv 2601.21082, section 3, factorised per model.

    The hidden layer over ``[z ; u ; z*u]`` is ``W_z z + W_u u + W_zu (z*u) + b``: what depends on
    the model alone is computed once per model (`prepare`), what depends on the query alone once per
    query.

    Attributes:
        weights: the parameters, by the names they have in the checkpoint.
        encoder: identity of the sentence encoder whose vectors it reads.
    """

    weights: Mapping[str, Array]
    encoder: str

    kind: ClassVar[str] = "attention"
    formula: ClassVar[str] = (
        "sigmoid(out @ relu(hidden @ [z; u; z*u])), u = query @ phi; biases added"
    )

    @property
    def d_query(self) -> int:
        """Width of a query encoding."""
        return int(self.weights["query.weight"].shape[1])

    def arrays(self) -> dict[str, Array]:
        """The weights, by name."""
        return dict(self.weights)

    def settings(self) -> dict[str, Any]:
        """Nothing beside the weights."""
        return {}

    @classmethod
    def load(
        cls, arrays: Mapping[str, Array], settings: Mapping[str, Any], encoder: str
    ) -> "AttentionPredictor":
        """From what `arrays` and `settings` gave."""
        return cls(arrays, encoder)

    def deviations(self, covariance_Mu: Array | None, x_Tf: Array) -> None:
        """This predictor knows no uncertainty."""

    def prepare(self, z_Md: Array, covariance_Mu: Array | None = None) -> "PreparedPool":
        """Compute once what depends on the pool alone; covariances mean nothing here."""
        w_hd = self.weights["hidden.weight"]
        d = z_Md.shape[1]
        return PreparedPool(
            query_pd=_single(self.weights["query.weight"].T),
            query_d=_single(self.weights["query.bias"]),
            own_dh=_single(w_hd[:, d : 2 * d].T),
            both_dh=_single(w_hd[:, 2 * d :].T),
            z_Md=_single(z_Md),
            model_Mh=_single(z_Md @ w_hd[:, :d].T + self.weights["hidden.bias"]),
            out_h=_single(self.weights["out.weight"][0]),
            out_bias=float(self.weights["out.bias"][0]),
        )

    def probabilities(self, z_Md: Array, x_Tf: Array, block: int = 256) -> Array:
        """P(model answers query correctly), float32 [T, M], for any number of models.

        Of query features ``x_Tf`` the first ``d_query`` are read: the encoding.
        Models go in blocks of ``block``, which bounds memory.
        """
        parts = [
            self.prepare(z_Md[start : start + block]).probabilities(x_Tf)
            for start in range(0, len(z_Md), block)
        ]
        if not parts:
            return np.zeros((len(x_Tf), 0), dtype=np.float32)
        return np.concatenate(parts, axis=1)


@dataclass(frozen=True)
class PreparedPool:
    """A predictor with a pool's embeddings; it is only read, so threads may share it.

    Folding models into the hidden layer would take d h numbers a model, which no cache holds for
    a whole pool; multiplying ``z * u`` out for a few queries at a time takes as many operations
    and reads next to nothing.

    Attributes:
        query_pd: from a query encoding to u.
        query_d: bias of u.
        own_dh: from u to the hidden layer.
        both_dh: from z * u to the hidden layer.
        z_Md: embeddings of the pool.
        model_Mh: what the models alone, and the bias, give the hidden layer.
        out_h: output weights.
        out_bias: output bias.
    """

    query_pd: Array
    query_d: Array
    own_dh: Array
    both_dh: Array
    z_Md: Array
    model_Mh: Array
    out_h: Array
    out_bias: float

    @property
    def d_query(self) -> int:
        """Width of a query encoding."""
        return len(self.query_pd)

    def read(self, x_Tf: Array) -> Array:
        """U of each query, float32 [T, d]."""
        u_Td: Array = np.asarray(x_Tf, dtype=np.float32)[:, : len(self.query_pd)] @ self.query_pd
        u_Td += self.query_d
        return u_Td

    def chances(self, read_Td: Array) -> Array:
        """P(correct) of the pool, float32 [T, M], from what `read` gave."""
        m, d = self.z_Md.shape
        h = len(self.out_h)
        block = max(1, min(_IN_CACHE // max(m * d, 1), len(read_Td)))
        both_BMd = np.empty((block, m, d), dtype=np.float32)
        hidden_BMh = np.empty((block, m, h), dtype=np.float32)
        result_TM = np.empty((len(read_Td), m), dtype=np.float32)
        for start in range(0, len(read_Td), block):
            u_Bd = read_Td[start : start + block]
            both, hidden = both_BMd[: len(u_Bd)], hidden_BMh[: len(u_Bd)]
            np.multiply(u_Bd[:, None], self.z_Md, out=both)
            np.matmul(both.reshape(-1, d), self.both_dh, out=hidden.reshape(-1, h))
            hidden += self.model_Mh
            hidden += (u_Bd @ self.own_dh)[:, None]
            np.maximum(hidden, 0, out=hidden)
            np.matmul(hidden, self.out_h, out=result_TM[start : start + block])
        result_TM += self.out_bias
        # 1 / (1 + exp(-x)), which overflows on neither side.
        result_TM *= 0.5
        np.tanh(result_TM, out=result_TM)
        result_TM += 1
        result_TM *= 0.5
        return result_TM

    def doubts(self, read_Td: Array, of_T: NDArray[np.int64] | None = None) -> None:
        """This predictor knows no uncertainty."""

    def probabilities(self, x_Tf: Array) -> Array:
        """P(correct), float32 [T, M]."""
        return self.chances(self.read(x_Tf))


def _single(values: NDArray[Any]) -> Array:
    return np.ascontiguousarray(values, dtype=np.float32)
