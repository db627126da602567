"""The lease on the pipeline: who may write, and how those who no longer may are kept out.

One row of ``run_lease`` names the run that holds the lease, by a token that grows with every
taking. A process that relies on a lease says so (`fenced`); from then on it can open the database
only while the row has its token. That check at opening is enough: as long as a process has the
file open no other can open it, so nobody can take the lease over before it is closed again.

Whether an owner is dead is for the caller to find out; nothing here looks at clocks or processes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from warehouse.connection import Session, now
from warehouse.errors import WarehouseError
from warehouse.sql import query

PIPELINE = "pipeline"

# Of the whole process and not of a context: no thread of a run that lost its lease may write,
# whoever started it. A process relies on one lease per database at most.
_fences: dict[Path, int] = {}


class LeaseLostError(WarehouseError):
    """This process lost the lease on the pipeline; nothing more that it writes is taken."""


@dataclass(frozen=True)
class Owner:
    """Who takes a lease; the columns of ``run_lease`` of the same names."""

    what: str
    flow_run_id: str | None
    host: str
    machine: str
    pid: int
    process_start: str


class Leases:
    """Reads and writes ``run_lease``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self) -> dict[str, Any]:
        """The row of the pipeline's lease; ``token`` is 0 before the first run."""
        row = self._session.row("SELECT * FROM run_lease WHERE name = ?", [PIPELINE])
        if row is None:
            raise WarehouseError(
                f"{self._session.path}: run_lease has no row {PIPELINE!r}, which its migration "
                "wrote: put it back (token 0, released_at any time)"
            )
        return row

    def take(self, owner: Owner, seconds: float, over: int) -> int | None:
        """Take the lease, if nobody else did since it was read.

        Args:
            owner: who takes it.
            seconds: how long it lasts without a sign of life.
            over: the token that was read.

        Returns:
            The new token; None if the lease has another token than ``over`` by now.
        """
        at = now()
        values = {
            **asdict(owner),
            "name": PIPELINE,
            "over": over,
            "now": at,
            "expires_at": at + timedelta(seconds=seconds),
        }
        return over + 1 if self._session.execute(query("take_lease"), values) else None

    def renew(self, token: int, seconds: float) -> None:
        """Give a sign of life.

        Raises:
            LeaseLostError: the lease is another's by now.
        """
        at = now()
        expires_at = at + timedelta(seconds=seconds)
        values = {"name": PIPELINE, "token": token, "now": at, "expires_at": expires_at}
        if not self._session.execute(query("renew_lease"), values):
            raise _lost(self._session, self.get())

    def release(self, token: int) -> None:
        """Give the lease back.

        Raises:
            LeaseLostError: the lease is another's by now.
        """
        values = {"name": PIPELINE, "token": token, "now": now()}
        if not self._session.execute(query("release_lease"), values):
            raise _lost(self._session, self.get())


@contextmanager
def fenced(path: Path, token: int) -> Iterator[None]:
    """Let this process open a database only while the lease has this token.

    Args:
        path: the database file.
        token: what `Leases.take` gave.

    Raises:
        WarehouseError: this process relies on another lease on the same database.
    """
    key = path.resolve()
    if _fences.setdefault(key, token) != token:
        raise WarehouseError(f"{path}: this process relies on another lease already")
    try:
        yield
    finally:
        del _fences[key]


def fence(path: Path) -> int | None:
    """Token of the lease that this process relies on for a database; None if on none."""
    return _fences.get(path.resolve())


def refuse_lost(session: Session) -> None:
    """Refuse a process that relies on a lease that it no longer has.

    Raises:
        LeaseLostError: it lost the lease.
    """
    token = fence(session.path)
    if token is None:
        return
    row = Leases(session).get()
    if row["token"] != token or row["released_at"] is not None:
        raise _lost(session, row)


def _lost(session: Session, row: dict[str, Any]) -> LeaseLostError:
    if row["released_at"] is None:
        now_held = f"{row['what']} on {row['host']}, process {row['pid']}, holds it now"
    else:
        now_held = "it has been given back since"
    return LeaseLostError(
        f"{session.path}: this run was silent for so long that its lease was taken over "
        f"({now_held}); nothing more is written. What it finished before is kept, and the next "
        "run goes on from there"
    )
