"""What every import must come to: rows that keep the warehouse's rules, or a list of faults."""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hostile import CANARY, watched
from hypothesis import strategies as st

from locus.imports.bundle import ImportBundle, ReadResult, write_problem_report
from tasks.importing import _contract
from warehouse import contracts
from warehouse.store import Warehouse

TABLES = {
    "models": ("model", contracts.ModelFrame),
    "revisions": ("model_revision", contracts.RevisionFrame),
    "tasks": ("task", contracts.TaskFrame),
    "queries": ("query", contracts.QueryFrame),
    "scores": ("score", contracts.ScoreFrame),
}
_COUNT = "(SELECT count(*) FROM {}) AS {}"
_COUNTS = "SELECT " + ", ".join(_COUNT.format(t, n) for n, (t, _) in TABLES.items())
_ORPHANS = """
    SELECT count(*) FROM score s WHERE s.score NOT BETWEEN 0 AND 1 OR isnan(s.score)
        OR s.query_id NOT IN (SELECT query_id FROM query)
        OR s.model_id NOT IN (SELECT model_id FROM model)
"""


class _RollBackError(Exception):
    pass


@contextmanager
def _rolled_back(warehouse: Warehouse) -> Iterator[None]:
    with suppress(_RollBackError), warehouse.transaction():
        yield
        raise _RollBackError


STRICT, LENIENT, BOTH = "strict", "lenient", "both"
# The warehouse is slow beside the readers, whose frames have a contract anyway.
ways = st.sampled_from([STRICT] * 4 + [LENIENT] * 4 + [BOTH])


def read_in(
    way: str,
    read: Callable[..., ReadResult],
    folder: Path,
    ground: Path,
    warehouse: Warehouse,
    **options: Any,
) -> str:
    """Read a folder and check what was found.

    Args:
        way: one of `ways`: all or nothing, without the bad rows, or both, compared, and taken in.
        read: a reader of `locus.imports`.
        folder: what it reads.
        ground: of `hostile.watched`.
        warehouse: an empty one; it is empty again afterwards.
        options: of the reader.

    Returns:
        What became of it.
    """
    with watched(ground, folder):
        result = read(folder, "r", skip_bad=way != STRICT, **options)
        _check(result, folder / "report.csv")
        if way == BOTH:
            strict = read(folder, "r", **options)
            assert strict.n_problems == result.n_problems
            assert strict.n_problems == 0 or strict.bundle is None
            if result.bundle is not None:
                _take_in(warehouse, result.bundle)
    if result.bundle is None:
        return "refused"
    assert result.n_problems == 0 or way != STRICT
    return "accepted in part" if result.n_problems else "accepted"


def _check(result: ReadResult, report: Path) -> None:
    assert result.problems.height == min(result.n_problems, 10_000)
    assert all(note.isprintable() and CANARY not in note for note in result.notes)
    for row in result.problems.rows(named=True):
        told = [row[key] for key in ("file", "item", "reason")]
        assert all(text.isprintable() and len(text) < 700 and CANARY not in text for text in told)
    write_problem_report(result.problems, report)
    with report.open(newline="", encoding="utf-8") as stream:
        cells = [cell for record in csv.reader(stream) for cell in record]
    assert not [cell for cell in cells if cell.strip()[:1] in tuple("=+-@")]
    report.unlink()


def _take_in(warehouse: Warehouse, bundle: ImportBundle) -> None:
    frames = {name: getattr(bundle, name) for name in TABLES}
    assert frames["scores"].height
    json.dumps(bundle.settings, allow_nan=False).encode()
    parts = {name: _contract(frames[name], contract) for name, (_, contract) in TABLES.items()}
    with _rolled_back(warehouse):
        counts = warehouse.import_bundle("r", "import", *parts.values(), bundle.settings)
        assert warehouse.read(_COUNTS).row(0, named=True) == counts
        assert counts == {name: frame.height for name, frame in frames.items()}
        assert warehouse.read(_ORPHANS).item() == 0
