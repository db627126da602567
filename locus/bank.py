"""A bank of scored queries, and what every method does with it: learn, place models, predict.

Shape letters: M training models, B models to place, Q bank queries, T target queries, p width of a
query encoding.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Queries:
    """Some queries, as a method sees them.

    Attributes:
        phi_Qp: encodings of their texts, float32.
        benchmark: the benchmark of each; a method says in `needs_benchmark` if it reads that of
            target queries, which a router in use does not know.
        surface_Qs: what a sentence encoding loses, such as length (`locus.encoding.surface`);
            None where the texts are not at hand.
    """

    phi_Qp: Array
    benchmark: tuple[str, ...]
    surface_Qs: Array | None = None

    def __post_init__(self) -> None:
        """Refuse encodings, benchmarks and surface features of different length."""
        if len(self.phi_Qp) != len(self.benchmark):
            raise ValueError(f"{len(self.phi_Qp)} encodings for {len(self.benchmark)} queries")
        if self.surface_Qs is not None and len(self.surface_Qs) != len(self.benchmark):
            raise ValueError(
                f"{len(self.surface_Qs)} rows of surface features for {len(self.benchmark)} queries"
            )

    def __len__(self) -> int:
        """How many queries."""
        return len(self.benchmark)

    def take(self, rows: NDArray[np.int64]) -> "Queries":
        """Some of the queries, in the order of ``rows``."""
        surface = None if self.surface_Qs is None else self.surface_Qs[rows]
        return Queries(self.phi_Qp[rows], tuple(self.benchmark[i] for i in rows), surface)


@dataclass(frozen=True)
class Bank:
    """What a method may learn from; every score in it is a label that was paid for.

    Attributes:
        queries: Q training queries.
        values_MQ: scores of the training models, NaN where not asked.
        val_queries: validation queries: they may steer (early stops, penalties), not teach.
        val_values_MV: their scores.
    """

    queries: Queries
    values_MQ: Array
    val_queries: Queries
    val_values_MV: Array

    @property
    def n_labels(self) -> int:
        """Scores on training queries."""
        return int((~np.isnan(self.values_MQ)).sum())


class Method(Protocol):
    """A way to predict who answers what.

    Attributes:
        name: as it stands in tables.
        needs_benchmark: whether `predict` reads the benchmark of target queries.
    """

    name: str
    needs_benchmark: bool

    def fit(self, bank: Bank, seed: int) -> None:
        """Learn from the bank. Deterministic for a seed."""
        ...

    def place(self, values_BQ: Array) -> Any:
        """Place models by their scores on the bank's training queries, NaN where not asked.

        Models may be those of the bank or new ones; nothing is learned from them that would
        change another model's place.

        Returns:
            Whatever `predict` needs.
        """
        ...

    def predict(self, placed: Any, targets: Queries) -> Array:
        """P(correct) of each placed model on each target query, float32 [B, T], within [0, 1]."""
        ...


@runtime_checkable
class Embeds(Protocol):
    """A method whose placement is a point on a map."""

    def vectors(self, placed: Any) -> Array:
        """Embeddings of the placed models, float32 [B, d]; Euclidean distances mean something."""
        ...


@runtime_checkable
class KnowsBank(Protocol):
    """A method that makes use of what other models answered to a query of the bank."""

    def predict_bank(self, placed: Any, columns: NDArray[np.int64]) -> Array:
        """P(correct) on the bank's training queries ``columns``, float32 [B, len(columns)]."""
        ...


@runtime_checkable
class Uncertain(Protocol):
    """A method that says how sure it is."""

    def spread(self, placed: Any, targets: Queries) -> Array:
        """Posterior standard deviation of P(correct) due to the model's place, float32 [B, T]."""
        ...
