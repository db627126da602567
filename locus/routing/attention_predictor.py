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


@dataclass(frozen=True)
class AttentionPredictor:
    """G(z, phi) of arXiv 2601.21082, section 3, factorised per model.

    The hidden layer over ``[z ; u ; z*u]`` is ``W_z z + (W_u + W_zu diag(z)) u + b``: what depends
    on the model alone is computed once per model (`prepare`), so a query costs one small matrix
    product per model.

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

    def prepare(self, z_Md: Array) -> "PreparedPool":
        """Fold the embeddings of a pool into the hidden layer."""
        w_hd = self.weights["hidden.weight"]
        d = z_Md.shape[1]
        per_model_Mhd = w_hd[:, d : 2 * d] + z_Md[:, None, :] * w_hd[:, 2 * d :]
        # u = U phi + c is folded in as well: one product from phi to the hidden layer.
        folded_Mhp = per_model_Mhd @ self.weights["query.weight"]
        bias_Mh = z_Md @ w_hd[:, :d].T + self.weights["hidden.bias"]
        bias_Mh = bias_Mh + per_model_Mhd @ self.weights["query.bias"]
        return PreparedPool(
            np.ascontiguousarray(folded_Mhp.reshape(-1, self.d_query).T),
            bias_Mh.astype(np.float32),
            self.weights["out.weight"][0],
            float(self.weights["out.bias"][0]),
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
    """A predictor with the embeddings of a pool folded in.

    Attributes:
        folded_pMh: from a query encoding to the hidden layers of all models, float32 [p, M*h].
        bias_Mh: bias of those layers.
        out_h: output weights.
        out_bias: output bias.
    """

    folded_pMh: Array
    bias_Mh: Array
    out_h: Array
    out_bias: float

    def probabilities(self, x_Tf: Array) -> Array:
        """P(correct), float32 [T, M]; queries go in blocks, which bounds memory."""
        m, h = self.bias_Mh.shape
        block = max(1, (1 << 25) // max(m * h, 1))
        result = np.empty((len(x_Tf), m), dtype=np.float32)
        for start in range(0, len(x_Tf), block):
            phi = x_Tf[start : start + block, : len(self.folded_pMh)]
            hidden = (phi @ self.folded_pMh).reshape(-1, m, h)
            hidden += self.bias_Mh
            np.maximum(hidden, 0, out=hidden)
            logit = hidden @ self.out_h + self.out_bias
            result[start : start + block] = 1 / (1 + np.exp(-logit))
        return result
