"""Announce: a model is new, or has a new revision; one event, one run, whoever says it first.

The event starts the deployment `add-model` (flows/deployments.py). It is posted to the server in
one request that is answered once the server has the event, so nothing is left to flush when the
process ends.
"""

import fcntl
import json
import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

from locus.ids import InvalidIdError, short_hash
from locus.ids import model_id as valid_model_id
from tasks.events import NO_SERVER, NotSentError, api_url, send
from tasks.settings import Settings

log = logging.getLogger("locus.announce")

EVENT = "locus.model.added"
RESOURCES = "locus.model."
# The deployment that the event starts.
DEPLOYMENT = "add-model/add-model"
REVISION_MAX = 200

# An event has the same id whoever sends it, so a server drops a second copy of one that it got
# though its answer was lost.
_NAMESPACE = uuid.UUID("5e0b7c1e-6a1d-5f53-9f0c-6c1f0d0c2a11")
_BRACES = "{}"


def announce(settings: Settings, model_id: str, revision: str, source: str) -> bool:
    """Say once, and only once, that a model is to be added.

    A marker file per model and revision is locked while the event is sent and written when the
    server has it. Another process that announces the same waits for it, then does nothing; the
    lock of a process that was killed is free, and its empty marker counts for nothing.

    Args:
        settings: the pipeline's settings.
        model_id: the model, as in `models.yaml`.
        revision: the revision that it has now.
        source: who says it, for example ``hub-watch`` or ``webhook``.

    Returns:
        Whether this call sent the event. False if it was sent before (`announced` tells), and if
        it could not be sent now; the log says why, and the next nightly run evaluates the model.

    Raises:
        InvalidIdError: a model id or a revision that isn't one.
    """
    model_id, revision = valid_model_id(model_id), _valid_revision(revision)
    marker = _marker(settings, model_id, revision)
    marker.parent.mkdir(parents=True, exist_ok=True)
    with _owned(marker) as handle:
        if os.fstat(handle).st_size:
            log.info("%s at revision %s was announced before", model_id, revision)
            return False
        obstacle = _post(settings, model_id, revision, source)
        if obstacle is not None:
            marker.unlink(missing_ok=True)
            log.warning(
                "%s is not announced: %s; the next nightly run evaluates it, or: "
                "locus add-model %s",
                model_id,
                obstacle,
                model_id,
            )
            return False
        said = {
            "model_id": model_id,
            "revision": revision,
            "source": source,
            "announced_at": datetime.now(UTC).isoformat(),
        }
        os.write(handle, json.dumps(said).encode() + b"\n")
        os.fsync(handle)
    log.info("%s at revision %s is announced (%s): add-model runs", model_id, revision, source)
    return True


def announced(settings: Settings, model_id: str, revision: str) -> bool:
    """Whether a model was announced at this revision.

    Raises:
        InvalidIdError: a model id or a revision that isn't one.
    """
    marker = _marker(settings, valid_model_id(model_id), _valid_revision(revision))
    try:
        return marker.stat().st_size > 0
    except FileNotFoundError:
        return False


def _marker(settings: Settings, model_id: str, revision: str) -> Path:
    # An id holds no "@", so no two pairs make the same text.
    return settings.home / "announced" / short_hash(f"{model_id}@{revision}", 32)


def _valid_revision(text: str) -> str:
    """A revision that may be passed on: what a template could read as its own is refused.

    Raises:
        InvalidIdError: empty, too long, with control characters or braces.
    """
    if not 0 < len(text) <= REVISION_MAX or not text.isprintable() or set(text) & set(_BRACES):
        raise InvalidIdError(
            f"revision {text[:REVISION_MAX]!r} can't be announced: use 1 to {REVISION_MAX} "
            "printable characters without braces"
        )
    return text


@contextmanager
def _owned(marker: Path) -> Iterator[int]:
    """Hold the marker's lock; made if missing.

    A marker that its owner took away while this process waited is no marker: then once more.
    """
    while True:
        handle = os.open(marker, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if os.fstat(handle).st_nlink:
                yield handle
                return
        finally:
            os.close(handle)


def _post(settings: Settings, model_id: str, revision: str, source: str) -> str | None:
    """Send the event; None, or what stands in the way."""
    from prefect.events import Event, Resource

    url = api_url(settings)
    if url is None:
        return NO_SERVER
    event = Event(
        id=uuid.uuid5(_NAMESPACE, f"{model_id}@{revision}"),
        event=EVENT,
        resource=Resource(
            {
                "prefect.resource.id": RESOURCES + short_hash(model_id),
                "prefect.resource.name": model_id,
            }
        ),
        payload={"model_id": model_id, "revision": revision, "source": source},
    )
    try:
        send(event, url, deployment=DEPLOYMENT, retries=1)
    except NotSentError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return f"the server at {url} has no deployment {DEPLOYMENT} (start `locus serve`)"
        why = "" if error.status else f" ({_first_line(error.cause)})"
        return f"the server at {url} {error}{why}"
    return None


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
