"""Evaluation runs and their scores, which come in as immutable parts, each merged exactly once."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from warehouse.catalogue import refuse_unknown
from warehouse.connection import Session, now
from warehouse.contracts import ScoreFrame, validated
from warehouse.errors import ContractError, WarehouseError
from warehouse.sql import query
from warehouse.values import json_text

RUN_ENDS = ("finished", "failed")

# Cells for each score up to which marking all of them is less work than sorting.
_FULL = 8


class Scores:
    """Reads and writes ``evaluation_run``, ``score`` and ``score_part``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def start_run(
        self,
        run_id: str,
        kind: str,
        model_id: str | None,
        revision: str | None,
        settings: Mapping[str, Any],
        versions: Mapping[str, Any],
        git_sha: str | None,
        n_planned: int | None,
    ) -> None:
        """Begin a run, with status ``running``.

        Args:
            run_id: a new id.
            kind: what it is, for example ``evaluation``.
            model_id: the model evaluated; None for an import of many.
            revision: its version; None for an import of many.
            settings: JSON-like settings; never a key or a token.
            versions: software and their versions.
            git_sha: commit of this project.
            n_planned: number of queries it sets out to ask.

        Raises:
            WarehouseError: the run is there already.
        """
        with self._session.transaction():
            if self.run(run_id) is not None:
                raise WarehouseError(f"run {run_id} is there already; take a new run id")
            self._session.execute(
                query("insert_run"),
                {
                    "run_id": run_id,
                    "kind": kind,
                    "model_id": model_id,
                    "revision": revision,
                    "started_at": now(),
                    "n_planned": n_planned,
                    "settings": json_text(settings),
                    "versions": json_text(versions),
                    "git_sha": git_sha,
                },
            )

    def finish_run(self, run_id: str, status: str, error: str | None = None) -> None:
        """End a run as ``finished`` or ``failed``.

        Its rows are counted as they are merged, also those that come in after its end.

        Raises:
            ValueError: another status.
            WarehouseError: no such run.
        """
        if status not in RUN_ENDS:
            raise ValueError(f"a run ends as {' or '.join(RUN_ENDS)}, not as {status!r}")
        with self._session.transaction():
            self._existing(run_id)
            self._session.execute(
                "UPDATE evaluation_run SET finished_at = ?, status = ?, error = ? WHERE run_id = ?",
                [now(), status, error, run_id],
            )

    def run(self, run_id: str) -> dict[str, Any] | None:
        """One run as a dict of its columns, or None when it is not there."""
        return self._session.row("SELECT * FROM evaluation_run WHERE run_id = ?", [run_id])

    def runs(self) -> pl.DataFrame:
        """All runs, the newest first: the columns of ``evaluation_run``."""
        return self._session.frame(
            "SELECT * FROM evaluation_run ORDER BY started_at DESC, run_id DESC"
        )

    def open_runs(self) -> list[str]:
        """Ids of the runs that have not ended, the oldest first."""
        rows = self._session.frame(
            "SELECT run_id FROM evaluation_run WHERE status = 'running' ORDER BY started_at, run_id"
        )
        return list(rows["run_id"])

    def mean_cost(self) -> pl.DataFrame:
        """What one answered query costs.

        Returns:
            ``model_id``, ``cost_usd`` (mean over calls whose cost is known, US dollars; NULL where
            none is) and ``latency_ms`` (mean); models that were only imported have no row.
        """
        return self._session.frame(
            "SELECT model_id, cost_usd / nullif(calls_with_cost, 0) AS cost_usd, "
            "mean_latency_ms AS latency_ms FROM cost_by_model ORDER BY model_id"
        )

    def merge_part(self, path: Path, run_id: str) -> int:
        """Merge one Parquet part of scores (`contracts.ScoreFrame`): all of it, once.

        Rows and the mark that they were merged are one transaction, so a part is in or out. A part
        may come in after its run has ended, as after a crash.

        Args:
            path: the part; read once, so that what is hashed is what is merged.
            run_id: the run that produced it.

        Returns:
            Number of rows inserted; 0 when the same bytes were merged before.

        Raises:
            ContractError: the file is no Parquet, or a row breaks the contract, belongs to another
                model or version than the run, or to a model or query that is not there.
            WarehouseError: no such run.
            OSError: the file cannot be read.
        """
        return self.merge_parts([path], run_id)

    def merge_parts(self, paths: Sequence[Path], run_id: str) -> int:
        """Merge several parts of a run in one transaction: all of them, each once, or none.

        What a part costs is mostly what any transaction and any statement costs, however little it
        is about: small parts come in many times faster together. They are all in memory at once.

        Args:
            paths: the parts; see `merge_part`.
            run_id: the run that produced them.

        Returns:
            Number of rows inserted; none of a part whose bytes were merged before.

        Raises:
            ContractError: as of one part, or two of them repeat a row, or differ in their columns.
                None was merged; merged one by one, only what is bad by itself is refused.
            WarehouseError: no such run.
            OSError: a file cannot be read.
        """
        from warehouse.parts import read_parts  # Arrow starts slowly, and few commands read parts

        contents: dict[str, tuple[bytes, Path]] = {}
        for path in paths:
            data = path.read_bytes()
            contents.setdefault(hashlib.sha256(data).hexdigest(), (data, path))
        with self._session.transaction():
            for known in self._merged(list(contents)):
                del contents[known]
            if not contents:
                return 0
            run = self._existing(run_id)
            frame, heights = read_parts(contents.values())
            rows = validated(ScoreFrame, frame)
            _refuse_strangers(rows, run)
            self._insert(rows, run, dict(zip(contents, heights, strict=True)))
            return rows.height

    def insert(self, rows: pl.DataFrame, run_id: str, part_sha256: str) -> None:
        """Insert validated rows of an existing run as one part; the caller holds a transaction.

        Raises:
            ContractError: a model or query is not there.
            WarehouseError: no such run, or one of canaries, whose answers are kept apart.
        """
        self._insert(rows, self._existing(run_id), {part_sha256: rows.height})

    def _insert(
        self, rows: pl.DataFrame, run: Mapping[str, Any], height_of: Mapping[str, int]
    ) -> None:
        """Insert rows of parts, and that these parts, with so many rows each, were merged."""
        run_id = run["run_id"]
        self._insert_rows(rows, run)
        self._session.execute(
            "INSERT INTO score_part SELECT unnest(?::VARCHAR[]), ?, unnest(?::BIGINT[]), ?",
            [list(height_of), run_id, list(height_of.values()), now()],
        )
        # Added up, not counted: that would read the whole table once a part.
        n_ok = int((rows["status"] == "ok").sum())
        self._session.execute(
            "UPDATE evaluation_run SET n_ok = n_ok + ?, n_other = n_other + ? WHERE run_id = ?",
            [n_ok, rows.height - n_ok, run_id],
        )

    def _insert_rows(self, rows: pl.DataFrame, run: Mapping[str, Any]) -> None:
        session, run_id = self._session, run["run_id"]
        if run["kind"] == "canary":
            raise WarehouseError(f"run {run_id} is one of canaries: its answers are no scores")
        with session.staged(rows):
            refuse_unknown(session, "score", "model_id", "query_id")
            session.execute(
                "INSERT INTO score BY NAME SELECT ? AS run_id, * FROM incoming", [run_id]
            )

    def content_sha256(self, rows: pl.DataFrame) -> str:
        """Digest of a validated score frame: of its content, whatever the order of its rows."""
        with self._session.staged(rows):
            row = self._session.row(query("content_digest"))
        return hashlib.sha256(repr(row).encode()).hexdigest()

    def answered(self, model_id: str, revision: str) -> pl.DataFrame:
        """What this version of the model was asked already.

        Returns:
            ``query_id``, ``status``, ``tries`` (rows of it); each query once, as ``ok`` if any row
            of it is.
        """
        return self._session.frame(query("answered"), {"model_id": model_id, "revision": revision})

    def usage(self) -> pl.DataFrame:
        """What a query takes, of those whose tokens were counted.

        Returns:
            ``model_id``, ``task``, ``n`` (queries), and their means ``tokens_in``, ``tokens_out``,
            ``latency_ms``.
        """
        return self._session.frame(query("usage"))

    def training_scores(
        self,
        splits: Sequence[str] | None = None,
        tasks: Sequence[str] | None = None,
        models: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Current scores with status ok.

        Args:
            splits: only queries of these splits.
            tasks: only queries of these tasks.
            models: only these models.

        Returns:
            ``model_id``, ``query_id``, ``score`` (0 to 1), ordered by the two ids. Ids are of the
            type Enum, numbers with a name each: of millions of rows, as text they would be most of
            the work. Cast them to String to join them with text.
        """
        session = self._session
        given = {"splits": splits, "tasks": tasks, "models": models}
        cells = session.frame(
            query("training_scores"),
            {name: None if value is None else list(value) for name, value in given.items()},
        )
        all_models = session.frame("SELECT model_id FROM model ORDER BY model_id")["model_id"]
        all_queries = session.frame("SELECT query_id FROM query ORDER BY query_id")["query_id"]
        # One number a cell: the order of numbers is that of (model_id, query_id).
        cells = cells.select(
            "score", cell=pl.col("model") * max(len(all_queries), 1) + pl.col("query")
        )
        cells = _in_order(cells, len(all_models) * len(all_queries))
        cell = cells["cell"]
        repeated = cell.filter(cell == cell.shift()).unique().sort()
        if len(repeated):
            pairs = _ids(repeated, all_models, all_queries).cast(pl.String)
            with session.staged(pairs):
                current = session.frame(query("current_of_several"))
            cells = cells.update(
                current.select("score", cell=repeated), on="cell", how="left"
            ).unique("cell", keep="first", maintain_order=True)
        return _ids(cells["cell"], all_models, all_queries).with_columns(cells["score"])

    def current_answers(self, model_id: str, tasks: Sequence[str] | None = None) -> pl.DataFrame:
        """The current answer of a model to each query, with its query, task, version and run.

        Args:
            model_id: the model.
            tasks: only queries of these tasks.

        Returns:
            The columns of table ``score`` but ``run_id``; of ``query`` but ``added_at``;
            ``source``, ``output_type``, ``primary_metric`` of the task; ``backend``,
            ``backend_args``; ``harness_version`` (lm-eval's, of an evaluation, NULL of an import).
        """
        given = {"model_id": model_id, "tasks": None if tasks is None else list(tasks)}
        return self._session.frame(query("export_rows"), given)

    def stored_responses(
        self, task: str, metric: str, filter_name: str, models: Sequence[str] | None = None
    ) -> pl.DataFrame:
        """Current answers to a task that are scored by another metric or filter; no imports.

        Args:
            task: the task; all its versions.
            metric: the metric that is wanted.
            filter_name: the filter that is wanted.
            models: only these models.

        Returns:
            ``model_id``, ``revision``, ``query_id``, ``task_version``, ``score``, ``metric``,
            ``filter``, ``response``, ``doc_hash``, ``prompt_hash``, ``scored_at`` and ``asked_by``
            (the run that asked, also of an answer that was scored anew before).
        """
        given = {"task": task, "metric": metric, "filter": filter_name}
        chosen = None if models is None else list(models)
        return self._session.frame(query("rescorable"), {**given, "models": chosen})

    def scores_digest(self) -> pl.DataFrame:
        """Per model a digest of its current train-split scores; another digest means new scores.

        Returns:
            ``model_id``, ``revision`` (the newest behind them), ``n_scores``, ``digest``.
        """
        return self._session.frame(query("scores_digest"))

    def merged(self, part_sha256: str) -> bool:
        """Whether a part of this digest was merged before."""
        return bool(self._merged([part_sha256]))

    def _merged(self, digests: list[str]) -> list[str]:
        sql = "SELECT DISTINCT part_sha256 FROM score_part WHERE list_contains(?, part_sha256)"
        return self._session.values(sql, [digests])

    def _existing(self, run_id: str) -> dict[str, Any]:
        run = self.run(run_id)
        if run is None:
            raise WarehouseError(f"run {run_id} is not there; start it first")
        return run


def _in_order(cells: pl.DataFrame, n_cells: int) -> pl.DataFrame:
    """Scores by their numbered cells; where most cells have one, by putting each in its place."""
    if n_cells > _FULL * cells.height:
        return cells.sort("cell")
    places = cells["cell"].to_numpy()
    there = np.zeros(n_cells, dtype=bool)
    there[places] = True
    if np.count_nonzero(there) < cells.height:  # some have several
        return cells.sort("cell")
    score = np.empty(n_cells)
    score[places] = cells["score"].to_numpy()
    filled = np.flatnonzero(there)
    return pl.DataFrame({"score": score[filled], "cell": filled})


def _ids(cells: pl.Series, models: pl.Series, queries: pl.Series) -> pl.DataFrame:
    """Ids of numbered cells, as Enums."""
    n = max(len(queries), 1)
    return pl.DataFrame(
        {
            "model_id": _named(cells // n, models),
            "query_id": _named(cells % n, queries),
        }
    )


def _named(numbers: pl.Series, names: pl.Series) -> pl.Series:
    """Numbers as what they stand for: no text is copied."""
    return numbers.cast(pl.UInt32).cat.to(pl.Enum(names))


def _refuse_strangers(rows: pl.DataFrame, run: Mapping[str, Any]) -> None:
    """A part of a run for one model may hold rows of that model and version only."""
    for column in ("model_id", "revision"):
        wanted = run[column]
        if wanted is not None:
            bad = rows.filter(pl.col(column) != wanted)
            if bad.height:
                shown = bad.head(3).select("query_id", column).to_dicts()
                raise ContractError(
                    "score",
                    column,
                    f"must be {wanted!r} as in run {run['run_id']}",
                    shown,
                    n_rows=bad.height,
                )
