"""Trained encoders: which there are and which one is in use."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from warehouse.connection import Session, now
from warehouse.errors import WarehouseError
from warehouse.sql import query
from warehouse.values import json_text, json_value

_REQUIRED = {"checkpoint_id", "encoder"}
_OPTIONAL = {
    "parent",
    "created_at",
    "config",
    "metrics",
    "n_models",
    "n_queries",
    "n_scores",
    "git_sha",
}


class Checkpoints:
    """Reads and writes ``checkpoint``; at most one row is active."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, row: Mapping[str, Any], activate: bool = True) -> None:
        """Add a checkpoint; one that is there already stays as it is.

        Args:
            row: ``checkpoint_id`` and ``encoder``, and what is known of ``parent``,
                ``created_at`` (UTC, now by default), ``config`` and ``metrics`` (JSON-like),
                ``n_models``, ``n_queries``, ``n_scores``, ``git_sha``.
            activate: make it the active one, retiring the other, in the same transaction.

        Raises:
            ValueError: a key is missing or unknown.
        """
        missing, unknown = _REQUIRED - set(row), set(row) - _REQUIRED - _OPTIONAL
        if missing or unknown:
            raise ValueError(
                f"checkpoint row: missing {sorted(missing)}, unknown {sorted(unknown)}"
            )
        values = {name: row.get(name) for name in _REQUIRED | _OPTIONAL}
        values["created_at"] = row.get("created_at") or now()
        values["config"] = json_text(row.get("config"))
        values["metrics"] = json_text(row.get("metrics"))
        with self._session.transaction():
            if self.get(row["checkpoint_id"]) is None:
                self._session.execute(query("insert_checkpoint"), values)
            if activate:
                self.activate(row["checkpoint_id"])

    def activate(self, checkpoint_id: str) -> None:
        """Make this checkpoint the active one and retire the other, in one transaction.

        Raises:
            WarehouseError: no such checkpoint.
        """
        with self._session.transaction():
            if self.get(checkpoint_id) is None:
                raise WarehouseError(f"checkpoint {checkpoint_id} is not there; add it first")
            self._session.execute(
                "UPDATE checkpoint "
                "SET state = CASE WHEN checkpoint_id = ? THEN 'active' ELSE 'retired' END",
                [checkpoint_id],
            )

    def get(self, checkpoint_id: str) -> dict[str, Any] | None:
        """One checkpoint as a dict, ``config`` and ``metrics`` as values, or None."""
        return _decoded(
            self._session.row("SELECT * FROM checkpoint WHERE checkpoint_id = ?", [checkpoint_id])
        )

    def active(self) -> dict[str, Any] | None:
        """The active checkpoint as a dict, ``config`` and ``metrics`` as values, or None."""
        return _decoded(self._session.row("SELECT * FROM checkpoint WHERE state = 'active'"))

    def list(self) -> pl.DataFrame:
        """All checkpoints, the newest first: the columns of ``checkpoint`` (JSON as text)."""
        return self._session.frame(
            "SELECT * FROM checkpoint ORDER BY created_at DESC, checkpoint_id"
        )


def _decoded(row: dict[str, Any] | None) -> dict[str, Any] | None:
    if row is not None:
        row["config"], row["metrics"] = json_value(row["config"]), json_value(row["metrics"])
    return row
