"""`Warehouse`: the working database, opened by one process at a time.

What makes frames is imported where it is first used: `locus status` only asks for plain values, and
polars would be a third of its time.
"""

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from warehouse.connection import Params, Session, connect, now
from warehouse.leases import Leases, refuse_lost
from warehouse.migrate import migrate, schema_version
from warehouse.values import json_text

if TYPE_CHECKING:
    import polars as pl

    from warehouse.canaries import Canaries
    from warehouse.catalogue import Catalogue
    from warehouse.checkpoints import Checkpoints
    from warehouse.prices import Prices
    from warehouse.scores import Scores
    from warehouse.snapshots import Snapshots
    from warehouse.vectors import Vectors

# One thread at a time opens or closes a file: POSIX drops all locks that a process has on a file as
# soon as it closes one of its handles. A thread that opened while another one closes would have the
# file open beside another process (measured; see docs/design/lease.md).
_doors: dict[Path, threading.Lock] = {}


def _door(path: Path) -> threading.Lock:
    return _doors.setdefault(path.resolve(), threading.Lock())


class Warehouse:
    """The working database and everything that reads or writes it.

    Open it with `Warehouse.open`, as a context manager, for as short as can be: while it is open
    no other process can open the file, not even to read. One object belongs to one thread.
    Readers use the published copy (`warehouse.console`).

    Attributes:
        path: the database file.
        leases: which run may write.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.path = session.path
        self.leases = Leases(session)

    @cached_property
    def catalogue(self) -> "Catalogue":
        """Models, revisions, tasks and queries."""
        from warehouse.catalogue import Catalogue

        return Catalogue(self._session)

    @cached_property
    def scores(self) -> "Scores":
        """Evaluation runs and scores."""
        from warehouse.scores import Scores

        return Scores(self._session)

    @cached_property
    def canaries(self) -> "Canaries":
        """Answers to the same few questions, night after night."""
        from warehouse.canaries import Canaries

        return Canaries(self._session)

    @cached_property
    def prices(self) -> "Prices":
        """What tokens of a model cost, and since when."""
        from warehouse.prices import Prices

        return Prices(self._session)

    @cached_property
    def vectors(self) -> "Vectors":
        """Query encodings, model embeddings and predictions."""
        from warehouse.vectors import Vectors

        return Vectors(self._session)

    @cached_property
    def checkpoints(self) -> "Checkpoints":
        """Trained encoders."""
        from warehouse.checkpoints import Checkpoints

        return Checkpoints(self._session)

    @cached_property
    def snapshots(self) -> "Snapshots":
        """What was published, and the copy that is published."""
        from warehouse.snapshots import Snapshots

        return Snapshots(self._session)

    @classmethod
    def open(cls, path: Path, *, wait_s: float = 30) -> Self:
        """Open the database, create it where missing, and bring it to the newest schema.

        Args:
            path: the database file.
            wait_s: seconds to wait while another process holds the file.

        Raises:
            WarehouseBusyError: another process still holds the file after ``wait_s`` seconds.
            MigrationError: the file is no warehouse, is newer than this code
                (`SchemaTooNewError`), or a migration failed.
            LeaseLostError: this process lost the lease that it relies on.
        """
        with _door(path):
            session = Session(connect(path, wait_s), path)
            try:
                migrate(session)
                refuse_lost(session)
            except BaseException:
                session.close()
                raise
        return cls(session)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; an open transaction is rolled back."""
        with _door(self.path):
            self._session.close()

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing for everything written inside; one inside another joins it."""
        return self._session.transaction()

    def schema_version(self) -> int:
        """Number of the newest migration applied."""
        return schema_version(self._session)

    def read(self, sql: str, params: Params = None) -> "pl.DataFrame":
        """Rows of a SELECT over the working file; for the pipeline's own SQL, values bound."""
        return self._session.frame(sql, params)

    def rows(self, sql: str, params: Params = None) -> list[tuple[Any, ...]]:
        """Like `read`, as plain values: without Arrow, which starts slowly."""
        return self._session.rows(sql, params)

    def audit(self, action: str, subject: str, detail: Mapping[str, Any] | None = None) -> None:
        """Remember an act: what was done, to what, and anything else as a JSON-like mapping."""
        self._session.execute(
            "INSERT INTO audit_log VALUES (?, ?, ?, ?)",
            [now(), action, subject, json_text(detail)],
        )

    def import_bundle(
        self,
        run_id: str,
        kind: str,
        models: "pl.DataFrame",
        revisions: "pl.DataFrame",
        tasks: "pl.DataFrame",
        queries: "pl.DataFrame",
        scores: "pl.DataFrame",
        settings: Mapping[str, Any],
        *,
        versions: Mapping[str, Any] | None = None,
        git_sha: str | None = None,
    ) -> dict[str, int]:
        """Take in models, queries and scores from elsewhere; see `warehouse.bundle`."""
        from warehouse.bundle import import_bundle

        return import_bundle(
            self._session,
            run_id=run_id,
            kind=kind,
            models=models,
            revisions=revisions,
            tasks=tasks,
            queries=queries,
            scores=scores,
            settings=settings,
            versions=versions,
            git_sha=git_sha,
        )
