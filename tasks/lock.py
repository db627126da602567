"""One pipeline run at a time on this machine, by an operating-system lock.

The lock belongs to the process: however it ends, the next run can start.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from tasks.settings import Settings


class PipelineBusyError(RuntimeError):
    """Another run holds the pipeline; the message says where."""


@contextmanager
def pipeline_lock(settings: Settings, wait_s: float = 0) -> Iterator[None]:
    """Hold the pipeline.

    Args:
        settings: the pipeline's settings.
        wait_s: how long to wait for another run to end; 0 gives up at once.

    Raises:
        PipelineBusyError: another run is still going on.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(settings.lock)
    try:
        lock.acquire(timeout=wait_s)
    except Timeout as error:
        raise PipelineBusyError(
            f"another run holds {settings.lock}: wait for it to end, then try again"
        ) from error
    try:
        yield
    finally:
        lock.release()
