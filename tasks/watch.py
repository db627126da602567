"""Watch: models that are new in `models.yaml` or on the hub are filed and announced.

`models.yaml` stays the one source of truth: whatever tells of a model, an edit, a poll of the hub
or the webhook, puts it there and announces it. There is no list of what was seen besides: what is
in the registry isn't new, and what was announced has its marker (`tasks.announce`).
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from locus.durable import whole_file
from locus.hub import WatchSettings
from locus.hub.client import Hub
from locus.hub.poll import Poll, follow, look_at, poll
from locus.hub.revise import replace_revision
from locus.hub.rules import name_obstacle
from locus.ids import InvalidIdError
from locus.registry import ModelSpec, RegistryError, append_model, load_registry
from tasks.announce import announce, announced
from tasks.settings import Settings
from warehouse.errors import WarehouseBusyError
from warehouse.store import Warehouse

log = logging.getLogger("locus.watch")

# A poll must not wait for a night's work; the next one looks again.
_WAREHOUSE_WAIT_S = 2.0
_LOCK_WAIT_S = 30.0


class ConflictError(ValueError):
    """The registry has a model of this id with other content; names the fields."""


class RegistryBusyError(RuntimeError):
    """Somebody else holds the registry's lock; says which file."""


@dataclass(frozen=True)
class Filed:
    """A model that is in the registry now.

    Attributes:
        model_id: its id.
        revision: the revision it has now.
        added: whether it was not there before.
        announced: whether this call announced it.
    """

    model_id: str
    revision: str
    added: bool
    announced: bool


@dataclass
class Watched:
    """What a look at the registry and the hub came to.

    Attributes:
        added: models put into the registry, or that would be.
        followed: models whose revision was replaced by a newer commit, or would be.
        announced: models that were announced, or would be.
        untold: models that should have been announced and could not be.
        left: models of the hub that were left out, with the reason; a name is as it came.
        failed: what could not be looked at or filed, each in a line.
        waiting: why the registry's models were not gone through; None if they were.
        dry_run: whether this was a rehearsal.
    """

    added: list[str] = field(default_factory=list)
    followed: list[str] = field(default_factory=list)
    announced: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    waiting: str | None = None
    dry_run: bool = False

    def headline(self) -> str:
        """The look in one line."""
        counts = (
            (self.added, "would add", "added"),
            (self.followed, "would move to a new commit:", "moved to a new commit:"),
            (self.announced, "would announce", "announced"),
            (self.untold, "", "could not announce"),
        )
        said = [
            f"{would if self.dry_run else done} {len(found)}"
            for found, would, done in counts
            if found
        ] or ["nothing new"]
        if self.left:
            said.append(f"models of the hub left out: {len(self.left)}")
        if self.failed:
            said.append(f"faults: {len(self.failed)}")
        if self.waiting:
            said.append(self.waiting)
        return ", ".join(said)


class _Seen(BaseModel):
    """What saves work between two looks; lost, it is found out anew.

    Attributes:
        folders: by local folder, the signature of its listing and the revision that it had then.
        evaluated: by model, the revision of which the warehouse has an evaluation.
    """

    folders: dict[str, tuple[str, str]] = {}
    evaluated: dict[str, str] = {}


def watch_models(settings: Settings, watch: WatchSettings, dry_run: bool = False) -> Watched:
    """Look at the registry and the hub once; file and announce what is new.

    Args:
        settings: the pipeline's settings.
        watch: what is watched on the hub.
        dry_run: say what would be done and why the others are left out, and do nothing.

    Raises:
        RegistryError: `models.yaml` is faulty.
    """
    # The hub first: a revision that it replaces needn't be announced any more.
    outcome = poll_hub(settings, watch, Watched(dry_run=dry_run))
    return announce_new(settings, outcome)


def announce_new(settings: Settings, outcome: Watched | None = None) -> Watched:
    """Announce every model of the registry whose revision is new.

    New is what was neither announced nor evaluated at this revision. With nothing new, this reads
    `models.yaml`, lists local folders and looks for one marker per model: a folder is hashed again
    only when a name, size or time in its listing has changed (the nightly run hashes regardless),
    and the warehouse is opened only for a model that was never seen announced or evaluated.

    Args:
        settings: the pipeline's settings.
        outcome: takes down what was done, and says whether it is a rehearsal.

    Raises:
        RegistryError: `models.yaml` is faulty.
    """
    outcome = outcome or Watched()
    seen, known = _read_seen(settings), _registry(settings)
    before = seen.model_dump()
    fresh: list[tuple[str, str]] = []
    for spec in known:
        revision = _revision(spec, seen)
        if seen.evaluated.get(spec.id) == revision:
            continue
        try:
            if not announced(settings, spec.id, revision):
                fresh.append((spec.id, revision))
        except InvalidIdError as error:
            outcome.failed.append(f"model {spec.id}: {error}")
    if fresh and settings.warehouse.exists():
        try:
            done = _evaluated(settings)
        except WarehouseBusyError:
            fresh, done = [], set()
            outcome.waiting = "a run holds the warehouse, so the next look goes through the models"
        seen.evaluated |= {one: revision for one, revision in fresh if (one, revision) in done}
        fresh = [one for one in fresh if one not in done]
    seen.folders = {k: v for k, v in seen.folders.items() if k in map(_folder_key, known)}
    seen.evaluated = {k: v for k, v in seen.evaluated.items() if k in {spec.id for spec in known}}
    if not outcome.dry_run and seen.model_dump() != before:
        _write_seen(settings, seen)
    handled = {*outcome.announced, *outcome.untold}
    for model_id, revision in fresh:
        if model_id in handled:
            continue
        if outcome.dry_run:
            outcome.announced.append(model_id)
        else:
            _tell(settings, model_id, revision, "registry", outcome)
    return outcome


def poll_hub(settings: Settings, watch: WatchSettings, outcome: Watched | None = None) -> Watched:
    """Look at the hub once; file and announce what is new.

    Args:
        settings: the pipeline's settings.
        watch: what is watched.
        outcome: takes down what was done, and says whether it is a rehearsal.

    Raises:
        RegistryError: `models.yaml` is faulty.
    """
    outcome = outcome or Watched()
    found = poll(watch, _registry(settings), settings.models_file.parent)
    _take(settings, found, "hub-watch", outcome)
    return outcome


def event_obstacle(name: object, watch: WatchSettings) -> str | None:
    """Why word of a model of the hub is not acted upon; None if it is.

    A stranger's word names one model, so something must name it here too: an author or a pattern.
    """
    said = name_obstacle(name, watch)
    if said or watch.allow:
        return said
    if str(name).partition("/")[0] in watch.authors:
        return None
    return "its author is not in watch.authors, and watch.allow names no pattern"


def take_event(
    settings: Settings, watch: WatchSettings, name: str, revision: str | None
) -> Watched:
    """Look at one model that the hub sent word of; file and announce it if it is new.

    Args:
        settings: the pipeline's settings.
        watch: what is watched.
        name: a name that `event_obstacle` lets through.
        revision: the commit that the hub names; None takes the newest.

    Raises:
        RegistryError: `models.yaml` is faulty.
    """
    outcome, found, hub = Watched(), Poll(), Hub(watch)
    spec = next((one for one in _registry(settings) if one.id == name), None)
    if spec is None:
        look_at(hub, watch, name, settings.models_file.parent, found, revision)
    elif watch.follow_revisions:
        follow(hub, watch, spec, found)
    else:
        found.left[name] = "it is in models.yaml, and watch.follow_revisions is off"
    _take(settings, found, "hub-webhook", outcome)
    return outcome


def file_model(settings: Settings, spec: ModelSpec, source: str) -> Filed:
    """Put a model into the registry where it isn't there, and announce it.

    Any number of callers may do this at once: one of them adds it.

    Args:
        settings: the pipeline's settings.
        spec: the model.
        source: who tells of it.

    Raises:
        ConflictError: the id is there with other content.
        InvalidIdError: a revision that can't be announced.
        RegistryBusyError: the lock did not come free.
        RegistryError: `models.yaml` is faulty, or nothing can be put at its end.
    """
    revision = spec.resolved_revision()
    announced(settings, spec.id, revision)  # Refuses before anything is written.
    with registry_lock(settings):
        known = {one.id: one for one in _registry(settings)}
        there = known.get(spec.id)
        if there is None:
            append_model(settings.models_file, spec)
        elif there != spec:
            names = [n for n in ModelSpec.model_fields if getattr(there, n) != getattr(spec, n)]
            raise ConflictError(
                f"{spec.id} is in models.yaml with another {', '.join(names)}; change it there"
            )
    if there is None:
        log.info("%s at %s is in models.yaml now (%s)", spec.id, revision, source)
    return Filed(spec.id, revision, there is None, announce(settings, spec.id, revision, source))


@contextmanager
def registry_lock(settings: Settings, wait_s: float = _LOCK_WAIT_S) -> Iterator[None]:
    """Hold the registry, from reading it to having written it.

    People who edit the file by hand take no lock; every change is written as a whole file.

    Raises:
        RegistryBusyError: it did not come free in ``wait_s`` seconds.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(settings.home / "registry.lock")
    try:
        lock.acquire(timeout=wait_s)
    except Timeout as error:
        raise RegistryBusyError(
            f"another process holds {lock.lock_file} for more than {wait_s:g} s: try again"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _take(settings: Settings, found: Poll, source: str, outcome: Watched) -> None:
    """File and announce what the hub has; the outcome takes it down."""
    outcome.left |= found.left
    outcome.failed += found.failed
    if outcome.dry_run:
        outcome.added += [spec.id for spec in found.new]
        outcome.followed += [moved.model_id for moved in found.moved]
        outcome.announced += [*outcome.added, *outcome.followed]
        return
    for spec in found.new:
        try:
            filed = file_model(settings, spec, source)
        except (ConflictError, RegistryBusyError, RegistryError) as error:
            outcome.failed.append(f"model {spec.id} is not added: {error}")
            continue
        if filed.added:
            outcome.added.append(spec.id)
        if filed.announced:
            outcome.announced.append(spec.id)
        elif not announced(settings, spec.id, filed.revision):
            outcome.untold.append(spec.id)
    for moved in found.moved:
        try:
            with registry_lock(settings):
                replace_revision(settings.models_file, moved.model_id, moved.revision)
        except (RegistryBusyError, RegistryError) as error:
            outcome.failed.append(f"model {moved.model_id} stays at {moved.was}: {error}")
            continue
        log.info("%s: revision %s becomes %s", moved.model_id, moved.was, moved.revision)
        outcome.followed.append(moved.model_id)
        _tell(settings, moved.model_id, moved.revision, source, outcome)


def _tell(settings: Settings, model_id: str, revision: str, source: str, outcome: Watched) -> None:
    if announce(settings, model_id, revision, source):
        outcome.announced.append(model_id)
    elif not announced(settings, model_id, revision):
        outcome.untold.append(model_id)


def _registry(settings: Settings) -> Sequence[ModelSpec]:
    """The registry; empty where there is no file yet."""
    return load_registry(settings.models_file) if settings.models_file.exists() else []


def _evaluated(settings: Settings) -> set[tuple[str, str]]:
    """Model and revision of every evaluation, whatever came of it."""
    with Warehouse.open(settings.warehouse, wait_s=_WAREHOUSE_WAIT_S) as warehouse:
        rows = warehouse.read(
            "SELECT DISTINCT model_id, revision FROM evaluation_run WHERE model_id IS NOT NULL"
        )
    return set(rows.iter_rows())


def _folder_key(spec: ModelSpec) -> str:
    return "" if spec.local_folder is None else str(spec.local_folder)


def _revision(spec: ModelSpec, seen: _Seen) -> str:
    """The revision a model has now; a folder whose listing is as it was keeps its own."""
    folder = spec.local_folder
    if folder is None:
        return spec.resolved_revision()
    # Before hashing: what changes meanwhile changes the next listing.
    signature = _listing(folder)
    kept = seen.folders.get(str(folder))
    if kept is not None and kept[0] == signature:
        return kept[1]
    revision = spec.resolved_revision()
    seen.folders[str(folder)] = (signature, revision)
    return revision


def _listing(folder: Path) -> str:
    digest = sha256()
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        found = file.stat()
        # The time of the inode changes even where a copy sets the file's own back.
        facts = (found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        digest.update(f"{file.relative_to(folder).as_posix()}\0{facts}\0".encode())
    return digest.hexdigest()


def _seen_file(settings: Settings) -> Path:
    return settings.home / "watch.json"


def _read_seen(settings: Settings) -> _Seen:
    try:
        return _Seen.model_validate_json(_seen_file(settings).read_bytes())
    except FileNotFoundError:
        return _Seen()
    except (OSError, ValidationError) as error:
        log.warning("%s can't be used and is made anew: %s", _seen_file(settings), error)
        return _Seen()


def _write_seen(settings: Settings, seen: _Seen) -> None:
    settings.home.mkdir(parents=True, exist_ok=True)
    with whole_file(_seen_file(settings)) as stream:
        stream.write(seen.model_dump_json().encode())
