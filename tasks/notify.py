"""Notify: what people should hear of, by whatever way they chose.

Addresses hold secrets: they come from environment variables or from Prefect blocks, and are never
written to a file, a log, an artifact or an error. What is sent may quote models and services, so
it goes out as plain text.
"""

import inspect
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from tasks.markdown import plain

log = logging.getLogger("locus.pipeline")

Kind = Literal["gate-failed", "models-failed", "stale", "drift", "retrain"]
KINDS: tuple[Kind, ...] = get_args(Kind)

SUBJECT_MAX = 150
BODY_MAX = 3000

_TYPES = {"gate-failed": "failure", "stale": "failure", "models-failed": "warning"}
# Libraries that would write an address, or a part of one, into a log.
_TALKATIVE = ("apprise", "urllib3.connectionpool", "httpx", "httpcore", "requests")

_Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
_Block = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")]


class NotifySettings(BaseModel):
    """Who hears of what."""

    model_config = ConfigDict(extra="forbid")

    urls_env: list[_Variable] = Field(
        default=["LOCUS_NOTIFY_URLS"],
        description="environment variables that hold apprise addresses, separated by blanks; one "
        "that is not set sends nothing",
    )
    blocks: list[_Block] = Field(
        default_factory=list,
        description="Prefect notification blocks, such as slack-webhook/ops",
    )
    kinds: list[Kind] = Field(default=list(KINDS), description="what is told; all by default")


def notify(settings: NotifySettings, kind: Kind, subject: str, body: str) -> list[str]:
    """Tell everybody who is to hear of this; never raises for what a notifier does.

    Args:
        settings: who hears of what.
        kind: what it is about.
        subject: one line.
        body: a few lines; what is longer than `BODY_MAX` is cut.

    Returns:
        What failed, in words that hold no address; it is logged as well.
    """
    if kind not in settings.kinds:
        return []
    title = " ".join(plain(subject).split())[:SUBJECT_MAX]
    text = plain(body)
    if len(text) > BODY_MAX:
        text = text[: BODY_MAX - 4] + " ..."
    failures = []
    for name, send in _senders(settings, kind):
        # Whatever goes wrong in there, the run goes on; its words may quote the address.
        try:
            with _silent():
                obstacle = send(title, text)
        except Exception as error:
            obstacle = type(error).__name__
        if obstacle:
            failures.append(f"{name}: {obstacle}")
    for failure in failures:
        log.warning("not notified of %s: %s", kind, failure)
    return failures


def receivers(settings: NotifySettings) -> int:
    """How many addresses and blocks there are."""
    return len(settings.blocks) + sum(len(os.environ.get(v, "").split()) for v in settings.urls_env)


def _senders(settings: NotifySettings, kind: Kind) -> Iterator[tuple[str, Any]]:
    """Name and function of each receiver."""
    for variable in settings.urls_env:
        for number, url in enumerate(os.environ.get(variable, "").split(), 1):
            yield f"address {number} of {variable}", _Address(url, kind)
    for name in settings.blocks:
        yield f"block {name}", _Stored(name)


class _Address:
    """One apprise address."""

    def __init__(self, url: str, kind: Kind) -> None:
        self._url = url
        self._type = _TYPES.get(kind, "info")

    def __call__(self, title: str, text: str) -> str | None:
        """Send; None, or what is wrong."""
        from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType

        # Escapes in a body are a model's text here, and nothing to be interpreted.
        receiver = Apprise(asset=AppriseAsset(app_id="LOCUS", interpret_escapes=False))
        if not receiver.add(self._url):
            return "is no address that apprise can read (see its list of services)"
        sent = receiver.notify(
            title=title,
            body=text,
            notify_type=NotifyType(self._type),
            body_format=NotifyFormat.TEXT,
        )
        return None if sent else "could not be sent; try it with `apprise` on the command line"


class _Stored:
    """One notification block of the Prefect server."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, title: str, text: str) -> str | None:
        """Send; None, or what is wrong."""
        from prefect.blocks.abstract import NotificationBlock, NotificationError
        from prefect.blocks.core import Block

        try:
            block = _now(Block.load(self._name))
        except ValueError:
            return "there is no such block on the Prefect server; `prefect block ls` lists them"
        if not isinstance(block, NotificationBlock):
            return f"is a {type(block).__name__}, which sends no notifications"
        try:
            with block.raise_on_failure():
                _now(block.notify(text, title))
        except NotificationError:
            return "could not be sent; look at its address on the Prefect server"
        return None


def _now(found: Any) -> Any:
    """The result of what may be a coroutine, according to where it was called."""
    if not inspect.iscoroutine(found):
        return found
    import asyncio  # settings are read here by every command, and it starts slowly

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(found)
    from prefect.utilities.asyncutils import run_coro_as_sync

    return run_coro_as_sync(found)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep libraries that quote addresses out of the logs."""

    def nothing(_: logging.LogRecord) -> bool:
        return False

    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    for logger in loggers:
        logger.addFilter(nothing)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(nothing)
