"""What there is to ask and whom: models, their revisions, tasks and queries.

Adding is idempotent: a row that is there already is kept, and for models and revisions only what
is newly known is filled in.
"""

from collections.abc import Sequence
from typing import Any

import polars as pl

from warehouse.connection import Session, now
from warehouse.contracts import (
    ModelFrame,
    QueryFrame,
    RevisionFrame,
    TaskFrame,
    polars_schema,
    validated,
)
from warehouse.errors import ContractError
from warehouse.sql import query
from warehouse.values import json_value

QUERY_COLUMNS = (*polars_schema(QueryFrame).names(), "added_at")


class Catalogue:
    """Reads and writes ``model``, ``model_revision``, ``task`` and ``query``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add_models(self, frame: pl.DataFrame) -> int:
        """Add models (`contracts.ModelFrame`).

        A model that is there already takes over every value that is not NULL; its source stays
        ``registry`` once it is that.

        Returns:
            Number of models that were not there before.

        Raises:
            ContractError: a row breaks the contract; nothing is written.
        """
        return self._add("model", validated(ModelFrame, frame), "upsert_model")

    def add_revisions(self, frame: pl.DataFrame) -> int:
        """Add versions of models (`contracts.RevisionFrame`); ``seen_at`` defaults to now.

        A version that is there already keeps its ``seen_at`` and takes over backend and arguments
        that are not NULL.

        Returns:
            Number of versions that were not there before.

        Raises:
            ContractError: a row breaks the contract, or its model is not in ``model``.
        """
        rows = validated(RevisionFrame, frame).with_columns(pl.col("seen_at").fill_null(now()))
        return self._add("model_revision", rows, "upsert_revision", refers_to="model_id")

    def add_tasks(self, frame: pl.DataFrame) -> int:
        """Add versions of tasks (`contracts.TaskFrame`); those there already stay as they are.

        Returns:
            Number of task versions that were not there before.

        Raises:
            ContractError: a row breaks the contract; nothing is written.
        """
        return self._add("task", validated(TaskFrame, frame), "insert_task")

    def add_queries(self, frame: pl.DataFrame) -> int:
        """Add queries (`contracts.QueryFrame`); those there already stay as they are.

        Returns:
            Number of queries that were not there before.

        Raises:
            ContractError: a row breaks the contract; nothing is written.
        """
        return self._add("query", validated(QueryFrame, frame), "insert_query")

    def models(self) -> pl.DataFrame:
        """All models, ordered by id: the columns of table ``model``."""
        return self._session.frame("SELECT * FROM model ORDER BY model_id")

    def model(self, model_id: str) -> dict[str, Any] | None:
        """One model as a dict with ``metadata`` as a value, or None when it is not there."""
        row = self._session.row("SELECT * FROM model WHERE model_id = ?", [model_id])
        if row is not None:
            row["metadata"] = json_value(row["metadata"])
        return row

    def revisions(self, latest: bool = True) -> pl.DataFrame:
        """Versions of models, ordered by model and time: the columns of ``model_revision``.

        Args:
            latest: only the newest version of each model.
        """
        return self._session.frame(query("revisions"), {"latest": latest})

    def tasks(self, source: str | None = None) -> pl.DataFrame:
        """Tasks of one source, or all: the columns of ``task``."""
        return self._session.frame(
            "SELECT * FROM task WHERE $source::VARCHAR IS NULL OR source = $source "
            "ORDER BY task, task_version",
            {"source": source},
        )

    def text_lengths(self) -> dict[str, float]:
        """Mean length of a task's questions with their choices, in characters, by task."""
        return dict(self._session.frame(query("text_lengths")).iter_rows())

    def queries(
        self,
        split: str | None = None,
        tasks: Sequence[str] | None = None,
        ids: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Queries, ordered by id.

        Args:
            split: only this split (train, val or test).
            tasks: only these tasks.
            ids: only these queries; one that is not there is left out.
            columns: only these columns of table ``query``, in this order; all by default.

        Raises:
            ValueError: a column does not exist.
        """
        wanted = list(QUERY_COLUMNS if columns is None else columns)
        unknown = sorted(set(wanted) - set(QUERY_COLUMNS))
        if unknown:
            raise ValueError(
                f"query has no column {', '.join(unknown)}; it has {', '.join(QUERY_COLUMNS)}"
            )
        params = {
            "split": split,
            "tasks": None if tasks is None else list(tasks),
            "ids": None if ids is None else list(ids),
        }
        return self._session.frame_of(query("queries"), wanted, params)

    def _add(
        self, table: str, rows: pl.DataFrame, statement: str, refers_to: str | None = None
    ) -> int:
        session = self._session
        with session.transaction(), session.staged(rows):
            if refers_to:
                refuse_unknown(session, table, refers_to)
            before = session.value(_COUNT[table])
            session.execute(query(statement), {"now": now()})
            return int(session.value(_COUNT[table])) - int(before)


_COUNT = {
    "model": "SELECT count(*) AS n FROM model",
    "model_revision": "SELECT count(*) AS n FROM model_revision",
    "task": "SELECT count(*) AS n FROM task",
    "query": "SELECT count(*) AS n FROM query",
}

_UNKNOWN = {
    "model_id": (
        "SELECT DISTINCT model_id AS id FROM incoming ANTI JOIN model USING (model_id)",
        "is not in table model; add the model first",
    ),
    "query_id": (
        "SELECT DISTINCT query_id AS id FROM incoming ANTI JOIN query USING (query_id)",
        "is not in table query; add the query first",
    ),
}


def refuse_unknown(session: Session, table: str, *columns: str) -> None:
    """Hold the staged frame ``incoming`` against the tables its ids point to."""
    # One statement for all: each costs more than looking up a few hundred ids.
    asked = (f"SELECT '{column}', id FROM ({_UNKNOWN[column][0]})" for column in columns)  # noqa: S608
    found = session.rows(" UNION ALL ".join(asked))
    for column in columns:
        if unknown := sorted(id_ for name, id_ in found if name == column):
            rule = _UNKNOWN[column][1]
            rows = [{column: i} for i in unknown[:3]]
            raise ContractError(table, column, rule, rows, n_rows=len(unknown))
