"""Record: finished parts go into the warehouse, each once and whole; a bad one stops nothing."""

import logging
from collections.abc import Iterable
from pathlib import Path

from warehouse.canaries import KIND as CANARY
from warehouse.errors import ContractError
from warehouse.store import Warehouse

log = logging.getLogger("locus.pipeline")

REFUSED = ".refused"


def record_parts(
    warehouse: Warehouse, run_id: str, parts: Iterable[Path]
) -> tuple[int, str | None]:
    """Merge the parts of a run: those of a canary run into ``canary``, all others into ``score``.

    A part that breaks the contract is set aside under another name, so that it is looked at by a
    person and its queries are asked again, and not met again every night.

    Returns:
        Scores added, and the first reason for which a part was refused; None if none was.
    """
    run = warehouse.scores.run(run_id)
    canary = run is not None and run["kind"] == CANARY
    merge = warehouse.canaries.merge_part if canary else warehouse.scores.merge_part
    added, refused = 0, None
    for part in parts:
        try:
            added += merge(part, run_id)
        except ContractError as error:
            aside = part.with_suffix(part.suffix + REFUSED)
            part.rename(aside)
            log.error("run %s: %s is refused and set aside: %s", run_id, aside, error)
            refused = refused or f"a part was refused: {error}"
    return added, refused
