"""What passes between a pipeline and a worker on another machine: objects in shared storage.

A job is one attempt at one evaluation, in a folder of its own::

    jobs/<run>-<attempt>/job.json      what to ask, and within which limits; written once
    jobs/<run>-<attempt>/wanted.json   the pipeline's sign of life, and whether to ask on
    jobs/<run>-<attempt>/report.json   the worker's sign of life, and how far it is
    jobs/<run>-<attempt>/worker.log    the end of what the evaluation said
    parts/<model>/<name>-<sha256>.parquet

Signs of life are counters: whoever watches one looks whether it changes, by a clock of its own. No
two clocks are compared. A job whose folder is gone is not wanted any more.
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from locus.budget import Budget, Estimate, Spent
from locus.durable import whole_file
from locus.evaluation.failure import Failure
from locus.evaluation.request import EvaluationRequest
from locus.storage import Storage, StorageAddressError, open_storage

log = logging.getLogger(__name__)

JOBS = "jobs"
LOG_BYTES = 2**18
NOTHING = Spent()

_JOB = re.compile(r"[0-9a-f-]{36}-[0-9]{1,6}")
# Nothing else that lies in storage becomes the name of a file.
_PART = re.compile(r"([0-9a-f]{32})-([0-9a-f]{64})\.parquet")


@dataclass(frozen=True)
class Limits:
    """What a job may take.

    Attributes:
        timeout_s: wall time of the evaluation.
        silence_s: seconds without a sign of life after which either side counts as dead.
        budget: what was set aside for it.
        estimate: what one query is expected to cost.
        memory_gb: main memory (GB, of 1e9 bytes); None for no limit.
    """

    timeout_s: float
    silence_s: float
    budget: Budget
    estimate: Estimate
    memory_gb: float | None = None

    @property
    def beat_s(self) -> float:
        """Seconds between two signs of life."""
        return self.silence_s / 6


@dataclass(frozen=True)
class Job:
    """One attempt at one evaluation.

    Attributes:
        request: what to ask, as `EvaluationRequest.write` writes it.
        limits: what it may take.
        parts: folder of its parts in storage.
        versions: of packages that must be the same where it runs.
    """

    request: dict[str, Any]
    limits: Limits
    parts: str
    versions: dict[str, str]

    def to_bytes(self) -> bytes:
        """As JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Job":
        """Read what `to_bytes` wrote."""
        said = json.loads(content)
        limits = said["limits"]
        return cls(
            **{
                **said,
                "limits": Limits(
                    **{
                        **limits,
                        "budget": Budget(**limits["budget"]),
                        "estimate": Estimate(**limits["estimate"]),
                    }
                ),
            }
        )

    def read_request(self, work: Path) -> EvaluationRequest:
        """The request, with its parts in a folder of this machine."""
        path = work / "asked.json"
        path.write_text(json.dumps(self.request), encoding="utf-8")
        return replace(EvaluationRequest.read(path), parts=str(work / "parts"))


@dataclass(frozen=True)
class Wanted:
    """A pipeline's sign of life.

    Attributes:
        beat: counts up.
        ask: whether to ask on; if not, the job ends in good order.
    """

    beat: int
    ask: bool = True


@dataclass(frozen=True)
class Report:
    """A worker's sign of life.

    Attributes:
        beat: counts up.
        host: the machine.
        done: queries answered.
        of: queries in all.
        remaining_s: seconds that the rest is expected to take; None where that isn't known.
        spent: what was spent so far.
        ended: whether it has ended; all parts are in storage then.
        error: why it failed; None if it didn't.
        kind: what kind of failure that was.
        stopped: why it ended before all was asked, without a failure; None if it didn't.
    """

    beat: int
    host: str
    done: int = 0
    of: int = 0
    remaining_s: float | None = None
    spent: Spent = NOTHING
    ended: bool = False
    error: str | None = None
    kind: Failure | None = None
    stopped: str | None = None


class JobFolder:
    """The folder of one job.

    Attributes:
        storage: where it lies.
        name: the job's.
    """

    def __init__(self, storage: Storage, name: str) -> None:
        if not _JOB.fullmatch(name):
            raise StorageAddressError(f"{name!r} is no name of a job")
        self.storage = storage
        self.name = name

    @classmethod
    def at(cls, address: str) -> "JobFolder":
        """The folder at an address.

        Raises:
            StorageAddressError: it is none of a job.
        """
        root, found, name = address.rpartition(f"/{JOBS}/")
        if not found:
            raise StorageAddressError(f"{address!r} is no address of a job")
        return cls(open_storage(root), name)

    @property
    def address(self) -> str:
        """Where it is; all that a worker is given."""
        return f"{self.storage.address}/{JOBS}/{self.name}"

    def job(self) -> Job | None:
        """What to do; None if the job was taken back."""
        content = self._get("job.json")
        return None if content is None else Job.from_bytes(content)

    def give(self, job: Job) -> None:
        """Write what to do."""
        self._put("job.json", job.to_bytes())

    def wanted(self) -> Wanted | None:
        """The pipeline's last sign of life; None if the job was taken back."""
        content = self._get("wanted.json")
        return None if content is None else Wanted(**json.loads(content))

    def want(self, wanted: Wanted) -> None:
        """Give the pipeline's sign of life."""
        self._put("wanted.json", json.dumps(asdict(wanted)).encode())

    def report(self) -> Report | None:
        """The worker's last sign of life; None before its first."""
        content = self._get("report.json")
        if content is None:
            return None
        said = json.loads(content)
        kind = said.get("kind")
        return Report(
            **{
                **said,
                "spent": Spent(**said["spent"]),
                "kind": None if kind is None else Failure(kind),
            }
        )

    def tell(self, report: Report) -> None:
        """Give the worker's sign of life."""
        self._put("report.json", json.dumps(asdict(report)).encode())

    def log(self) -> bytes | None:
        """The end of what the evaluation said; None if nothing was brought."""
        return self._get("worker.log")

    def bring_log(self, path: Path) -> None:
        """Bring the end of what the evaluation said."""
        if path.exists():
            self._put("worker.log", path.read_bytes()[-LOG_BYTES:])

    def take_back(self) -> None:
        """Remove the job; whoever is at it ends after its chunk."""
        for name in self.storage.names(f"{JOBS}/{self.name}"):
            self.storage.remove(name)

    def _get(self, name: str) -> bytes | None:
        return self.storage.get(f"{JOBS}/{self.name}/{name}")

    def _put(self, name: str, content: bytes) -> None:
        self.storage.put(f"{JOBS}/{self.name}/{name}", content)


class Parts:
    """Parts of one model and revision in storage, each under its name and the hash of its content.

    So two attempts that run at the same time never write over one another: of two parts that
    answer the same queries the first that is fetched counts.
    """

    def __init__(self, storage: Storage, folder: str) -> None:
        self._storage = storage
        self._folder = folder
        self._bad: set[str] = set()

    def bring(self, path: Path) -> None:
        """Put a finished part into storage."""
        content = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        self._storage.put(f"{self._folder}/{path.stem}-{sha256}.parquet", content)

    def fetch(self, into: Path) -> list[Path]:
        """Fetch what isn't there yet.

        One that isn't what its name says is left where it is, with an error in the log.

        Returns:
            Where all parts in storage now lie in ``into``.
        """
        found: dict[Path, None] = {}
        for name, stem, sha256 in self._listed():
            path = into / f"{stem}.parquet"
            if not path.exists():
                if name in self._bad or (content := self._storage.get(name)) is None:
                    continue
                if hashlib.sha256(content).hexdigest() != sha256:
                    self._bad.add(name)
                    log.error(
                        "%s: part %s is damaged, and left alone: its queries are asked again",
                        self._storage.address,
                        name,
                    )
                    continue
                into.mkdir(parents=True, exist_ok=True)
                with whole_file(path) as stream:
                    stream.write(content)
            found[path] = None
        return list(found)

    def remove(self, parts: Iterable[Path]) -> None:
        """Remove parts that were recorded, in every copy."""
        recorded = {path.stem for path in parts}
        for name, stem, _ in self._listed():
            if stem in recorded:
                self._storage.remove(name)

    def _listed(self) -> list[tuple[str, str, str]]:
        """(name, stem, sha256) of all."""
        names = self._storage.names(self._folder)
        matches = [(name, _PART.fullmatch(name.rpartition("/")[2])) for name in names]
        return [(name, match[1], match[2]) for name, match in matches if match]
