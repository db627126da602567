"""Export: what the warehouse knows goes out as files that other tools read."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import polars as pl

from locus.exports.answers import ExportFile
from locus.exports.files import check_folder, write_file
from locus.exports.names import model_folders
from locus.publication.emit.dataset import dataset_files
from locus.snapshots import current
from tasks.settings import Settings
from warehouse.console import opened
from warehouse.store import Warehouse

log = logging.getLogger("locus.pipeline")

Format = Literal["lm-eval", "every-eval-ever"]
_Files = Callable[[str, pl.DataFrame], Iterator[ExportFile]]


class ExportRefusedError(ValueError):
    """There is nothing to export as asked; says what there is."""


@dataclass(frozen=True)
class Exported:
    """What went out, or would.

    Attributes:
        counts: columns model_id, task, answers, files; one row a model and task, in order.
            Files about several tasks are not in it. Of a data set: columns file, rows.
        n_files: all files.
        n_replaced: how many of them replaced one of the same name.
        notes: what a reader of the export should know.
    """

    counts: pl.DataFrame
    n_files: int
    n_replaced: int
    notes: list[str]


def export_folder(
    settings: Settings,
    kind: Format,
    folder: Path,
    *,
    models: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    organization: str = "unknown",
    dry_run: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Write the current answers of models to a folder.

    Args:
        settings: the pipeline's settings.
        kind: the format.
        folder: where to; made if it is not there.
        models: only these models; all by default.
        tasks: only these tasks; all by default.
        organization: for every-eval-ever: who provides the data.
        dry_run: write nothing, and say what would be written.
        overwrite: write into a folder that isn't empty; files of the same name are replaced.

    Raises:
        ExportRefusedError: there is no warehouse, a model or task has no answers, or nobody has.
        ExportFolderError: the folder can't be used, or a file can't be written.
        WarehouseBusyError: another process holds the warehouse.
    """
    if not settings.warehouse.is_file():
        raise ExportRefusedError(
            f"there is no warehouse at {settings.warehouse}: evaluate or import something first, "
            "or point LOCUS_CONFIG to your locus.toml"
        )
    # A dry run tells of a folder that would be refused, too.
    n_there = check_folder(folder, overwrite=overwrite)
    notes: dict[str, int] = {}
    rows: dict[tuple[str, str], list[int]] = {}
    n_files = n_replaced = 0
    with Warehouse.open(settings.warehouse) as warehouse:
        chosen = _chosen(warehouse, models, tasks)
        files_of = _format(warehouse, kind, chosen, organization, notes)
        for number, model in enumerate(chosen, start=1):
            answers = warehouse.scores.current_answers(model, tasks)
            before = n_files
            for file in files_of(model, answers):
                n_files += 1
                if file.task is not None:
                    known = rows.setdefault((model, file.task), [0, 0])
                    known[0] += file.n_rows
                    known[1] += 1
                if not dry_run:
                    n_replaced += write_file(folder, file)
            log.info(
                "%s %s: %s answers, %s files (%s of %s)",
                "would export" if dry_run else "exported",
                model,
                answers.height,
                n_files - before,
                number,
                len(chosen),
            )
        said = [f"{n} {reason}" for reason, n in notes.items()]
        if kind == "lm-eval":
            said += _on_the_way_back(warehouse, chosen, tasks)
        if not dry_run:
            detail = {"kind": kind, "folder": folder.name, "files": n_files, "models": len(chosen)}
            warehouse.audit("export", kind, detail)
    if n_there and n_replaced < n_files:
        said.append(f"{folder} was not empty: what had another name is still there")
    counts = pl.DataFrame(
        [(model, task, *both) for (model, task), both in rows.items()],
        schema={
            "model_id": pl.String,
            "task": pl.String,
            "answers": pl.Int64,
            "files": pl.Int64,
        },
        orient="row",
    )
    return Exported(counts, n_files, n_replaced, said)


# Rows of the published copy; an answer's own text stays here.
_PUBLISHED = {
    "scores": "SELECT s.model_id, s.revision, s.query_id, q.task, q.split, s.status, s.score, "
    "s.metric, s.latency_ms, s.tokens_in, s.tokens_out, s.cost_usd, s.scored_at "
    "FROM latest_score AS s JOIN query AS q USING (query_id) ORDER BY s.model_id, s.query_id",
    "queries": "SELECT query_id, task, task_version, category, split, text, choices, target "
    "FROM query ORDER BY query_id",
    "models": "SELECT model_id, org, family, params_b, released, license, price_in_usd_per_mtok, "
    "price_out_usd_per_mtok, source FROM model ORDER BY model_id",
}
_DATASET_TIMEOUT_S = 600.0


def export_dataset(
    settings: Settings, folder: Path, *, dry_run: bool = False, overwrite: bool = False
) -> Exported:
    """Write the current snapshot as a folder that `datasets.load_dataset` reads.

    Only what is published is read, so this needs no lock and can run beside a night.

    Args:
        settings: the pipeline's settings.
        folder: where to; made if it is not there.
        dry_run: write nothing, and say what would be written.
        overwrite: write into a folder that isn't empty; files of the same name are replaced.

    Returns:
        Counts are of columns file, rows.

    Raises:
        SnapshotError: nothing is published.
        SqlError: the snapshot's copy of the warehouse is missing or can't be read.
        ExportFolderError: the folder can't be used, or a file can't be written.
    """
    n_there = check_folder(folder, overwrite=overwrite)
    snapshot = current(settings.published)
    with opened(snapshot.folder / "warehouse.duckdb") as copy:
        tables = {
            name: copy.frame(sql, timeout_s=_DATASET_TIMEOUT_S) for name, sql in _PUBLISHED.items()
        }
    tables["embeddings"] = pl.read_parquet(snapshot.folder / "similarity" / "embeddings.parquet")
    tables["routing"] = pl.read_parquet(snapshot.folder / "routing" / "table.parquet")
    created_at = datetime.fromisoformat(snapshot.manifest["created_at"])
    rows: list[tuple[str, int]] = []
    n_replaced = 0
    for file in dataset_files(tables, snapshot.snapshot_id, created_at):
        rows.append((file.path.as_posix(), file.n_rows))
        if not dry_run:
            n_replaced += write_file(folder, file)
    said = ["choose a licence before you share it: `license` in README.md"]
    if n_there and n_replaced < len(rows):
        said.append(f"{folder} was not empty: what had another name is still there")
    counts = pl.DataFrame(rows, schema={"file": pl.String, "rows": pl.Int64}, orient="row")
    return Exported(counts, len(rows), n_replaced, said)


def _chosen(
    warehouse: Warehouse, models: Sequence[str] | None, tasks: Sequence[str] | None
) -> list[str]:
    """The models with answers to what is asked for, in order of their ids."""
    pairs = warehouse.read(
        "SELECT DISTINCT s.model_id, q.task FROM score AS s JOIN query AS q USING (query_id)"
    )
    for what, wanted, column in (("model", models, "model_id"), ("task", tasks, "task")):
        known = set(pairs[column])
        for name in wanted or []:
            if name not in known:
                raise ExportRefusedError(
                    f"{what} {name!r} has no answers in the warehouse: leave --{what} out, with "
                    "--dry-run, to see all that has"
                )
    kept = pairs
    if models:
        kept = kept.filter(pl.col("model_id").is_in(list(models)))
    if tasks:
        kept = kept.filter(pl.col("task").is_in(list(tasks)))
    if kept.is_empty():
        raise ExportRefusedError("there are no answers to export: evaluate or import some first")
    return sorted(set(kept["model_id"]))


def _format(
    warehouse: Warehouse,
    kind: Format,
    models: list[str],
    organization: str,
    notes: dict[str, int],
) -> _Files:
    about: dict[str, dict[str, Any]] = {
        row["model_id"]: row for row in warehouse.catalogue.models().iter_rows(named=True)
    }
    # Named among all models, so that a model's folder doesn't depend on which are exported.
    folders = model_folders(sorted({*about, *models}))
    if kind == "lm-eval":
        from locus.exports.lm_eval import lm_eval_files

        return lambda model, answers: lm_eval_files(
            answers, about[model]["params_b"], folders[model], notes
        )
    from locus.exports.every_eval_ever import every_eval_ever_files

    now = datetime.now(UTC)
    return lambda model, answers: every_eval_ever_files(
        answers, about[model], folders[model], organization, now, notes
    )


_SCORED = """
SELECT q.task, count(*) AS n, count(l.score) AS n_scored,
    count(DISTINCT coalesce(l.metric, t.primary_metric, 'score')) AS n_metrics
FROM latest_score AS l
JOIN query AS q USING (query_id)
LEFT JOIN task AS t ON t.task = q.task AND t.task_version = q.task_version
WHERE l.model_id IN (SELECT unnest($models::VARCHAR[]))
    AND ($tasks::VARCHAR[] IS NULL OR q.task IN (SELECT unnest($tasks::VARCHAR[])))
GROUP BY q.task ORDER BY q.task
"""


def _on_the_way_back(
    warehouse: Warehouse, models: list[str], tasks: Sequence[str] | None
) -> list[str]:
    """Tasks for which the reader of logs must be told which metric is the score."""
    found = warehouse.read(_SCORED, {"models": models, "tasks": list(tasks) if tasks else None})
    said = []
    for task, n, n_scored, n_metrics in found.iter_rows():
        if 2 * n_scored < n:
            said.append(
                f"task {task}: only {n_scored} of {n} answers have a score: import it with --metric"
            )
        if n_metrics > 1:
            said.append(
                f"task {task}: {n_metrics} metrics were scores: import each model's folder alone, "
                "with --metric"
            )
    return said
