"""What a published snapshot holds for routing, read without torch or a sentence encoder."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from locus import snapshots
from locus.bank import Array
from locus.routing import predictor as predictors
from locus.routing.policy import Floats
from locus.routing.predictor import Predictor, PreparedPool
from locus.routing.topics import Topics


@dataclass(frozen=True)
class Pool:
    """What a snapshot says about routing.

    Attributes:
        snapshot_id: the snapshot.
        encoder_name: the sentence encoder, as the manifest names it.
        predictor: P(correct) from embeddings and query features.
        models: the published embeddings, one row a model, with prices.
        stand_ins: who answers in a model's place, nearest first.
        topics: learned topics; None where it has none.
    """

    snapshot_id: str
    encoder_name: str
    predictor: Predictor
    models: pl.DataFrame
    stand_ins: dict[str, list[str]]
    topics: Topics | None

    @classmethod
    def read(cls, published: Path) -> "Pool":
        """Read the current snapshot.

        Raises:
            SnapshotError: nothing is published.
            PredictorError: the predictor is unreadable or fails its own test vectors.
        """
        snapshot = snapshots.current(published)
        routing = snapshot.folder / "routing"
        predictor = predictors.read(routing / "predictor")
        models = pl.read_parquet(snapshot.folder / "similarity" / "embeddings.parquet")
        table = json.loads((routing / "table.json").read_text("utf-8"))
        return cls(
            snapshot.snapshot_id,
            snapshot.manifest["lineage"]["encoder_name"],
            predictor,
            models,
            table["stand_ins"],
            Topics.read(routing, table),
        )

    def prepare(self) -> PreparedPool:
        """The predictor with the published models folded in."""
        return self.predictor.prepare(*places(self.models))


def places(models: pl.DataFrame) -> tuple[Array, Array | None]:
    """Embeddings [M, d] and packed covariances [M, u] of published models; None where unknown."""
    z_Md = np.asarray(models["vector"].to_list(), dtype=np.float32)
    covariance_Mu: Array | None = None
    if "covariance" in models.columns and not models["covariance"].null_count():
        covariance_Mu = np.asarray(models["covariance"].to_list(), dtype=np.float32)
    return z_Md, covariance_Mu


def prices(models: pl.DataFrame) -> Floats:
    """One price a model, [M]: USD for a million tokens read, plus a million written if known.

    NaN where the price of reading is unknown.
    """
    read, written = (
        models[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        for name in ("price_in_usd_per_mtok", "price_out_usd_per_mtok")
    )
    return np.asarray(read + np.nan_to_num(written, nan=0.0))
