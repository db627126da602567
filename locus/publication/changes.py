"""What differs between two snapshots: who is new, gone, moved or ranked otherwise, and how good."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from locus.publication.content import BuildFacts, SnapshotContent
from locus.snapshots import Snapshot


@dataclass(frozen=True)
class Changes:
    """From an old snapshot to a new one.

    Attributes:
        old: id of the old one.
        new: id of the new one.
        same_map: whether one map made both; without it places can't be compared.
        counts: figures of both by name, such as models and scores: (old, new).
        added: models that only the new one has.
        gone: models that only the old one has.
        revised: models of another revision, or placed by another number of scores.
        moved: model_id, moved (Euclidean distance between its two places), n_scores_old,
            n_scores_new, doubt_old, doubt_new (uncertainty of its places, in the same unit where
            the method knows one); the farthest first. Empty where ``same_map`` is false.
        flips: bucket, old_best, new_best, p_old, p_new (of the new best, before and now): buckets
            whose first model is another one.
        ranks: model_id, rank_old, rank_new, p_old, p_new in the bucket ``all``, the largest change
            of rank first; models that both have.
        quality: hit@1 by method: (old, new); methods that only one of them has are left out.
    """

    old: str
    new: str
    same_map: bool
    counts: dict[str, tuple[int, int]]
    added: list[str]
    gone: list[str]
    revised: list[str]
    moved: pl.DataFrame
    flips: pl.DataFrame
    ranks: pl.DataFrame
    quality: dict[str, tuple[float, float]]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            **vars(self),
            "moved": self.moved.to_dicts(),
            "flips": self.flips.to_dicts(),
            "ranks": self.ranks.to_dicts(),
        }


@dataclass(frozen=True)
class Side:
    """What is compared of a snapshot, published (`side`) or still being built.

    Attributes:
        snapshot_id: its id; how it is called, for one that has none yet.
        checkpoint_id: the map that made it; None where the manifest doesn't say.
        counts: figures by name, such as models and scores.
        hits: hit@1 by method.
        places: model_id, revision, n_scores, vector, uncertainty (NULL where unknown).
        table: bucket, rank, model_id, p_correct; more columns are left alone.
    """

    snapshot_id: str
    checkpoint_id: str | None
    counts: Mapping[str, int]
    hits: Mapping[str, float]
    places: pl.DataFrame
    table: pl.DataFrame


def changes(old: Snapshot, new: Snapshot) -> Changes:
    """Compare two snapshots by their published files alone.

    Raises:
        OSError: a file of one of them is missing.
    """
    return compare(side(old), side(new))


def side(snapshot: Snapshot) -> Side:
    """Read what is compared of a published snapshot.

    Raises:
        OSError: a file of it is missing.
    """
    manifest = snapshot.manifest
    places = pl.read_parquet(snapshot.folder / "similarity" / "embeddings.parquet")
    if "uncertainty" not in places.columns:
        places = places.with_columns(uncertainty=pl.lit(None, pl.Float32))
    return Side(
        snapshot.snapshot_id,
        manifest.get("lineage", {}).get("checkpoint_id"),
        manifest.get("counts", {}),
        {one["method"]: one["hit1"] for one in manifest.get("routing_quality", [])},
        places.select("model_id", "revision", "n_scores", "vector", "uncertainty"),
        pl.read_parquet(
            snapshot.folder / "routing" / "table.parquet",
            columns=["bucket", "rank", "model_id", "p_correct"],
        ),
    )


def being_built(content: SnapshotContent, facts: BuildFacts, table: pl.DataFrame) -> Side:
    """The side of a snapshot that is still being built: it has no id and no manifest yet.

    Args:
        content: what it is made from.
        facts: what its build found out.
        table: its routing table.
    """
    unknown = [None] * content.models.height
    uncertainty = unknown if content.uncertainty_M is None else content.uncertainty_M.tolist()
    return Side(
        f"{content.created_at:%Y-%m-%d %H:%M} UTC",
        content.lineage.get("checkpoint_id"),
        facts.counts,
        {one.method: one.hit1 for one in facts.quality},
        content.models.select("model_id", "revision", "n_scores").with_columns(
            vector=pl.Series(content.z_Md.tolist(), dtype=pl.List(pl.Float32)),
            uncertainty=pl.Series(uncertainty, dtype=pl.Float32),
        ),
        table,
    )


def compare(old: Side, new: Side) -> Changes:
    """Compare two sides, of which the new one may not be published yet."""
    both = old.places.join(new.places, on="model_id", suffix="_new")
    # Two maps that nobody has named may be different ones.
    same_map = old.checkpoint_id is not None and old.checkpoint_id == new.checkpoint_id
    revised = both.filter(
        (pl.col("revision") != pl.col("revision_new"))
        | (pl.col("n_scores") != pl.col("n_scores_new"))
    )
    flips, ranks = _ranked(old.table, new.table)
    before, after = (set(one.places["model_id"]) for one in (old, new))
    return Changes(
        old.snapshot_id,
        new.snapshot_id,
        same_map,
        _both(old.counts, new.counts),
        sorted(after - before),
        sorted(before - after),
        sorted(revised["model_id"]),
        _moved(both if same_map else both.clear()),
        flips,
        ranks,
        _both(old.hits, new.hits),
    )


def _both(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {name: (old[name], new[name]) for name in old if name in new}


def _moved(both: pl.DataFrame) -> pl.DataFrame:
    if both.is_empty():
        distance = np.empty(0)
    else:
        old, new = (np.asarray(both[c].to_list(), np.float64) for c in ("vector", "vector_new"))
        distance = np.linalg.norm(new - old, axis=1)
    return (
        both.select(
            "model_id",
            n_scores_old="n_scores",
            n_scores_new="n_scores_new",
            doubt_old="uncertainty",
            doubt_new="uncertainty_new",
        )
        .with_columns(moved=pl.Series(distance, dtype=pl.Float64))
        .filter(pl.col("moved") > 0)
        .sort("moved", "model_id", descending=[True, False])
        .select("model_id", "moved", "n_scores_old", "n_scores_new", "doubt_old", "doubt_new")
    )


def _ranked(old: pl.DataFrame, new: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    first_old, first_new = (
        t.filter(rank=1).select("bucket", best="model_id", p="p_correct") for t in (old, new)
    )
    before = old.select("bucket", new_best="model_id", p_old="p_correct")
    flips = (
        first_old.join(first_new, on="bucket", suffix="_new")
        .filter(pl.col("best") != pl.col("best_new"))
        .select("bucket", old_best="best", new_best="best_new", p_new="p_new")
        .join(before, on=["bucket", "new_best"], how="left")
        .select("bucket", "old_best", "new_best", "p_old", "p_new")
        .sort("bucket")
    )
    overall = [t.filter(bucket="all").drop("bucket") for t in (old, new)]
    ranks = (
        overall[0]
        .join(overall[1], on="model_id", suffix="_new")
        .select(
            "model_id",
            rank_old="rank",
            rank_new="rank_new",
            p_old="p_correct",
            p_new="p_correct_new",
        )
        .sort((pl.col("rank_old") - pl.col("rank_new")).abs(), "rank_new", descending=[True, False])
    )  # fmt: skip
    return flips, ranks
