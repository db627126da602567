"""Follows a published folder: always a router of the newest snapshot that can be used."""

import gc
import logging
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from locus import snapshots
from locus.routing.router import Router
from locus.snapshots import CURRENT, Snapshot, SnapshotError, file_sha256

log = logging.getLogger(__name__)

LOOK_S = 1.0
RETRY_S = 30.0

# What a router reads of a snapshot; the rest of it (the warehouse, pages) may be large.
_READ = ("routing/", "similarity/embeddings.parquet")

_Seen = tuple[int, int, int]


@dataclass(frozen=True)
class Serving:
    """A snapshot in use.

    Attributes:
        snapshot_id: its id.
        created_at: UTC.
        router: ranks its pool.
    """

    snapshot_id: str
    created_at: datetime
    router: Router

    @property
    def age_seconds(self) -> float:
        """Seconds since it was made."""
        return (datetime.now(UTC) - self.created_at).total_seconds()


class Follower:
    """Looks at ``current.json`` and loads what it names, in a thread of its own.

    Whoever took `serving` keeps that router; the next one is taken once it has routed a query. A
    snapshot that can't be used is logged and told by `problem`, and the one before stays.

    Args:
        published: the published folder.
        encoder: sentence encoder to use; None takes the one that is named in the manifest.
        look_s: seconds between two looks, each of which is one `stat`.
        retry_s: seconds until a snapshot that could not be used is tried again.
    """

    def __init__(
        self,
        published: Path,
        encoder: str | None = None,
        look_s: float = LOOK_S,
        retry_s: float = RETRY_S,
    ) -> None:
        self._published, self._encoder = published, encoder
        self._look_s, self._retry_s = look_s, retry_s
        self._serving: Serving | None = None
        self._problem: str | None = None
        self._faults = 0
        self._seen: _Seen | None = None
        self._tried_at = float("-inf")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="locus-snapshots", daemon=True)

    @property
    def serving(self) -> Serving | None:
        """What is in use; None while nothing could be loaded."""
        return self._serving

    @property
    def problem(self) -> str | None:
        """Why what is published is not in use; None where it is. May name folders."""
        return self._problem

    @property
    def faults(self) -> int:
        """Times that a snapshot could not be used."""
        return self._faults

    def start(self) -> None:
        """Begin to follow; returns before anything is loaded."""
        self._thread.start()

    def close(self) -> None:
        """Stop; a snapshot that is being loaded is waited for."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _follow(self) -> None:
        while not self._stop.is_set():
            self._look()
            self._stop.wait(self._look_s)

    def _look(self) -> None:
        seen = self._stat()
        again = self._problem is not None and time.monotonic() - self._tried_at > self._retry_s
        if seen == self._seen and not again:
            if seen is None and self._serving is None and self._problem is None:
                self._problem = "nothing is published yet"
            return
        # Remembered as it was before the load: a switch while it goes on is seen the next time.
        self._seen, self._tried_at = seen, time.monotonic()
        try:
            self._load()
        # Whatever is wrong with a snapshot, the one in use must go on being used.
        except Exception as error:
            self._faults += 1
            said = str(error) or type(error).__name__
            if said != self._problem:
                log.error(
                    "the published snapshot can't be used: %s",
                    said,
                    exc_info=not isinstance(error, SnapshotError),
                )
            self._problem = said

    def _stat(self) -> _Seen | None:
        try:
            found = (self._published / CURRENT).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _load(self) -> None:
        snapshot = snapshots.current(self._published)
        now = self._serving
        if now is None or now.snapshot_id != snapshot.snapshot_id:
            _check(snapshot)
            router = Router.load(self._published, self._encoder)
            # The first query loads the sentence encoder, which takes seconds: nobody waits for it.
            router.decide(["What is one plus one?"], 1)
            if router.snapshot_id != snapshot.snapshot_id:
                # Switched meanwhile: the next look sees the other file.
                self._seen = None
                return
            created_at = datetime.fromisoformat(snapshot.manifest["created_at"])
            self._serving = Serving(snapshot.snapshot_id, created_at, router)
            del now
            gc.collect()  # the encoder before holds itself, and is large
            log.info("routing by snapshot %s, %d models", snapshot.snapshot_id, len(router.models))
        self._problem = None


def _check(snapshot: Snapshot) -> None:
    """Compare the files that a router reads with the manifest."""
    for name, entry in snapshot.manifest["files"].items():
        if name.startswith(_READ):
            path = snapshot.folder / name
            if not path.is_file() or file_sha256(path) != entry["sha256"]:
                raise SnapshotError(
                    f"snapshot {snapshot.snapshot_id}: {name} is not as it was sealed; publish "
                    "anew, or go back with `locus snapshots rollback`"
                )
