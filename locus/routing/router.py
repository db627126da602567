"""Routing a query never seen, from a published snapshot alone."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from locus import snapshots
from locus.encoding import TextEncoder, encoder_identity
from locus.encoding.surface import surface
from locus.routing import predictor as predictors
from locus.routing.predictor import PreparedPool


class RoutingError(RuntimeError):
    """A query that can't be routed; the message says why and what to do."""


@dataclass(frozen=True)
class Choice:
    """One candidate for a query.

    Attributes:
        rank: 1 is best.
        model_id: the model.
        p_correct: predicted probability that it answers correctly.
        price_in_usd_per_mtok: its price for a million tokens read; None where unknown.
        stand_ins: who answers in its place, nearest first.
    """

    rank: int
    model_id: str
    p_correct: float
    price_in_usd_per_mtok: float | None
    stand_ins: list[str]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


class Router:
    """Ranks a published pool for queries it has never seen; see `Router.load`."""

    def __init__(
        self,
        snapshot_id: str,
        pool: PreparedPool,
        models: pl.DataFrame,
        encoder: TextEncoder,
        stand_ins: dict[str, list[str]],
    ) -> None:
        self.snapshot_id = snapshot_id
        self.models: list[str] = models["model_id"].to_list()
        self._prices = models["price_in_usd_per_mtok"].to_list()
        self._pool = pool
        self._encoder = encoder
        self._stand_ins = stand_ins

    @classmethod
    def load(cls, published: Path, encoder: str | None = None) -> "Router":
        """Load the current snapshot.

        Args:
            published: the published folder, the one with ``current.json``.
            encoder: sentence encoder to use; None takes the one that is named in the manifest.

        Raises:
            SnapshotError: nothing is published.
            PredictorError: the predictor is unreadable or fails its own test vectors.
            RoutingError: the sentence encoder is not the one that the predictor was trained with.
        """
        snapshot = snapshots.current(published)
        predictor = predictors.read(snapshot.folder / "routing" / "predictor")
        name = encoder or snapshot.manifest["lineage"]["encoder_name"]
        if encoder_identity(name) != predictor.encoder:
            raise RoutingError(
                f"snapshot {snapshot.snapshot_id} was made with the sentence encoder "
                f"{predictor.encoder!r}, and {name!r} is {encoder_identity(name)!r}: install the "
                "same one, or publish anew"
            )
        models = pl.read_parquet(snapshot.folder / "similarity" / "embeddings.parquet")
        z_Md = np.asarray(models["vector"].to_list(), dtype=np.float32)
        table = json.loads((snapshot.folder / "routing" / "table.json").read_text("utf-8"))
        return cls(
            snapshot.snapshot_id,
            predictor.prepare(z_Md),
            models,
            TextEncoder(name),
            table["stand_ins"],
        )

    def route(
        self,
        texts: Sequence[str],
        k: int = 3,
        exclude: Sequence[str] = (),
    ) -> list[list[Choice]]:
        """Rank the pool for each query by predicted correctness.

        Args:
            texts: T queries.
            k: candidates to return.
            exclude: models that may not answer (down, or not wanted).

        Returns:
            For each query the best k candidates, best first.

        Raises:
            RoutingError: an empty query, an unknown model in ``exclude``, or nobody left.
        """
        if not all(text.strip() for text in texts):
            raise RoutingError("a query is empty: give the text that the model will be asked")
        unknown = sorted(set(exclude) - set(self.models))
        if unknown:
            raise RoutingError(
                f"{unknown[0]!r} is not in snapshot {self.snapshot_id} (`locus models list`)"
            )
        allowed = [i for i, model in enumerate(self.models) if model not in set(exclude)]
        if not allowed:
            raise RoutingError("every model of the pool is excluded: nobody is left to answer")
        x_Tf = np.concatenate([self._encoder.encode(texts), surface(texts)], axis=1)
        p_TM = self._pool.probabilities(x_Tf)[:, allowed]
        order_TM = np.argsort(-p_TM, axis=1, kind="stable")[:, :k]
        return [
            [
                Choice(
                    rank,
                    self.models[allowed[column]],
                    float(p_TM[row, column]),
                    self._prices[allowed[column]],
                    [
                        m
                        for m in self._stand_ins.get(self.models[allowed[column]], [])
                        if m not in exclude
                    ],
                )
                for rank, column in enumerate(order_TM[row].tolist(), start=1)
            ]
            for row in range(len(texts))
        ]
