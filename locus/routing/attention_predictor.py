"""The published correctness predictor: numpy alone, so that routing needs no torch.

Shape letters: M models, T queries, p width of a query encoding, d width of an embedding,
h hidden width.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT = 1
_WEIGHTS = "predictor.safetensors"
_CONFIG = "predictor.json"
_EXAMPLES = "test_vectors.safetensors"
# float32 sums in another order: what may differ between two machines.
TOLERANCE = 1e-4

Array = NDArray[np.float32]


class PredictorError(RuntimeError):
    """A published predictor that can't be read or does not compute what it should."""


@dataclass(frozen=True)
class Predictor:
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

    @property
    def d_query(self) -> int:
        """Width of a query encoding."""
        return int(self.weights["query.weight"].shape[1])

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

    def probabilities(self, z_Md: Array, phi_Tp: Array, block: int = 256) -> Array:
        """P(model answers query correctly), float32 [T, M], for any number of models.

        Models go in blocks of ``block``, which bounds memory.
        """
        parts = [
            self.prepare(z_Md[start : start + block]).probabilities(phi_Tp)
            for start in range(0, len(z_Md), block)
        ]
        if not parts:
            return np.zeros((len(phi_Tp), 0), dtype=np.float32)
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

    def probabilities(self, phi_Tp: Array) -> Array:
        """P(correct), float32 [T, M]; queries go in blocks, which bounds memory."""
        m, h = self.bias_Mh.shape
        block = max(1, (1 << 25) // max(m * h, 1))
        result = np.empty((len(phi_Tp), m), dtype=np.float32)
        for start in range(0, len(phi_Tp), block):
            hidden = (phi_Tp[start : start + block] @ self.folded_pMh).reshape(-1, m, h)
            hidden += self.bias_Mh
            np.maximum(hidden, 0, out=hidden)
            logit = hidden @ self.out_h + self.out_bias
            result[start : start + block] = 1 / (1 + np.exp(-logit))
        return result


def write(predictor: Predictor, z_Md: Array, phi_Tp: Array, folder: Path) -> None:
    """Write the predictor with examples that any reader can check itself against.

    Args:
        predictor: what to write.
        z_Md: embeddings of the examples.
        phi_Tp: query encodings of the examples.
        folder: where; made if it isn't there.
    """
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: np.ascontiguousarray(v) for k, v in predictor.weights.items()}, folder / _WEIGHTS)
    save_file(
        {
            "embeddings": np.ascontiguousarray(z_Md),
            "encodings": np.ascontiguousarray(phi_Tp),
            "probabilities": predictor.probabilities(z_Md, phi_Tp),
        },
        folder / _EXAMPLES,
    )
    config: dict[str, Any] = {
        "format": FORMAT,
        "encoder": predictor.encoder,
        "formula": "sigmoid(out @ relu(hidden @ [z; u; z*u])), u = query @ phi; biases added",
        "source": "arXiv 2601.21082, section 3",
        "tolerance": TOLERANCE,
    }
    (folder / _CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def read(folder: Path, check: bool = True) -> Predictor:
    """Read a published predictor and, with ``check``, run its own examples.

    Raises:
        PredictorError: unreadable, another format, or examples that come out differently.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        config = json.loads((folder / _CONFIG).read_text())
        if config["format"] != FORMAT:
            raise PredictorError(
                f"predictor in {folder} has format {config['format']}, this version reads {FORMAT}"
            )
        predictor = Predictor(load_file(folder / _WEIGHTS), config["encoder"])
        if check:
            examples = load_file(folder / _EXAMPLES)
            found = predictor.probabilities(examples["embeddings"], examples["encodings"])
            error = float(np.abs(found - examples["probabilities"]).max(initial=0.0))
            if not error <= TOLERANCE:
                raise PredictorError(
                    f"predictor in {folder} is off its own test vectors by {error:.2g}"
                )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise PredictorError(f"predictor in {folder} can't be read: {error}") from error
    return predictor
