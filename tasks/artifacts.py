"""Leaving artifacts of a run; what people see of it must not end it."""

import logging
import time
from collections.abc import Callable
from typing import Any

import httpx
from prefect.context import FlowRunContext, TaskRunContext

from tasks.markdown import line

log = logging.getLogger("locus.pipeline")

# A server that has gone is waited for, more than a minute each time: not once an artifact.
REST_S = 300.0
_rests_until = 0.0


def leave(make: Callable[..., object], *, key: str, **what: Any) -> object:
    """Make an artifact of the run there is one of; None if there is none, or the server refuses.

    A server that can't be reached isn't asked again for `REST_S` seconds.

    Args:
        make: one of Prefect's ``create_..._artifact``.
        key: lower case letters, digits and dashes.
        what: its other arguments; strangers' text has been through `tasks.markdown`.
    """
    if FlowRunContext.get() is None and TaskRunContext.get() is None:
        return None
    global _rests_until
    if time.monotonic() < _rests_until:
        return None
    try:
        return make(key=key, **what)
    except httpx.ConnectError as error:
        _rests_until = time.monotonic() + REST_S
        log.warning(
            "artifact %s could not be left: the Prefect server can't be reached (%s); the run goes "
            "on, and for %g s no other artifact is left", key, line(str(error)), REST_S,
        )  # fmt: skip
        return None
    except Exception as error:  # what people wait for must not end for what they see of it
        log.warning("artifact %s could not be left: %s", key, line(str(error)))
        return None
