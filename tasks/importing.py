"""Import: what others measured goes into the warehouse, all of it or nothing."""

import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from locus.imports.bundle import ImportBundle, ReadResult, write_problem_report
from tasks.lineage import git_sha, versions
from tasks.settings import Settings
from warehouse import contracts
from warehouse.store import Warehouse

log = logging.getLogger("locus.pipeline")

Kind = Literal["matrix", "lm-eval", "embedllm"]


class ImportRefusedError(ValueError):
    """What was read has faults, and nothing was imported; says where they are listed."""


@dataclass(frozen=True)
class Imported:
    """What came in.

    Attributes:
        counts: new rows by table.
        notes: decisions that the reader took.
        n_problems: faulty rows that were left out (only with ``skip_bad``).
        report: where the faults are listed; None if there are none.
    """

    counts: dict[str, int]
    notes: list[str]
    n_problems: int
    report: Path | None


def import_folder(
    settings: Settings,
    kind: Kind,
    folder: Path,
    *,
    model: str | None = None,
    metric: dict[str, str] | None = None,
    skip_bad: bool = False,
) -> Imported:
    """Read a folder and file what is in it.

    Args:
        settings: the pipeline's settings.
        kind: its format.
        folder: the folder.
        model: for lm-eval logs without a results file: whose they are.
        metric: for lm-eval logs: the metric that is the score, by task.
        skip_bad: leave faulty rows out instead of refusing everything.

    Raises:
        ImportRefusedError: faults were found; nothing was imported.
        WarehouseBusyError: another process holds the warehouse.
    """
    run_id = str(uuid.uuid4())
    result = _reader(kind, model, metric)(folder, run_id, skip_bad)
    report = _report(settings, run_id, result)
    if result.bundle is None:
        first = result.problems.head(3).rows(named=True)
        shown = "; ".join(
            f"{p['file']}{':' + str(p['line']) if p['line'] else ''}: {p['item']}: {p['reason']}"
            for p in first
        )
        hint = f"all are listed in {report}; " if report else ""
        raise ImportRefusedError(
            f"nothing was imported from {folder}: {result.n_problems} problem(s), first: {shown}. "
            f"{hint}mend them, or use --skip-bad to leave the faulty rows out"
        )
    counts = _store(settings, run_id, kind, folder, result.bundle)
    log.info("imported %s: %s", folder, counts)
    return Imported(counts, result.notes, result.n_problems, report)


def _reader(
    kind: Kind, model: str | None, metric: dict[str, str] | None
) -> Callable[[Path, str, bool], ReadResult]:
    if kind == "matrix":
        from locus.imports.matrix import read_matrix

        return lambda folder, run_id, skip: read_matrix(folder, run_id, skip_bad=skip)
    if kind == "embedllm":
        from locus.imports.embedllm import read_embedllm

        return lambda folder, run_id, skip: read_embedllm(folder, run_id, skip_bad=skip)
    from locus.imports.lm_eval_logs import read_lm_eval

    return lambda folder, run_id, skip: read_lm_eval(
        folder, run_id, model=model, metric=metric, skip_bad=skip
    )


def _report(settings: Settings, run_id: str, result: ReadResult) -> Path | None:
    if not result.n_problems:
        return None
    path = settings.home / "reports" / f"import-{run_id[:8]}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_problem_report(result.problems, path)
    return path


def _contract(frame: pl.DataFrame, contract: contracts.Contract) -> pl.DataFrame:
    """The columns that the warehouse takes; it fills in the rest (ids of runs, times) itself."""
    return frame.select(c for c in frame.columns if c in contract.columns)


def _store(
    settings: Settings, run_id: str, kind: Kind, folder: Path, bundle: ImportBundle
) -> dict[str, int]:
    settings.home.mkdir(parents=True, exist_ok=True)
    with Warehouse.open(settings.warehouse) as warehouse:
        counts = warehouse.import_bundle(
            run_id,
            f"import-{kind}",
            _contract(bundle.models, contracts.ModelFrame),
            _contract(bundle.revisions, contracts.RevisionFrame),
            _contract(bundle.tasks, contracts.TaskFrame),
            _contract(bundle.queries, contracts.QueryFrame),
            _contract(bundle.scores, contracts.ScoreFrame),
            {"folder": folder.name, **bundle.settings},
            versions=versions(),
            git_sha=git_sha(),
        )
        warehouse.audit("import", run_id, {"kind": kind, "folder": folder.name, "counts": counts})
    return counts
