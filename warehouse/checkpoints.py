"""Trained encoders: which there are, which one is in use, and why."""

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

DECISIONS = ("first", "retrain", "by hand", "rollback")
"""Kinds of decisions about which checkpoint is the active one."""


class Checkpoints:
    """Reads and writes ``checkpoint``, of which at most one row is active, and its decisions."""

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

    def decide(
        self,
        kind: str,
        candidate: str,
        promoted: bool,
        reason: str,
        *,
        metrics: Mapping[str, Any] | None = None,
        git_sha: str | None = None,
    ) -> None:
        """Record a decision about a checkpoint, and carry it out, in one transaction.

        Args:
            kind: one of `DECISIONS`.
            candidate: the checkpoint; added before.
            promoted: whether it becomes the active one.
            reason: why, in words.
            metrics: what it was decided by, JSON-like.
            git_sha: commit of the code that decided.

        Raises:
            ValueError: no such kind, or metrics that are not JSON-like.
            WarehouseError: no such checkpoint.
        """
        if kind not in DECISIONS:
            raise ValueError(f"{kind!r} is no kind of decision; known are {', '.join(DECISIONS)}")
        with self._session.transaction():
            if self.get(candidate) is None:
                raise WarehouseError(f"checkpoint {candidate} is not there; add it first")
            active = self.active()
            values = {
                "decided_at": now(),
                "kind": kind,
                "candidate": candidate,
                "active": active["checkpoint_id"] if active else None,
                "promoted": promoted,
                "reason": reason,
                "metrics": json_text(metrics),
                "git_sha": git_sha,
            }
            self._session.execute(query("insert_decision"), values)
            if promoted:
                self.activate(candidate)

    def decisions(self, checkpoint_id: str | None = None) -> list[dict[str, Any]]:
        """Decisions, the newest first: rows of ``checkpoint_decision``, ``metrics`` as values.

        Args:
            checkpoint_id: only those about this checkpoint.
        """
        rows = self._session.frame(
            "SELECT * FROM checkpoint_decision WHERE ?::VARCHAR IS NULL OR candidate = ? "
            "ORDER BY decided_at DESC",
            [checkpoint_id, checkpoint_id],
        ).to_dicts()
        return [{**row, "metrics": json_value(row["metrics"])} for row in rows]

    def before(self) -> str | None:
        """The checkpoint that was active when the active one was promoted; None if there is none.

        Who came back by a rollback has the one that came before it at first: rolling back twice
        goes back twice.
        """
        active = self.active()
        if active is None:
            return None
        given = {"checkpoint_id": active["checkpoint_id"]}
        found: str | None = self._session.value(query("promoted_over"), given)
        return found

    def training_digest(self) -> str | None:
        """Digest of all current scores that a map is learned from (train and val); None if none.

        Another digest means other scores.
        """
        digest: str | None = self._session.value(query("training_digest"))
        return digest

    def list(self) -> pl.DataFrame:
        """All checkpoints, the newest first, each with the newest decision about it.

        Returns:
            The columns of ``checkpoint`` (JSON as text), then ``decided_at``, ``kind``,
            ``promoted``, ``reason``; NULL where nothing was decided.
        """
        return self._session.frame(query("checkpoints"))


def _decoded(row: dict[str, Any] | None) -> dict[str, Any] | None:
    if row is not None:
        row["config"], row["metrics"] = json_value(row["config"]), json_value(row["metrics"])
    return row
