"""Maps of models: what a checkpoint holds, whichever method made it.

A map places models by their scores and gives the predictor that reads those places. Two kinds:
`FactorMap`, the default, and `AttentionMap`, LOCUS as published.

Shape letters: M models, Q queries, f width of query features (encoding, then surface features),
p of the encoding, d of an embedding, u of a packed covariance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from locus.bank import Array, Queries
from locus.embedding.calibration import Calibration
from locus.embedding.config import ArchitectureConfig
from locus.embedding.factors import FactorConfig, FactorPlacement
from locus.embedding.items import Items
from locus.embedding.textmap import TextMap
from locus.encoding.surface import SURFACE
from locus.routing.attention_predictor import AttentionPredictor
from locus.routing.factor_predictor import FactorPredictor, pack
from locus.routing.predictor import Predictor

# Scores placed at a time, of this many models at least.
_BLOCK = 1 << 20
_LEAST_MODELS = 256


@dataclass(frozen=True)
class Embedded:
    """Models on a map.

    Attributes:
        z_Md: embeddings.
        uncertainty_M: standard deviation of the predicted score due to the place, a root mean
            square over the bank's queries; None where the map knows none.
        covariance_Mu: packed covariances of the embeddings; None where the map knows none.
    """

    z_Md: Array
    uncertainty_M: Array | None = None
    covariance_Mu: Array | None = None


class ModelMap(Protocol):
    """What a checkpoint holds."""

    kind: ClassVar[str]

    def embed(self, ids: Sequence[str], x_Qf: Array, values_MQ: Array) -> Embedded:
        """Place models by their scores on queries, named by ``ids``; NaN where not asked.

        Raises:
            ValueError: a model without any score.
        """
        ...

    def predictor(self, encoder: str) -> Predictor:
        """The predictor that reads the places."""
        ...

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Its numbers, by name."""
        ...

    def settings(self) -> dict[str, Any]:
        """Everything else, as plain JSON values."""
        ...


def _refuse_unscored(values_MQ: Array) -> None:
    empty = np.flatnonzero(np.isnan(values_MQ).all(axis=1)).tolist()
    if empty:
        raise ValueError(f"models at rows {empty} have no scores: they can't be placed")


def queries_of(x_Qf: Array, benchmark: Sequence[str]) -> Queries:
    """Queries from stored features: the encoding, then the surface features."""
    p = x_Qf.shape[1] - len(SURFACE)
    return Queries(x_Qf[:, :p], tuple(benchmark), x_Qf[:, p:])


@dataclass(frozen=True)
class FactorMap:
    """Closed-form placement (`locus.embedding.factors`).

    Attributes:
        placement: fitted.
        ids: the bank's queries, in the order in which the placement knows them.
    """

    placement: FactorPlacement
    ids: tuple[str, ...]

    kind: ClassVar[str] = "factors"

    def embed(self, ids: Sequence[str], x_Qf: Array, values_MQ: Array) -> Embedded:
        """Place models; queries that came after the bank count by what their texts tell."""
        _refuse_unscored(values_MQ)
        column = {query: i for i, query in enumerate(self.ids)}
        known = np.array([query in column for query in ids], dtype=bool)
        where = np.array([column[q] for q, k in zip(ids, known, strict=True) if k], dtype=np.int64)
        beyond = None if known.all() else queries_of(x_Qf[~known], ("",) * int((~known).sum()))
        # A block at a time: what is computed on the way takes several times the scores' memory.
        size = max(_LEAST_MODELS, _BLOCK // max(len(self.ids) + len(ids), 1))
        parts = []
        for start in range(0, max(len(values_MQ), 1), size):
            values_BQ = values_MQ[start : start + size]
            on_bank = np.full((len(values_BQ), len(self.ids)), np.nan, dtype=np.float32)
            on_bank[:, where] = values_BQ[:, known]
            parts.append(
                self._placed(np.concatenate([on_bank, values_BQ[:, ~known]], axis=1), beyond)
            )
        return Embedded(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def _placed(self, values_BQ: Array, beyond: Queries | None) -> tuple[Array, Array, Array]:
        """Embeddings, uncertainties and packed covariances of some models."""
        placed = self.placement.place(values_BQ, beyond)
        basis_ke = self.placement.basis_kd
        cov_Bee = np.einsum("ke,bkl,lf->bef", basis_ke, placed.cov_Bkk, basis_ke, optimize=True)
        uncertainty = np.sqrt(np.trace(cov_Bee, axis1=1, axis2=2)).astype(np.float32)
        return self.placement.vectors(placed), uncertainty, pack(cov_Bee)

    def predictor(self, encoder: str) -> Predictor:
        """The predictor that reads the places."""
        return FactorPredictor.of(self.placement, encoder)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Items, text map, relatives; float64 where another precision would move places."""
        p = self.placement
        text = {f"text.{name}": value for name, value in p.text.arrays().items()}
        return {
            **text,
            "items.mean": p.items.mean_Q,
            "items.factors": p.items.factors_Qk,
            "items.noise": p.items.noise_Q,
            "basis": p.basis_kd,
            "relatives.scores": p.relatives_MQ,
            "relatives.weights": p.relatives_Mk,
            "relatives.prior": p.kinship_prior_c,
        }

    def settings(self) -> dict[str, Any]:
        """Configuration, query ids and calibrations."""
        p = self.placement
        return {
            "config": p.config.to_dict(),
            "queries": list(self.ids),
            "with_offset": p.with_offset.tolist(),
            "calibration": [p.calibration.intercept, p.calibration.slope],
            "bank_calibration": [p.bank_calibration.intercept, p.bank_calibration.slope],
        }

    @classmethod
    def load(cls, arrays: Mapping[str, NDArray[Any]], settings: Mapping[str, Any]) -> Self:
        """From what `arrays` and `settings` gave.

        Raises:
            KeyError: something is missing.
            TypeError: unknown settings.
            ValueError: arrays that don't fit one another.
        """
        p = FactorPlacement(FactorConfig.from_dict(settings["config"]))
        text = {n.removeprefix("text."): a for n, a in arrays.items() if n.startswith("text.")}
        p.text = TextMap.from_arrays(p.config.kernel, text)
        p.items = Items(arrays["items.mean"], arrays["items.factors"], arrays["items.noise"])
        p.basis_kd = arrays["basis"]
        p.relatives_MQ = arrays["relatives.scores"].astype(np.float32, copy=False)
        p.relatives_Mk = arrays["relatives.weights"]
        p.kinship_prior_c = arrays["relatives.prior"]
        p.with_offset = np.asarray(settings["with_offset"], dtype=np.int64)
        p.calibration = Calibration(*map(float, settings["calibration"]))
        p.bank_calibration = Calibration(*map(float, settings["bank_calibration"]))
        ids = tuple(map(str, settings["queries"]))
        n, k = len(ids), p.items.factors_Qk.shape[1]
        shapes = {
            "items.mean": (p.items.mean_Q.shape, (n,)),
            "items.factors": (p.items.factors_Qk.shape, (n, k)),
            "items.noise": (p.items.noise_Q.shape, (n,)),
            "basis": (p.basis_kd.shape[:1], (k,)),
            "relatives.scores": (p.relatives_MQ.shape[1:], (n,)),
            "relatives.weights": (p.relatives_Mk.shape, (len(p.relatives_MQ), k)),
        }
        for name, (found, wanted) in shapes.items():
            if found != wanted:
                raise ValueError(f"{name} has the shape {found}, not {wanted}")
        return cls(p, ids)


class AttentionMap:
    """LOCUS as published: attention encoder and predictor (`locus.embedding.network`)."""

    kind: ClassVar[str] = "attention"

    def __init__(self, network: Any) -> None:
        """Wrap a trained `locus.embedding.network.Locus`."""
        self.network = network

    def embed(self, ids: Sequence[str], x_Qf: Array, values_MQ: Array) -> Embedded:
        """Place models by one forward pass over their (encoding, score) pairs."""
        from locus.embedding.placement import embed

        phi_Qp = np.ascontiguousarray(x_Qf[:, : self.network.config.d_query])
        return Embedded(embed(self.network, phi_Qp, values_MQ))

    def predictor(self, encoder: str) -> Predictor:
        """The predictor that was trained with the encoder."""
        weights = {k: v.numpy() for k, v in self.network.predictor.state_dict().items()}
        return AttentionPredictor(weights, encoder)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The weights, by name."""
        return {k: v.detach().cpu().numpy() for k, v in self.network.state_dict().items()}

    def settings(self) -> dict[str, Any]:
        """The architecture."""
        return {"architecture": self.network.config.to_dict()}

    @classmethod
    def load(cls, arrays: Mapping[str, NDArray[Any]], settings: Mapping[str, Any]) -> Self:
        """From what `arrays` and `settings` gave.

        Raises:
            KeyError: something is missing.
            TypeError: unknown settings.
            RuntimeError: weights that don't fit the architecture.
        """
        import torch

        from locus.embedding.network import Locus

        network = Locus(ArchitectureConfig.from_dict(settings["architecture"]))
        network.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in arrays.items()})
        network.eval()
        return cls(network)


KINDS: dict[str, type[FactorMap] | type[AttentionMap]] = {
    FactorMap.kind: FactorMap,
    AttentionMap.kind: AttentionMap,
}
