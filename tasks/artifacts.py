"""Leaving artifacts of a run; what people see of it must not end it."""

import logging
from collections.abc import Callable
from typing import Any

from prefect.context import FlowRunContext, TaskRunContext

from tasks.markdown import line

log = logging.getLogger("locus.pipeline")


def leave(make: Callable[..., object], *, key: str, **what: Any) -> object:
    """Make an artifact of the run there is one of; None if there is none, or the server refuses.

    Args:
        make: one of Prefect's ``create_..._artifact``.
        key: lower case letters, digits and dashes.
        what: its other arguments; strangers' text has been through `tasks.markdown`.
    """
    if FlowRunContext.get() is None and TaskRunContext.get() is None:
        return None
    try:
        return make(key=key, **what)
    except Exception as error:  # what people wait for must not end for what they see of it
        log.warning("artifact %s could not be left: %s", key, line(str(error)))
        return None
