"""Canaries: what models answer to the same few questions night after night, apart from scores."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from warehouse.catalogue import refuse_unknown
from warehouse.connection import Session
from warehouse.contracts import CanaryFrame, polars_schema, validated
from warehouse.errors import ContractError, WarehouseError
from warehouse.scores import Scores
from warehouse.sql import query

KIND = "canary"
"""``evaluation_run.kind`` of a run whose answers go into ``canary``."""


class Canaries:
    """Reads and writes ``canary``."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._parts = _CanaryParts(session)

    def merge_part(self, path: Path, run_id: str) -> int:
        """Merge one Parquet part of scores (`contracts.ScoreFrame`) as canaries: all of it, once.

        The part is what an evaluation would have written; see `Scores.merge_part`.

        Args:
            path: the part.
            run_id: the run of kind `KIND` that produced it.

        Returns:
            Number of rows inserted; 0 when the same bytes were merged before.

        Raises:
            ContractError: the file is no Parquet, or a row breaks the contract, belongs to another
                model or version than the run, to a model or query that is not there, or answers a
                query of this run a second time.
            WarehouseError: no such run, or one of another kind.
            OSError: the file cannot be read.
        """
        return self.merge_parts([path], run_id)

    def merge_parts(self, paths: Sequence[Path], run_id: str) -> int:
        """Merge several parts as canaries in one transaction; see `Scores.merge_parts`.

        Args:
            paths: the parts.
            run_id: the run of kind `KIND` that produced them.

        Returns:
            Number of rows inserted; none of a part whose bytes were merged before.

        Raises:
            ContractError: as of one part; none was merged.
            WarehouseError: no such run, or one of another kind.
            OSError: a file cannot be read.
        """
        run = self._parts.run(run_id)
        if run is not None and run["kind"] != KIND:
            raise WarehouseError(
                f"run {run_id} is of kind {run['kind']!r}, not {KIND!r}: its parts are scores; "
                "merge them as such"
            )
        return self._parts.merge_parts(paths, run_id)

    def asked(self, model_id: str, revision: str) -> list[str]:
        """Ids of the questions that this version of a model is asked every night.

        They are those of its newest baseline (view ``canary_night``); empty before there is one.
        """
        given = {"model_id": model_id, "revision": revision}
        return list(self._session.frame(query("canary_baseline"), given)["query_id"])

    def last_asked(self, model_id: str, revision: str) -> datetime | None:
        """When a canary of this version of a model was last answered (UTC); None for never."""
        at: datetime | None = self._session.value(
            "SELECT max(asked_at) AS at_last FROM canary WHERE model_id = ? AND revision = ?",
            [model_id, revision],
        )
        return at

    def history(self, model_id: str, revision: str) -> pl.DataFrame:
        """The baseline in force and every night since that was asked in the same way.

        Returns:
            ``run_id``, ``asked_at`` (of the night, UTC), ``query_id``, ``status``, ``score`` (0 to
            1, NULL unless ok), ``response_sha256``, ordered by time: the first night is the
            baseline. Empty if the newest night has none.
        """
        given = {"model_id": model_id, "revision": revision}
        return self._session.frame(query("canary_history"), given)


class _CanaryParts(Scores):
    """Merges parts as `Scores` does, each once, but into ``canary``."""

    def _insert_rows(self, rows: pl.DataFrame, run: Mapping[str, Any]) -> None:
        session, run_id = self._session, run["run_id"]
        canaries = validated(CanaryFrame, _canaries(rows))
        with session.staged(canaries):
            refuse_unknown(session, "canary", "model_id", "query_id")
            again = session.frame(query("repeated_canaries"), {"run_id": run_id})
            if again.height:
                rule = f"is answered in run {run_id} already"
                raise ContractError(
                    "canary", "query_id", rule, again.head(3).to_dicts(), n_rows=again.height
                )
            session.execute(
                "INSERT INTO canary BY NAME SELECT ? AS run_id, * FROM incoming", [run_id]
            )


def _canaries(rows: pl.DataFrame) -> pl.DataFrame:
    """Scores as canaries (`contracts.CanaryFrame`)."""
    digests = [_sha256(text) for text in rows["response"]]
    return rows.with_columns(
        pl.col("scored_at").alias("asked_at"),
        response_sha256=pl.Series(digests, dtype=pl.String),
    ).select(polars_schema(CanaryFrame).names())


def _sha256(text: Any) -> str | None:
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()
