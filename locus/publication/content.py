"""What a snapshot is made from, and what its build found out."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from locus.publication.emit.endpoints import Endpoint
from locus.publication.limits import DEFINITIONS, LIMITS
from locus.routing.bounds import Calibrated, Check
from locus.routing.predictor import Predictor
from locus.routing.quality import Quality
from locus.similarity import Layout
from locus.snapshots import Snapshot

Array = NDArray[np.float32]


@dataclass(frozen=True)
class SnapshotContent:
    """Everything that a snapshot is made from.

    Shape letters: M placed models, T reference queries, d width of an embedding.

    Attributes:
        created_at: UTC time.
        models: M rows: model_id, revision, org, family, params_b, price_in_usd_per_mtok,
            price_out_usd_per_mtok, n_scores.
        z_Md: their embeddings, rows as in ``models``.
        reference: T reference queries: query_id, task, split, text.
        x_Tf: their features: encoding, then surface features.
        scores: observed scores of all splits: model_id, query_id, task, split, score.
        cost: model_id, cost_usd, latency_ms: means per answered query.
        predictor: the predictor.
        lineage: checkpoint, encoder, versions and whatever else leads back to the origin.
        new_models: ids added since the last snapshot.
        uncertainty_M: how unsure each place is, in units of P(correct); None where unknown.
        covariance_Mu: packed covariances of the places; None where unknown.
        endpoints: addresses of models, as far as the registry gives them.
        layouts: layouts of the report's map beside PCA.
        parent: the snapshot that is current until this one is; None before the first.
    """

    created_at: datetime
    models: pl.DataFrame
    z_Md: Array
    reference: pl.DataFrame
    x_Tf: Array
    scores: pl.DataFrame
    cost: pl.DataFrame
    predictor: Predictor
    lineage: dict[str, Any]
    new_models: list[str] = field(default_factory=list)
    uncertainty_M: Array | None = None
    covariance_Mu: Array | None = None
    endpoints: list[Endpoint] = field(default_factory=list)
    parent: Snapshot | None = None
    layouts: Sequence[Layout] = ()


@dataclass(frozen=True)
class BuildFacts:
    """What a build found out; goes into the manifest and to the people who ran it."""

    quality: list[Quality]
    calibration_error: float | None
    n_test_queries: int
    counts: dict[str, int]
    correlation: dict[str, float | int | None]
    bound: Calibrated | None = None
    bound_check: Check | None = None

    def to_manifest(self, content: SnapshotContent) -> dict[str, Any]:
        """The manifest's facts, before files and hashes."""
        return {
            "parent": content.lineage.get("parent"),
            "lineage": content.lineage,
            "counts": self.counts,
            "routing_quality": [q.to_dict() for q in self.quality],
            "calibration_error": self.calibration_error,
            "lower_bound": None if self.bound is None else asdict(self.bound),
            "lower_bound_check": None if self.bound_check is None else self.bound_check.to_dict(),
            "distance_against_disagreement": self.correlation,
            "definitions": DEFINITIONS,
            "limits": LIMITS,
        }
