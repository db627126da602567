"""The predictor of closed-form placement (`locus.embedding.factors`), in numpy alone.

Shape letters: M models, T queries, f width of query features, k of a model's weights, d of an
embedding, e of its numbers that are in use, u of a packed covariance.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from locus.embedding.calibration import Calibration, bounded
from locus.embedding.factors import FactorPlacement, read_items
from locus.embedding.textmap import KernelConfig, TextMap
from locus.routing.folded_factors import FoldedFactors, fold
from locus.routing.triangles import pack, triangle, unpack

Array = NDArray[np.float32]
Floats = NDArray[np.float64]

__all__ = ["FactorPredictor", "pack", "unpack"]

_TEXT = "text."


@dataclass(frozen=True)
class FactorPredictor:
    """P(correct) = calibration(mean(x) + g(x) . z), mean and g read from the query's features.

    Attributes:
        text: query features to mean score and factors.
        with_offset: benchmarks on which models have offsets of their own.
        own_offset: scale of those offsets.
        to_public_ke: turns item features into the coordinates of public vectors.
        calibration: of the result.
        encoder: identity of the sentence encoder whose vectors it reads.
    """

    text: TextMap
    with_offset: NDArray[np.int64]
    own_offset: float
    to_public_ke: Floats
    calibration: Calibration
    encoder: str

    kind: ClassVar[str] = "factors"
    formula: ClassVar[str] = (
        "calibration(bounded(mean(x) + g(x) . z)), mean and g by kernel ridge regression"
    )

    @classmethod
    def of(cls, placement: FactorPlacement, encoder: str) -> "FactorPredictor":
        """The predictor of a fitted placement."""
        return cls(
            placement.text,
            placement.with_offset,
            placement.config.own_offset,
            # Weights are z @ pinv(basis), so features go by its transpose.
            np.asarray(np.linalg.pinv(placement.basis_kd).T, dtype=np.float64),
            placement.calibration,
            encoder,
        )

    def terms(self, x_Tf: Array) -> tuple[Floats, Floats]:
        """Mean score [T] of each query and its features [T, e] in public coordinates."""
        width = self.text.phi_Lp.shape[1]
        surface = x_Tf[:, width:] if self.text.surface_Ls.shape[1] else None
        mean_T, features_Tk = read_items(
            self.text, self.with_offset, self.own_offset, x_Tf[:, :width], surface
        )
        return mean_T, features_Tk @ self.to_public_ke

    def prepare(self, z_Md: Array, covariance_Mu: Array | None = None) -> FoldedFactors:
        """Fold the predictor and a pool into few products; within the tolerance of the plain path.

        Args:
            z_Md: embeddings of the pool.
            covariance_Mu: their packed covariances (`pack`); None where places have no doubt.
        """
        z_Me = z_Md[:, : self.to_public_ke.shape[1]]
        return fold(
            self.text, self.with_offset, self.own_offset, self.to_public_ke, self.calibration,
            z_Me, covariance_Mu,
        )  # fmt: skip

    def probabilities(self, z_Md: Array, x_Tf: Array) -> Array:
        """P(model answers query correctly), float32 [T, M], as the formula says, in float64."""
        mean_T, g_Te = self.terms(x_Tf)
        raw_TM = mean_T[:, None] + g_Te @ z_Md[:, : g_Te.shape[1]].T.astype(np.float64)
        return self.calibration(bounded(raw_TM))

    def deviations(self, covariance_Mu: Array | None, x_Tf: Array) -> Array | None:
        """Standard deviation of the predicted score due to a model's place, [T, M].

        Args:
            covariance_Mu: packed covariances of the embeddings (`unpack`); None gives None.
            x_Tf: query features.
        """
        if covariance_Mu is None:
            return None
        _, g_Te = self.terms(x_Tf)
        # g' C g over packed triangles, what is off the diagonal twice: one product for the pool.
        rows, columns = triangle(covariance_Mu.shape[1])
        twice_u = np.where(rows == columns, 1.0, 2.0)
        variance_TM = (g_Te[:, rows] * g_Te[:, columns] * twice_u) @ covariance_Mu.T.astype(float)
        deviation: Array = np.sqrt(np.maximum(variance_TM, 0)).astype(np.float32)
        return deviation

    def arrays(self) -> dict[str, Array]:
        """Its numbers, by name."""
        text = {_TEXT + name: value for name, value in self.text.arrays().items()}
        return {**text, "to_public": self.to_public_ke.astype(np.float32)}

    def settings(self) -> dict[str, Any]:
        """Kernel, offsets and calibration, as plain JSON values."""
        return {
            "kernel": self.text.config.to_dict(),
            "with_offset": self.with_offset.tolist(),
            "own_offset": self.own_offset,
            "intercept": self.calibration.intercept,
            "slope": self.calibration.slope,
        }

    @classmethod
    def load(
        cls, arrays: Mapping[str, Array], settings: Mapping[str, Any], encoder: str
    ) -> "FactorPredictor":
        """From what `arrays` and `settings` gave.

        Raises:
            KeyError: something is missing.
            TypeError: unknown settings of the kernel.
        """
        text = {n.removeprefix(_TEXT): a for n, a in arrays.items() if n.startswith(_TEXT)}
        return cls(
            TextMap.from_arrays(KernelConfig(**settings["kernel"]), text),
            np.asarray(settings["with_offset"], dtype=np.int64),
            float(settings["own_offset"]),
            arrays["to_public"].astype(np.float64),
            Calibration(float(settings["intercept"]), float(settings["slope"])),
            encoder,
        )
