"""Routes requests one after another, away from the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

WAITING = 32


class BusyError(RuntimeError):
    """Too many requests wait already."""


class Desk:
    """One thread that encodes and ranks; a bounded number of requests waits for it.

    One, because a tokenizer is not safe in several threads (its settings for cutting texts are
    shared), and because torch uses all cores for one text already.

    Args:
        waiting: requests that may be here at once, the one at work included.
    """

    def __init__(self, waiting: int = WAITING) -> None:
        self._most = waiting
        self._here = 0
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="locus-routing")

    @property
    def here(self) -> int:
        """Requests that wait or are at work."""
        return self._here

    async def run(self, work: Callable[[], T]) -> T:
        """Do it in its turn. To be called from one event loop only.

        Raises:
            BusyError: too many are here.
        """
        if self._here >= self._most:
            raise BusyError(f"{self._here} requests wait already: try again in a second")
        self._here += 1
        # Counted until it is done, also where the caller no longer waits for it.
        future = self._worker.submit(work)
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: _tell(loop, self._leave))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Drop what waits."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _leave(self) -> None:
        self._here -= 1


def _tell(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)
