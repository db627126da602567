"""Publish: build a snapshot beside the current one, check it, switch one pointer."""

import json
import logging
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE

from locus.durable import sync
from locus.gates.facts import GateFailedError
from locus.publication.build import build
from locus.publication.checks import CheckFailedError
from locus.publication.content import SnapshotContent
from locus.publication.emit.endpoints import Endpoint, endpoints
from locus.registry import load_registry
from locus.selection import spread_order
from locus.snapshots import (
    SNAPSHOTS,
    Snapshot,
    SnapshotError,
    building_folder,
    current,
    make_current,
    seal,
    verify,
)
from tasks.checks import COPY, check_built
from tasks.features import query_features
from tasks.lineage import git_sha, versions
from tasks.lock import while_held
from tasks.score import covariances, load_predictor
from tasks.settings import Settings
from tasks.snapshots import prune
from warehouse.store import Warehouse

log = logging.getLogger("locus.pipeline")

BLOCKED = ".blocked"
KEPT_BLOCKED = 3
"""Snapshots that a check or a gate did not let through which are kept to be looked at."""

_BLOCKED_NAME = re.compile(r"\d{8}T\d{12}Z-[0-9a-f]{10}\.blocked")


@task(name="publish", cache_policy=NO_CACHE)
def publish_snapshot(
    settings: Settings, checkpoint_id: str, gate: Callable[[Snapshot], None] | None = None
) -> Snapshot:
    """Build, check and publish a snapshot of the warehouse as it is now.

    A failure anywhere leaves the old snapshot current and removes what was built; one that a check
    of its files or a gate did not let through is set aside, so that somebody can look at it.

    Args:
        settings: the pipeline's settings.
        checkpoint_id: the map.
        gate: called with the snapshot before readers see it (`tasks.gates.gatekeeper`).

    Raises:
        SnapshotError: bytes changed while it was built.
        CheckFailedError: a file of what was built is not as it must be.
        GateFailedError: the gate did not let it through.
    """
    building = building_folder(settings.published)
    try:
        created_at = datetime.now(UTC)
        content, held = _content(settings, checkpoint_id, created_at, building / COPY)
        facts = build(content, building)
        snapshot = seal(building, facts.to_manifest(content), created_at)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    try:
        snapshot = verify(snapshot.folder, snapshot.manifest_sha256)
        check_built(snapshot, content.parent)
        if gate is not None:
            gate(snapshot)
        # A run that has lost its lease must not switch what readers see.
        with while_held(settings):
            _record(settings, snapshot, checkpoint_id, held)
            make_current(settings.published, snapshot)
    except GateFailedError as error:
        said = {"results": [one.to_dict() for one in error.results]}
        _set_aside(settings.published, snapshot, error, "gates.json", said)
        raise
    except CheckFailedError as error:
        _set_aside(settings.published, snapshot, error, "checks.json", {"file": error.file})
        reason = (
            f"{error.reason}. It is not published, the old one stays. What was built is kept in "
            f"{blocked_folder(snapshot)}: look at this file there, mend the cause, then "
            "`locus publish`"
        )
        raise CheckFailedError(error.snapshot_id, error.file, reason) from error
    except Exception:
        shutil.rmtree(snapshot.folder, ignore_errors=True)
        raise
    log.info("published %s", snapshot.snapshot_id)
    try:
        prune(settings)
    except OSError as error:
        # What is published is published; the next publication tries again.
        log.error("old snapshots can't be removed: %s", error)
    return snapshot


def parent_snapshot(published: Path) -> Snapshot | None:
    """The current snapshot; None before the first."""
    try:
        return current(published)
    except SnapshotError:
        return None


def blocked_folder(snapshot: Snapshot) -> Path:
    """Where a snapshot lies that a check or a gate did not let through."""
    return snapshot.folder.with_name(snapshot.folder.name + BLOCKED)


def is_blocked(published: Path) -> bool:
    """Whether a snapshot newer than the current one was not let through.

    Then there is something to publish, though no score is new.
    """
    blocked = _blocked(published)
    parent = parent_snapshot(published)
    # Names begin with the time.
    return bool(blocked) and (parent is None or blocked[-1].name > parent.folder.name)


def is_behind(settings: Settings, checkpoint_id: str) -> bool:
    """Whether the warehouse holds what the current snapshot lacks.

    So it is after a run that was killed between recording or placing and publishing: for the next
    one nothing is new, and yet nobody has seen it.
    """
    now = parent_snapshot(settings.published)
    if now is None:
        return True
    created_at = datetime.fromisoformat(now.manifest["created_at"])
    with Warehouse.open(settings.warehouse) as warehouse:
        return warehouse.snapshots.is_behind(now.snapshot_id, created_at, checkpoint_id)


def _blocked(published: Path) -> list[Path]:
    """Folders that were set aside, the oldest first."""
    folder = published / SNAPSHOTS
    if not folder.is_dir():
        return []
    return sorted(f for f in folder.iterdir() if _BLOCKED_NAME.fullmatch(f.name))


def _set_aside(
    published: Path, snapshot: Snapshot, error: Exception, name: str, said: dict[str, Any]
) -> None:
    """Keep what was built under another name, with what was said of it; the newest few only."""
    text = json.dumps({"message": str(error), **said}, indent=1) + "\n"
    (snapshot.folder / name).write_text(text, encoding="utf-8")
    kept = blocked_folder(snapshot)
    snapshot.folder.rename(kept)
    sync(kept.parent)
    for old in _blocked(published)[:-KEPT_BLOCKED]:
        shutil.rmtree(old, ignore_errors=True)
    log.error("%s", error)


def _new_models(parent: Snapshot | None, models: list[str]) -> list[str]:
    """Models that the current snapshot doesn't have; none if this is the first one."""
    if parent is None:
        return []
    path = parent.folder / "similarity" / "embeddings.parquet"
    known = pl.read_parquet(path, columns=["model_id"])
    return sorted(set(models) - set(known["model_id"]))


def _content(
    settings: Settings, checkpoint_id: str, created_at: datetime, copy: Path
) -> tuple[SnapshotContent, str]:
    """What is to be published, and what the warehouse held then; its copy goes to ``copy``."""
    identity = settings.encoder_identity
    with Warehouse.open(settings.warehouse) as warehouse:
        embeddings = warehouse.vectors.embeddings(checkpoint_id).sort("model_id")
        models = embeddings.select("model_id", "revision", "n_scores").join(
            warehouse.catalogue.models(), on="model_id", how="left", maintain_order="left"
        )
        bank = warehouse.catalogue.queries(columns=["query_id", "task", "split"])
        scores = warehouse.scores.training_scores(models=models["model_id"].to_list())
        cost = warehouse.scores.mean_cost()
        reference = reference_sample(bank, settings.reference_queries)
        ids, x_Tf = query_features(warehouse, identity, reference["query_id"].to_list())
        texts = warehouse.catalogue.queries(ids=ids, columns=["query_id", "text"])
        # Here, while nobody else can write: an import may add scores as soon as it is closed.
        held = warehouse.snapshots.held(checkpoint_id)
        warehouse.snapshots.copy_to(copy)
    reference = (
        pl.DataFrame({"query_id": ids})
        .join(reference, on="query_id", how="left", maintain_order="left")
        .join(texts, on="query_id", how="left", maintain_order="left")
    )
    parent = parent_snapshot(settings.published)
    lineage: dict[str, Any] = {
        "parent": parent.snapshot_id if parent else None,
        "checkpoint_id": checkpoint_id,
        "encoder": identity,
        "encoder_name": settings.encoder,
        "versions": versions(),
        "git_sha": git_sha(),
    }
    content = SnapshotContent(
        created_at=created_at,
        models=models.select(
            "model_id", "revision", "org", "family", "params_b",
            "price_in_usd_per_mtok", "price_out_usd_per_mtok", "n_scores",
        ),
        z_Md=np.asarray(embeddings["vector"].to_list(), dtype=np.float32),
        reference=reference,
        uncertainty_M=None
        if embeddings["uncertainty"].null_count()
        else embeddings["uncertainty"].to_numpy(),
        covariance_Mu=covariances(embeddings),
        x_Tf=x_Tf,
        scores=scores.cast({"model_id": pl.String, "query_id": pl.String}).join(
            bank, on="query_id"
        ),
        cost=cost,
        predictor=load_predictor(settings, checkpoint_id),
        lineage=lineage,
        new_models=_new_models(parent, models["model_id"].to_list()),
        endpoints=_endpoints(settings),
        parent=parent,
        layouts=settings.report_layouts,
    )  # fmt: skip
    return content, held


def _endpoints(settings: Settings) -> list[Endpoint]:
    """Addresses of the registry; none without a registry, as where all scores were imported."""
    there = settings.models_file.is_file()
    return endpoints(load_registry(settings.models_file)) if there else []


def reference_sample(bank: pl.DataFrame, most: int) -> pl.DataFrame:
    """Reference queries: test queries first, because quality is measured on them.

    Args:
        bank: all queries: query_id, task, split.
        most: how many at most.
    """
    test = spread_order(bank.filter(split="test")).head(most // 2)
    rest = spread_order(bank.filter(pl.col("split") != "test")).head(most - test.height)
    return pl.concat([test, rest])


def _record(settings: Settings, snapshot: Snapshot, checkpoint_id: str, held: str) -> None:
    counts = snapshot.manifest["counts"]
    with Warehouse.open(settings.warehouse) as warehouse:
        warehouse.snapshots.add(
            {
                "snapshot_id": snapshot.snapshot_id,
                "parent": snapshot.manifest["parent"],
                "created_at": datetime.fromisoformat(snapshot.manifest["created_at"]),
                "manifest_sha256": snapshot.manifest_sha256,
                "checkpoint_id": checkpoint_id,
                "n_models": counts["models"],
                "n_queries": counts["queries"],
                "n_scores": counts["scores"],
            }
        )
        warehouse.audit("publish", snapshot.snapshot_id, {"counts": counts, "holds": held})
