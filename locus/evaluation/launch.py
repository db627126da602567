"""An evaluation in a worker process: its own environment, leave to ask, what failed."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locus.budget import Purse, Spent
from locus.evaluation.backends import key_variable
from locus.evaluation.child import WorkerFailedError, started
from locus.evaluation.failure import Failure
from locus.evaluation.request import EvaluationRequest

# What a worker inherits. Everything else stays out, keys of any kind first of all.
_INHERITED = {
    "PATH", "HOME", "USER", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH",
    "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE", "HF_HOME", "HF_ENDPOINT", "HF_HUB_CACHE", "HF_HUB_OFFLINE",
    "HF_DATASETS_OFFLINE", "HF_DATASETS_CACHE", "TRANSFORMERS_OFFLINE", "CUDA_VISIBLE_DEVICES",
    "CUDA_HOME",
}  # fmt: skip
_INHERITED_PREFIXES = ("LC_", "NVIDIA_")


class EvaluationFailedError(RuntimeError):
    """A worker ended without answering everything.

    Attributes:
        model_id: the model.
        reason: one line.
        log_path: what the worker said.
        parts: parts that it finished before; they count.
        kind: what kind of failure it was.
    """

    def __init__(
        self, model_id: str, reason: str, log_path: Path, parts: Sequence[Path], kind: Failure
    ) -> None:
        super().__init__(f"evaluation of {model_id} failed: {reason} (log: {log_path})")
        self.model_id = model_id
        self.reason = reason
        self.log_path = log_path
        self.parts = list(parts)
        self.kind = kind


@dataclass(frozen=True)
class Progress:
    """Where an evaluation stands.

    Attributes:
        done: queries answered.
        of: queries in all.
        remaining_s: seconds that the rest is expected to take; None as long as nothing is known.
    """

    done: int
    of: int
    remaining_s: float | None = None


def worker_environment(threads: int | None = None, key: str | None = None) -> dict[str, str]:
    """The environment of a worker: what it needs to run, and no secret but the one it needs.

    Args:
        threads: CPU threads; None leaves it to torch.
        key: environment variable of the key of the service that it asks; None for no key.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _INHERITED or name.startswith(_INHERITED_PREFIXES) or name == key
    }
    if threads is not None:
        kept["OMP_NUM_THREADS"] = str(threads)
    return {**kept, "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}


def evaluate(
    request: EvaluationRequest,
    work: Path,
    timeout_s: float,
    threads: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    purse: Purse | None = None,
    memory_gb: float | None = None,
) -> list[Path]:
    """Run a request in a process of its own.

    Args:
        request: what to ask.
        work: folder for the request and the worker's log.
        timeout_s: wall time after which the worker and its children are killed.
        threads: CPU threads of the worker; None leaves it to torch. Workers beside one another
            that each take every core wait for each other most of the time.
        on_progress: called whenever a chunk is done.
        purse: what may be spent; where it ends the worker ends, in good order. None for no limit.
        memory_gb: main memory (GB, of 1e9 bytes) that the worker and its children may use before
            they are killed; None for no limit.

    Returns:
        Paths of the parts, in the order they were finished.

    Raises:
        EvaluationFailedError: the worker failed, was killed, or ran out of time or memory; what it
            finished is in the error's ``parts``.
    """
    request_path = work / "request.json"
    log_path = work / "worker.log"
    request.write(request_path)
    parts: list[Path] = []
    pace = _Pace()
    try:
        with started(
            "locus.evaluation.worker",
            [str(request_path), "--granted"],
            log_path,
            worker_environment(threads, key_variable(request.backend, request.args)),
            timeout_s,
            memory_gb,
        ) as worker:
            for event in worker.events():
                if event["event"] == "ready":
                    worker.tell(str(purse.allow(event["next"]) if purse else event["next"]))
                    continue
                if purse and "asked" in event:
                    purse.settle(Spent(event["asked"], event["tokens"], event["usd"]))
                if "part" in event:
                    parts.append(Path(request.parts) / event["part"])
                if on_progress:
                    on_progress(pace.progress(event))
    except WorkerFailedError as error:
        raise EvaluationFailedError(
            request.model_id, error.reason, log_path, parts, error.kind
        ) from error
    finally:
        if purse:
            purse.close()
    return parts


class _Pace:
    """Reckons what is left of an evaluation from what was done since the model was loaded."""

    def __init__(self) -> None:
        self._from: tuple[float, int] | None = None

    def progress(self, event: Mapping[str, Any]) -> Progress:
        done, of, now = int(event["done"]), int(event["of"]), time.monotonic()
        if event["event"] == "loaded":
            self._from = (now, done)
        if self._from is None or done <= self._from[1]:
            return Progress(done, of)
        began, before = self._from
        return Progress(done, of, (now - began) / (done - before) * (of - done))
