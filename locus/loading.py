"""Loading large libraries: nothing of it is garbage."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Don't search for garbage meanwhile, nor ever among what was made.

    Importing torch and what stands on it makes a million objects that stay as long as the process;
    searching among them again and again took a third of a worker's start (docs/log.md).
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.freeze()
            gc.enable()
