"""What was published, and the copy of the database that is published."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from warehouse.connection import Session, now
from warehouse.errors import WarehouseError
from warehouse.replica import write_copy
from warehouse.sql import query

_REQUIRED = {"snapshot_id", "n_models", "n_queries", "n_scores"}
_OPTIONAL = {"parent", "created_at", "manifest_sha256", "checkpoint_id"}


class Snapshots:
    """Reads and writes ``snapshot``, and writes published copies."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, row: Mapping[str, Any]) -> None:
        """Remember a published snapshot.

        Args:
            row: ``snapshot_id``, ``n_models``, ``n_queries``, ``n_scores``, and what is known of
                ``parent``, ``created_at`` (UTC, now by default), ``manifest_sha256``,
                ``checkpoint_id``.

        Raises:
            ValueError: a key is missing or unknown.
            WarehouseError: the snapshot is there already.
        """
        missing, unknown = _REQUIRED - set(row), set(row) - _REQUIRED - _OPTIONAL
        if missing or unknown:
            raise ValueError(f"snapshot row: missing {sorted(missing)}, unknown {sorted(unknown)}")
        values = {name: row.get(name) for name in _REQUIRED | _OPTIONAL}
        values["created_at"] = row.get("created_at") or now()
        with self._session.transaction():
            sql = "SELECT count(*) AS n FROM snapshot WHERE snapshot_id = ?"
            if self._session.value(sql, [row["snapshot_id"]]):
                raise WarehouseError(f"snapshot {row['snapshot_id']} is there already")
            self._session.execute(query("insert_snapshot"), values)

    def list(self) -> pl.DataFrame:
        """All snapshots, the newest first: the columns of ``snapshot``."""
        return self._session.frame(
            "SELECT * FROM snapshot ORDER BY created_at DESC, snapshot_id DESC"
        )

    def latest(self) -> dict[str, Any] | None:
        """The newest snapshot as a dict, or None before the first."""
        rows = self.list().head(1).to_dicts()
        return rows[0] if rows else None

    def held(self, checkpoint_id: str) -> str:
        """What a snapshot would be made of now, as one word; equal words, equal content.

        Written down as ``holds`` of the audit entries `publish` and `snapshot rollback`, where
        `is_behind` reads it.

        Args:
            checkpoint_id: whose places of models count.
        """
        return str(self._session.value(query("held"), {"checkpoint_id": checkpoint_id}))

    def is_behind(self, snapshot_id: str, created_at: datetime, checkpoint_id: str) -> bool:
        """Whether a snapshot lacks scores, or places by a checkpoint, that came in later.

        Args:
            snapshot_id: the current snapshot.
            created_at: when it was built (UTC); counts only where no ``holds`` is written down.
            checkpoint_id: the active checkpoint.
        """
        values = {
            "snapshot_id": snapshot_id,
            "created_at": created_at,
            "checkpoint_id": checkpoint_id,
            "held": self.held(checkpoint_id),
        }
        return bool(self._session.value(query("is_behind"), values))

    def copy_to(self, dst: Path) -> None:
        """Write the copy that people query: complete, read-only, there whole or not at all.

        See `warehouse.replica.write_copy`.

        Raises:
            WarehouseError: a transaction is open, or ``dst`` is the working file.
        """
        write_copy(self._session, dst)
