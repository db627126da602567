"""All checks of a snapshot's files, in order."""

import logging

import polars as pl

from locus.publication.canned import CANNED
from locus.publication.checks.emitted import (
    REPORT,
    SUMMARY,
    check_litellm,
    check_report,
    check_semantic_router,
    check_summary,
)
from locus.publication.checks.places import (
    EMBEDDINGS,
    NEAREST,
    PAIRS,
    check_embeddings,
    check_nearest,
    check_pairs,
    check_projector,
)
from locus.publication.checks.reading import Checked, Reader
from locus.publication.checks.routes import check_routes
from locus.publication.checks.table import (
    DOCUMENT,
    SCHEMA,
    TABLE,
    TOPICS,
    check_document,
    check_packaged_schema,
    check_table,
    check_topics,
)
from locus.publication.emit.files import LITELLM, SEMANTIC_ROUTER
from locus.publication.emit.projector import CONFIG, METADATA, TENSORS
from locus.routing.table import TASK
from locus.snapshots import Snapshot

log = logging.getLogger(__name__)

ALWAYS = frozenset(
    {
        TABLE, DOCUMENT, SCHEMA, CANNED.as_posix(), LITELLM.as_posix(),
        SEMANTIC_ROUTER.as_posix(), EMBEDDINGS, PAIRS, NEAREST, REPORT, SUMMARY,
        *(f"similarity/{name}" for name in (TENSORS, METADATA, CONFIG)),
        "routing/predictor/predictor.json", "routing/predictor/predictor.safetensors",
        "routing/predictor/test_vectors.safetensors", "warehouse.duckdb",
    }
)  # fmt: skip
"""Files that every snapshot of this version has."""

SOMETIMES = frozenset({TOPICS})
"""Files that are there if there is anything to put into them."""


def check_files(snapshot: Snapshot) -> list[Checked]:
    """Open every file but the warehouse as its users do, and hold them against one another.

    Args:
        snapshot: a sealed snapshot; `locus.snapshots.verify` has compared its bytes.

    Returns:
        What was found, one entry a file.

    Raises:
        CheckFailedError: the first file that is not as it must be.
    """
    reader = Reader(snapshot)
    places, embeddings = check_embeddings(reader)
    table, checked_table = check_table(reader, places)
    nearest, checked_nearest = check_nearest(reader, places)
    return [
        embeddings,
        check_pairs(reader, places),
        checked_nearest,
        *check_projector(reader, places),
        checked_table,
        *check_document(reader, places, table, nearest),
        *check_topics(reader, table),
        check_litellm(reader, places),
        check_semantic_router(reader, places),
        check_report(reader, places),
        check_summary(reader),
        *check_routes(reader, places),
    ]


def check_whole(snapshot: Snapshot) -> None:
    """Refuse a snapshot that lacks a file which this version publishes, or has one too many.

    Snapshots of other versions may differ in this: it is asked of a new one only.

    Raises:
        CheckFailedError: naming the file.
    """
    reader = Reader(snapshot)
    files = set(snapshot.manifest["files"])
    if missing := sorted(ALWAYS - files):
        reader.fail(missing[0], "is missing")
    if unknown := sorted(files - ALWAYS - SOMETIMES):
        reader.fail(unknown[0], "is a file that nobody checks")
    check_packaged_schema(reader)


def missing_since(snapshot: Snapshot, parent: Snapshot) -> list[str]:
    """What the parent has and the snapshot lacks, in words: files, and tasks of the table.

    Models and scores that are gone are the gates' affair (`locus.gates`). What is found here may be
    right, after an update or with fewer reference queries, so it is said and stops nobody.

    Args:
        snapshot: the new one; its own files are checked already.
        parent: the one that it follows. It may be damaged, and is then compared with nothing.
    """
    found = [
        f"file {name} is gone"
        for name in sorted(set(parent.manifest["files"]) - set(snapshot.manifest["files"]))
    ]
    before, now = (_tasks(one) for one in (parent, snapshot))
    found += [f"task {task!r} has no bucket any more" for task in sorted(before - now)]
    return found


def _tasks(snapshot: Snapshot) -> set[str]:
    try:
        table = pl.read_parquet(snapshot.folder / TABLE, columns=["bucket", "kind"])
    except (OSError, pl.exceptions.PolarsError) as error:
        log.warning("snapshot %s can't be compared with: %s", snapshot.snapshot_id, error)
        return set()
    return set(table.filter(kind=TASK)["bucket"])
