"""Checking a snapshot: its bytes, its files as users open them, and its copy of the warehouse.

`publish` asks before readers see a snapshot, `locus snapshots check` whenever somebody wants to
know.
"""

import logging
import re
import time

import polars as pl

from locus.publication.checks import (
    Checked,
    CheckFailedError,
    check_files,
    check_whole,
    missing_since,
)
from locus.snapshots import Snapshot, verify
from warehouse.console import OpenCopy, opened
from warehouse.errors import SqlError

log = logging.getLogger("locus.pipeline")

COPY = "warehouse.duckdb"
_EMBEDDINGS = "similarity/embeddings.parquet"
_TIMEOUT_S = 1800.0
_CHECKPOINT = re.compile(r"[0-9a-f]{64}")
_NOTED_S = 5.0

_PLACED = "SELECT model_id FROM model_embedding WHERE checkpoint_id = '{checkpoint}'"

# What has an ok row is current with it, so the view of current scores need not be computed.
_COUNTED = """
SELECT count(*) AS scores, count(DISTINCT query_id) AS queries
FROM (
    SELECT DISTINCT s.model_id, s.query_id
    FROM score AS s JOIN query AS q ON q.query_id = s.query_id
    WHERE s.status = 'ok' AND s.model_id IN ({placed})
)
"""

_VIEWS = "SELECT view_name FROM duckdb_views() WHERE NOT internal ORDER BY view_name"


def check_snapshot(snapshot: Snapshot) -> list[Checked]:
    """Check every byte of a kept snapshot, then every file.

    Returns:
        What was found, one entry a file.

    Raises:
        SnapshotError: the first thing that is wrong; of a file, `CheckFailedError`.
    """
    log.info("checking %d files of %s", len(snapshot.manifest["files"]), snapshot.snapshot_id)
    verified = verify(snapshot.folder, snapshot.manifest_sha256)
    return [*check_files(verified), check_copy(verified)]


def check_built(snapshot: Snapshot, parent: Snapshot | None) -> None:
    """Check a snapshot that was just built, before readers see it.

    Args:
        snapshot: the snapshot, its bytes verified.
        parent: what readers see now; what it has and the new one lacks is logged.

    Raises:
        CheckFailedError: the first file that is not as it must be.
    """
    log.info("built %s, checking its files", snapshot.snapshot_id)
    began = time.monotonic()
    check_whole(snapshot)
    checked = [*check_files(snapshot), check_copy(snapshot)]
    if parent is not None:
        for gone in missing_since(snapshot, parent):
            log.warning("since snapshot %s: %s", parent.snapshot_id, gone)
    took = time.monotonic() - began
    if took > _NOTED_S:
        log.info("checked %d files of %s in %.0f s", len(checked), snapshot.snapshot_id, took)


def check_copy(snapshot: Snapshot) -> Checked:
    """The copy opens read-only, holds what the manifest counts, and all its views work.

    Raises:
        CheckFailedError: it does not.
    """
    checkpoint = str(snapshot.manifest.get("lineage", {}).get("checkpoint_id"))
    if not _CHECKPOINT.fullmatch(checkpoint):
        raise _failed(snapshot, f"the manifest's checkpoint {checkpoint!r} is no checkpoint's id")
    try:
        with opened(snapshot.folder / COPY) as copy:
            said = _check_copy(snapshot, copy, _PLACED.format(checkpoint=checkpoint))
    except SqlError as error:
        raise _failed(snapshot, f"can't be queried: {error}") from error
    return Checked(COPY, said)


def _check_copy(snapshot: Snapshot, copy: OpenCopy, placed: str) -> str:
    """What is said of a copy that is as it must be."""
    ids = set(copy.frame(placed, timeout_s=_TIMEOUT_S)["model_id"])
    published = set(
        pl.read_parquet(snapshot.folder / _EMBEDDINGS, columns=["model_id"])["model_id"]
    )
    if ids != published:
        odd = sorted(ids ^ published)[0]
        raise _failed(snapshot, f"model {odd!r} is not both placed in it and in {_EMBEDDINGS}")
    counted = copy.frame(_COUNTED.format(placed=placed), timeout_s=_TIMEOUT_S).row(0, named=True)
    for name, n in counted.items():
        if n != (expected := snapshot.manifest["counts"][name]):
            raise _failed(snapshot, f"has {n} {name}, and the manifest counts {expected}")
    views = [view for (view,) in copy.rows(_VIEWS).values]
    for view in views:
        quoted = view.replace('"', '""')
        copy.rows(f'DESCRIBE FROM "{quoted}"', timeout_s=_TIMEOUT_S)
    return f"opens read-only, {counted['scores']} scores as counted, {len(views)} views work"


def _failed(snapshot: Snapshot, reason: str) -> CheckFailedError:
    return CheckFailedError(snapshot.snapshot_id, COPY, reason)
