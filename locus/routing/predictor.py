"""Published predictors: what each kind can do, and how they are written and read back.

A predictor needs numpy and nothing else, so that whoever routes needs no torch. It reads query
features x: the sentence encoding, then the surface features of the text
(`locus.encoding.surface`).

Shape letters: M models, T queries, f width of query features, d of an embedding, u of a packed
covariance.
"""

import json
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from locus.routing.attention_predictor import AttentionPredictor
from locus.routing.factor_predictor import FactorPredictor

FORMAT = 2
_WEIGHTS = "predictor.safetensors"
_CONFIG = "predictor.json"
_EXAMPLES = "test_vectors.safetensors"
# float32 sums in another order: what may differ between two machines.
TOLERANCE = 1e-4

Array = NDArray[np.float32]


class PredictorError(RuntimeError):
    """A published predictor that can't be read or does not compute what it should."""


class PreparedPool(Protocol):
    """A predictor with the embeddings of a pool folded in; threads may share it.

    A query's text is read once (`read`), and all else is found from that.
    """

    @property
    def d_query(self) -> int:
        """Width of a query encoding, which query features begin with."""
        ...

    def read(self, x_Tf: Array) -> Array:
        """What the pool needs to know of each query, float32, one row a query."""
        ...

    def chances(self, read_Tx: Array) -> Array:
        """P(correct) of the pool, float32 [T, M], from what `read` gave."""
        ...

    def doubts(self, read_Tx: Array, of_T: NDArray[np.int64] | None = None) -> Array | None:
        """Standard deviation of P(correct) due to the models' places; None if unknown.

        [T, M], or [T] if ``of_T`` names one model a query.
        """
        ...

    def probabilities(self, x_Tf: Array) -> Array:
        """P(correct), float32 [T, M]."""
        ...


class Predictor(Protocol):
    """P(correct) from embeddings and query features.

    Attributes:
        kind: its name in files.
        formula: what it computes, in one line.
        encoder: identity of the sentence encoder whose vectors it reads.
    """

    kind: ClassVar[str]
    formula: ClassVar[str]

    @property
    def encoder(self) -> str:
        """Identity of the sentence encoder whose vectors it reads."""
        ...

    def prepare(self, z_Md: Array, covariance_Mu: Array | None = None) -> PreparedPool:
        """Fold the embeddings of a pool in, and how unsure they are."""
        ...

    def probabilities(self, z_Md: Array, x_Tf: Array) -> Array:
        """P(correct), float32 [T, M]."""
        ...

    def deviations(self, covariance_Mu: Array | None, x_Tf: Array) -> Array | None:
        """Standard deviation of P(correct) due to the models' places, [T, M]; None if unknown."""
        ...

    def arrays(self) -> dict[str, Array]:
        """Its numbers, by name."""
        ...

    def settings(self) -> dict[str, Any]:
        """Everything else, as plain JSON values."""
        ...


_KINDS: dict[str, type[AttentionPredictor] | type[FactorPredictor]] = {
    AttentionPredictor.kind: AttentionPredictor,
    FactorPredictor.kind: FactorPredictor,
}


def write(predictor: Predictor, z_Md: Array, x_Tf: Array, folder: Path) -> None:
    """Write the predictor with examples that any reader can check itself against.

    Args:
        predictor: what to write.
        z_Md: embeddings of the examples.
        x_Tf: query features of the examples.
        folder: where; made if it isn't there.
    """
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    arrays = {k: np.ascontiguousarray(v, np.float32) for k, v in predictor.arrays().items()}
    save_file(arrays, folder / _WEIGHTS)
    save_file(
        {
            "embeddings": np.ascontiguousarray(z_Md),
            "features": np.ascontiguousarray(x_Tf),
            "probabilities": predictor.probabilities(z_Md, x_Tf),
        },
        folder / _EXAMPLES,
    )
    config: dict[str, Any] = {
        "format": FORMAT,
        "kind": predictor.kind,
        "encoder": predictor.encoder,
        "settings": predictor.settings(),
        "formula": predictor.formula,
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
                f"predictor in {folder} has format {config['format']}, this version reads "
                f"{FORMAT}: publish anew (`locus publish`)"
            )
        if config["kind"] not in _KINDS:
            raise PredictorError(
                f"predictor in {folder} is of the kind {config['kind']!r}; "
                f"known are {', '.join(sorted(_KINDS))}: publish anew (`locus publish`)"
            )
        predictor = _KINDS[config["kind"]].load(
            load_file(folder / _WEIGHTS), config["settings"], config["encoder"]
        )
        if check:
            _check(predictor, load_file(folder / _EXAMPLES), folder)
    except (OSError, ValueError, KeyError, TypeError, IndexError, SafetensorError) as error:
        raise PredictorError(
            f"predictor in {folder} can't be read: {error}; publish anew (`locus publish`)"
        ) from error
    return predictor


def _check(predictor: Predictor, examples: dict[str, Array], folder: Path) -> None:
    found = predictor.probabilities(examples["embeddings"], examples["features"])
    error = float(np.abs(found - examples["probabilities"]).max(initial=0.0))
    if not error <= TOLERANCE:
        raise PredictorError(
            f"predictor in {folder} is off its own test vectors by {error:.2g}: publish anew "
            "(`locus publish`)"
        )
