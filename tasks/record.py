"""Record: finished parts go into the warehouse, each once and whole; a bad one stops nothing."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from warehouse.canaries import KIND as CANARY
from warehouse.errors import ContractError
from warehouse.store import Warehouse

log = logging.getLogger("locus.pipeline")

REFUSED = ".refused"

# Of bare scores these are 80,000, of answers with text 6,000 to 10,000.
_BATCH_BYTES = 1 << 20


def record_parts(
    warehouse: Warehouse, run_id: str, parts: Iterable[Path]
) -> tuple[int, str | None]:
    """Merge the parts of a run: those of a canary run into ``canary``, all others into ``score``.

    A part that breaks the contract is set aside under another name, so that it is looked at by a
    person and its queries are asked again, and not met again every night.

    Small parts come in several at a time; where one of them is bad, each by itself after all.

    Returns:
        Scores added, and the first reason for which a part was refused; None if none was.
    """
    run = warehouse.scores.run(run_id)
    canary = run is not None and run["kind"] == CANARY
    into = warehouse.canaries if canary else warehouse.scores
    added, refused = 0, None
    for batch in _batches(parts):
        if len(batch) > 1:
            with suppress(ContractError, OSError):
                added += into.merge_parts(batch, run_id)
                continue
        for part in batch:
            try:
                added += into.merge_part(part, run_id)
            except ContractError as error:
                aside = part.with_suffix(part.suffix + REFUSED)
                part.rename(aside)
                log.error("run %s: %s is refused and set aside: %s", run_id, aside, error)
                refused = refused or f"a part was refused: {error}"
    return added, refused


def _batches(parts: Iterable[Path]) -> Iterator[list[Path]]:
    """Parts in order, as many at a time as have `_BATCH_BYTES` together, and one at least."""
    batch: list[Path] = []
    size = 0
    for part in parts:
        own = part.stat().st_size if part.is_file() else 0
        if batch and size + own > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(part)
        size += own
    if batch:
        yield batch
