"""Loading large libraries: nothing of it is garbage."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_frozen = False


@contextmanager
def uncollected() -> Iterator[None]:
    """Don't search for garbage meanwhile, nor ever among what was made the first time.

    Importing torch and what stands on it makes a million objects that stay as long as the process;
    searching among them again and again took a third of a worker's start (docs/log.md). Only the
    first time: what is loaded later comes and goes, such as the encoder of a server that takes up
    one snapshot after another, and would never be given back.
    """
    global _frozen
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            if not _frozen:
                gc.freeze()
                _frozen = True
            gc.enable()
