"""From a query's text to what is known of the bank's queries: kernel ridge regression.

The kernel adds up what makes two questions alike: their sentence encodings (linear and Gaussian),
the benchmark they seem to be of, their surface (length and the like), and both of the latter
together, because length means something else in each benchmark.

Shape letters: Q bank queries, T targets, L landmarks, p width of an encoding, s surface features,
n benchmarks, j outputs.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from locus.bank import Array, Queries

Floats = NDArray[np.float64]

RIDGES = 2.0 ** np.arange(-1, 7)
# Up to this many queries each is a landmark of its own; beyond, a fixed random choice is.
MOST_LANDMARKS = 2000
# Where a map is one of many in learning a placement: a quarter of the time.
FEWER_LANDMARKS = 1000
_BLOCK = 2048


@dataclass(frozen=True)
class KernelConfig:
    """Weights of the kernel's parts; chosen by cross-fitting (docs/log.md).

    Attributes:
        linear: of the inner product of encodings.
        gaussian: of the Gaussian kernel of encodings.
        gamma: its inverse width, on unit vectors.
        benchmark: of agreeing soft benchmark memberships.
        sharpness: inverse temperature of those memberships.
        surface: of the Gaussian kernel of standardised surface features.
        surface_in_benchmark: of its product with the agreement of memberships.
        surface_gamma: inverse width, on the mean squared difference of features.
        ridge: penalty that is likeliest before any data.
        ridge_octaves: standard deviation of that belief, in factors of two.
    """

    linear: float = 1 / 12
    gaussian: float = 1 / 3
    gamma: float = 2.0
    benchmark: float = 5 / 6
    sharpness: float = 15.0
    surface: float = 0.1
    surface_in_benchmark: float = 0.5
    surface_gamma: float = 0.25
    ridge: float = 2.0
    ridge_octaves: float = 0.5

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class TextMap:
    """A fitted map; `fit` makes one, `arrays` and `from_arrays` carry it to disk and back.

    Attributes:
        config: the kernel.
        phi_Lp: encodings of the landmarks.
        surface_Ls: their standardised surface features; width 0 where the bank has none.
        centre_s: means that standardised them.
        scale_s: standard deviations that did.
        centroids_np: directions of the benchmarks, unit length.
        weights_Lj: from kernel values to outputs.
        mean_j: means of the outputs.
        error_j: mean squared leave-one-out errors of the outputs.
    """

    config: KernelConfig
    phi_Lp: Floats
    surface_Ls: Floats
    centre_s: Floats
    scale_s: Floats
    centroids_np: Floats
    weights_Lj: Floats
    mean_j: Floats
    error_j: Floats

    @classmethod
    def fit(
        cls,
        queries: Queries,
        targets_Qj: Floats,
        trust_Q: Floats,
        config: KernelConfig | None = None,
        landmarks: int = MOST_LANDMARKS,
    ) -> tuple[Self, Floats]:
        """Fit outputs known for the bank's queries.

        Each output has its own penalty: leave-one-out errors weigh the penalties of a grid
        against what is likely beforehand, and the solutions are averaged by those weights. A
        plain best one would follow the luck of a few hundred queries.

        Args:
            queries: the bank's.
            targets_Qj: outputs.
            trust_Q: weight of each query from 0 (nothing is known of it) to 1.
            config: the kernel.
            landmarks: most landmarks.

        Returns:
            The map, and for each query what it says without that query's own targets [Q, j].
        """
        config = config or KernelConfig()
        phi_Qp = queries.phi_Qp.astype(np.float64)
        if queries.surface_Qs is None:
            raw_Qs = np.zeros((len(queries), 0))
        else:
            raw_Qs = queries.surface_Qs.astype(np.float64)
        centre_s = raw_Qs.mean(0)
        scale_s = raw_Qs.std(0)
        scale_s[scale_s < 1e-6] = 1.0
        surface_Qs = (raw_Qs - centre_s) / scale_s
        rows = np.arange(len(queries))
        if len(rows) > landmarks:
            rows = np.sort(np.random.default_rng(0).permutation(rows)[:landmarks])
        mean_j = (trust_Q @ targets_Qj) / max(float(trust_Q.sum()), 1e-9)
        part = cls(
            config, phi_Qp[rows], surface_Qs[rows], centre_s, scale_s, _centroids(queries),
            np.zeros((len(rows), len(mean_j))), mean_j, np.zeros(len(mean_j)),
        )  # fmt: skip
        kernel_QL = part._kernel(phi_Qp, surface_Qs)
        weights_Lj, error_j, left_out_Qj = _ridge(
            kernel_QL, kernel_QL[rows], targets_Qj - mean_j, trust_Q, config
        )
        fitted = cls(
            config, part.phi_Lp, part.surface_Ls, centre_s, scale_s, part.centroids_np,
            weights_Lj, mean_j, error_j,
        )  # fmt: skip
        return fitted, mean_j + left_out_Qj

    def __call__(self, phi_Tp: Array, surface_Ts: Array | None) -> Floats:
        """Predicted outputs [T, j].

        Raises:
            ValueError: the bank had surface features and the targets have none, or the reverse.
        """
        width = self.surface_Ls.shape[1]
        given = 0 if surface_Ts is None else surface_Ts.shape[1]
        if given != width:
            raise ValueError(
                f"targets have {given} surface features and the bank has {width}: "
                "give both or neither (`locus.encoding.surface`)"
            )
        raw = np.zeros((len(phi_Tp), 0)) if surface_Ts is None else surface_Ts.astype(np.float64)
        standard = (raw - self.centre_s) / self.scale_s
        phi = phi_Tp.astype(np.float64)
        parts = [
            self._kernel(phi[i : i + _BLOCK], standard[i : i + _BLOCK]) @ self.weights_Lj
            for i in range(0, len(phi), _BLOCK)
        ]
        shape = (0, len(self.mean_j))
        return np.concatenate([np.zeros(shape), *parts]) + self.mean_j

    def memberships(self, phi_Tp: Array | Floats) -> Floats:
        """Soft benchmark memberships [T, n], rows adding up to 1."""
        logits = self.config.sharpness * np.asarray(phi_Tp, np.float64) @ self.centroids_np.T
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))

    def _kernel(self, phi_Tp: Floats, surface_Ts: Floats) -> Floats:
        c = self.config
        inner_TL = phi_Tp @ self.phi_Lp.T
        alike_TL = self.memberships(phi_Tp) @ self.memberships(self.phi_Lp).T
        near_TL = np.exp(-c.gamma * _squares(phi_Tp, self.phi_Lp, inner_TL))
        total = c.linear * inner_TL + c.gaussian * near_TL + c.benchmark * alike_TL
        width = surface_Ts.shape[1]
        if width:
            gap_TL = _squares(surface_Ts, self.surface_Ls, surface_Ts @ self.surface_Ls.T) / width
            total += (c.surface + c.surface_in_benchmark * alike_TL) * np.exp(
                -c.surface_gamma * gap_TL
            )
        return np.asarray(total)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Everything but the configuration, by name, float32."""
        named = asdict(self)
        return {k: v.astype(np.float32) for k, v in named.items() if k != "config"}

    @classmethod
    def from_arrays(cls, config: KernelConfig, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """From what `arrays` gave.

        Raises:
            KeyError: an array is missing.
        """
        names = [name for name in cls.__dataclass_fields__ if name != "config"]
        return cls(config, **{name: arrays[name].astype(np.float64) for name in names})


def one_hot(queries: Queries) -> Floats:
    """1 where a query is of a benchmark, [Q, n], benchmarks in alphabetical order."""
    names = sorted(set(queries.benchmark))
    labels = np.array(queries.benchmark)
    return np.stack([labels == name for name in names], axis=1).astype(np.float64)


def _centroids(queries: Queries) -> Floats:
    member_Qn = one_hot(queries)
    centres = (member_Qn.T @ queries.phi_Qp.astype(np.float64)) / member_Qn.sum(axis=0)[:, None]
    norms = np.linalg.norm(centres, axis=1, keepdims=True)
    return np.asarray(centres / np.maximum(norms, 1e-12))


def _squares(a_Nx: Floats, b_Lx: Floats, inner_NL: Floats) -> Floats:
    """Squared distances between rows."""
    squares = (a_Nx**2).sum(1)[:, None] + (b_Lx**2).sum(1)[None] - 2 * inner_NL
    return np.asarray(np.maximum(squares, 0))


def _ridge(
    kernel_QL: Floats, kernel_LL: Floats, y_Qj: Floats, trust_Q: Floats, config: KernelConfig
) -> tuple[Floats, Floats, Floats]:
    """Weighted kernel ridge regression on landmarks, averaged over penalties.

    Returns weights [L, j], mean squared leave-one-out errors [j], leave-one-out outputs [Q, j].

    With root C of the landmarks' kernel the features are ``kernel_QL @ C^-T``; all penalties and
    their leave-one-out errors follow from one eigendecomposition.
    """
    jitter = 1e-8 * float(np.trace(kernel_LL)) / len(kernel_LL)
    root_LL = np.linalg.cholesky(kernel_LL + jitter * np.eye(len(kernel_LL)))
    features_QL = np.linalg.solve(root_LL, kernel_QL.T).T
    weighted_QL = features_QL * trust_Q[:, None]
    power_L, axes_LL = np.linalg.eigh(features_QL.T @ weighted_QL)
    power_L = np.maximum(power_L, 0)
    turned_QL = features_QL @ axes_LL
    onto_Lj = (turned_QL * trust_Q[:, None]).T @ y_Qj
    n = max(float(trust_Q.sum()), 1e-9)
    evidence, solutions, errors, left_out = [], [], [], []
    for ridge in RIDGES:
        solution_Lj = onto_Lj / (power_L + ridge)[:, None]
        leverage_Q = (turned_QL**2 / (power_L + ridge)).sum(1) * trust_Q
        fit_Qj = turned_QL @ solution_Lj
        gap_Qj = (y_Qj - fit_Qj) / np.maximum(1 - leverage_Q, 1e-6)[:, None]
        error_j = np.maximum(trust_Q @ gap_Qj**2 / n, 1e-300)
        belief = ((np.log2(ridge) - np.log2(config.ridge)) / config.ridge_octaves) ** 2
        evidence.append(-n / 2 * np.log(error_j) - belief / 2)
        solutions.append(solution_Lj)
        errors.append(error_j)
        left_out.append(y_Qj - gap_Qj)
    weight_rj = np.exp(np.array(evidence) - np.max(evidence, axis=0))
    weight_rj /= weight_rj.sum(0)
    mixed_Lj = np.einsum("rlj,rj->lj", np.array(solutions), weight_rj)
    weights_Lj = np.linalg.solve(root_LL.T, axes_LL @ mixed_Lj)
    return (
        np.asarray(weights_Lj),
        np.asarray((np.array(errors) * weight_rj).sum(0)),
        np.einsum("rqj,rj->qj", np.array(left_out), weight_rj),
    )
