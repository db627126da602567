"""One look at the hub: what is new, what has moved, what is left out and why."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from locus.hub.client import Hub, HubError
from locus.hub.rules import entry, listed_obstacle, name_obstacle, obstacle
from locus.hub.settings import WatchSettings
from locus.registry import ModelSpec
from locus.registry.revision import folder_of

_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = 200


@dataclass(frozen=True)
class Moved:
    """A model of the registry with a newer commit."""

    model_id: str
    was: str
    revision: str


@dataclass
class Poll:
    """What the hub has.

    Attributes:
        new: entries for models that are not in the registry.
        moved: models of the registry that have a newer commit.
        left: reason by name of every model that was looked at and left out. A name is the hub's
            text, cut and otherwise as it came.
        failed: in words, each author or model that could not be looked at.
    """

    new: list[ModelSpec] = field(default_factory=list)
    moved: list[Moved] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


def poll(settings: WatchSettings, known: Sequence[ModelSpec], folder: Path) -> Poll:
    """Look at the newest models of every author, and at watched models for new commits.

    Nothing is remembered from one poll to the next: what is in the registry is not new. A fault of
    the hub ends the look at one author, and no other's.

    Args:
        settings: what is watched.
        known: the registry.
        folder: where relative folders of the registry begin.
    """
    found = Poll()
    if not settings.enabled:
        return found
    hub = Hub(settings)
    by_id = {spec.id: spec for spec in known}
    if settings.follow_revisions:
        for spec in known:
            follow(hub, settings, spec, found)
    seen: set[str] = set()
    authors: list[str | None] = [*settings.authors] or [None]
    searches: list[str | None] = [*settings.search] or [None]
    for author in authors:
        for search in searches:
            try:
                for info in hub.newest(author, search, settings.filters, settings.newest):
                    name = str(info.id)[:_NAME]
                    if name in seen:
                        continue
                    seen.add(name)
                    if name in by_id:
                        found.left.setdefault(name, "it is in models.yaml")
                        continue
                    said = listed_obstacle(info, settings)
                    if said:
                        found.left[name] = said
                        continue
                    look_at(hub, settings, name, folder, found)
            except HubError as error:
                found.failed.append(
                    f"{_what(author, search, settings)}: {error}; the next poll looks again"
                )
    return found


def look_at(
    hub: Hub,
    settings: WatchSettings,
    name: str,
    folder: Path,
    found: Poll,
    revision: str | None = None,
) -> None:
    """Look at one model that is not in the registry; ``found`` takes down what comes of it.

    Args:
        hub: where to look.
        settings: what is watched.
        name: a name that `name_obstacle` lets through.
        folder: where relative folders of the registry begin.
        found: takes the entry, or the reason why there is none.
        revision: a commit; None takes the newest.
    """
    try:
        info = hub.model(name, revision)
    except HubError as error:
        found.failed.append(f"model {name}: {error}; the next poll looks again")
        return
    if info.id != name:
        found.left[name] = f"it is called {str(info.id)[:_NAME]!r} now"
        return
    said = obstacle(info, settings)
    if not said and (folder_of(name, folder) or folder_of(name)):
        # The registry, and transformers too, would take the folder.
        said = "a folder of that name lies here, which would be taken for it"
    if said:
        found.left[name] = said
        return
    try:
        found.new.append(entry(info, settings))
    except ValueError as error:
        found.left[name] = f"the registry refuses it: {error}"


def watched(spec: ModelSpec, settings: WatchSettings) -> bool:
    """Whether a model of the registry is one of the hub's that these settings watch."""
    author = spec.id.partition("/")[0]
    return (
        spec.backend == "hf"
        and spec.args.get("pretrained") == spec.id
        and bool(_COMMIT.fullmatch(spec.revision or ""))
        and spec.local_folder is None
        and (not settings.authors or author in settings.authors)
        and name_obstacle(spec.id, settings) is None
    )


def follow(hub: Hub, settings: WatchSettings, spec: ModelSpec, found: Poll) -> None:
    """Look for a newer commit of a model of the registry; ``found`` takes down what comes of it."""
    if not watched(spec, settings):
        return
    try:
        head = hub.head(spec.id)
        if head == spec.revision:
            return
        info = hub.model(spec.id)
    except HubError as error:
        found.failed.append(f"model {spec.id}: {error}; the next poll looks again")
        return
    said = obstacle(info, settings) if info.id == spec.id else "it has another name now"
    if said:
        found.left[spec.id] = f"its new commit is left out: {said}"
    elif info.sha != spec.revision:
        found.moved.append(Moved(spec.id, str(spec.revision), str(info.sha)))


def _what(author: str | None, search: str | None, settings: WatchSettings) -> str:
    parts = [f"author {author!r}"] if author is not None else []
    parts += [f"search {search!r}"] if search is not None else []
    parts += [f"filters {', '.join(settings.filters)}"] if settings.filters else []
    return "hub, " + ", ".join(parts)
