"""What a pipeline needs around it: settings, registry, room, encoder, server, and who holds it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from locus.encoding import EncoderError
from locus.encoding.precision import marked
from locus.registry import RegistryError, load_registry
from locus.snapshots import SnapshotError, current
from tasks.doctor.finding import Finding, broken, ok, some, warning
from tasks.lock import lease_status
from tasks.settings import Settings, settings_file
from warehouse.locks import WHAT_LACKS, WHERE_ELSE, has_locks

SET_ASIDE = ".before-restore-"
"""What follows the name of a home that a restore has set aside."""

_PATIENCE_S = 3.0
_SPARE = 3


def look_at_surroundings(settings: Settings, now: datetime) -> Iterator[Finding]:
    """Everything but what lies in the home.

    Args:
        settings: the pipeline's settings.
        now: the time it is (UTC).
    """
    yield _settings_file()
    yield _home(settings.home)
    yield _room(settings)
    yield _registry(settings)
    yield _encoder(settings)
    yield from _server()
    yield _lease(settings, now)


def _settings_file() -> Finding:
    file = settings_file()
    if file.is_file():
        return ok("settings", f"{file} can be used")
    return warning(
        "settings",
        f"there is no {file}: all settings are defaults or come from LOCUS_... variables",
        "`locus init` writes one to start from; LOCUS_CONFIG says where another one lies",
    )


def _home(home: Path) -> Finding:
    if not home.exists():
        aside = sorted(p.name for p in home.parent.glob(f"{home.name}{SET_ASIDE}*"))
        if aside:
            return broken(
                "home",
                f"{home} is not there, and a restore has set {some(aside)} aside",
                f"a restore was cut off: run it again, or `mv {home.with_name(aside[-1])} {home}`",
            )
        return ok("home", f"{home} is not there yet: the first run makes it")
    if not home.is_dir():
        return broken("home", f"{home} is no folder", "move it away, or set `home` to another")
    try:
        with tempfile.NamedTemporaryFile(dir=home, prefix=".doctor-") as stream:
            stream.write(b"x")
            stream.flush()
            os.fsync(stream.fileno())
        if not has_locks(home):
            return broken("home", f"{home}: {WHAT_LACKS}", WHERE_ELSE)
    except OSError as error:
        return broken(
            "home",
            f"{home} can't be written to: {error.strerror or error}",
            "look at its disk, how that is mounted, and who owns the folder; nothing is lost by "
            "runs that fail meanwhile",
        )
    return ok("home", f"{home} can be written to")


def _room(settings: Settings) -> Finding:
    """Room for what the next night writes: a copy of the warehouse and a snapshot like the last."""
    folder = settings.home
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    need = sum(
        path.stat().st_size
        for path in (settings.warehouse, settings.warehouse.with_name("warehouse.duckdb.wal"))
        if path.is_file()
    )
    try:
        published = current(settings.published)
        need += sum(int(entry["bytes"]) for entry in published.manifest["files"].values())
    except (SnapshotError, KeyError, TypeError, AttributeError):
        need *= 2
    said = f"{_size(free)} free where {settings.home} lies; a night needs about {_size(need)}"
    step = "make room, or keep fewer snapshots: `locus snapshots prune --keep 3`"
    if free < need:
        return broken("disk", said, step)
    return warning("disk", said, step) if free < _SPARE * need else ok("disk", said)


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"


def _registry(settings: Settings) -> Finding:
    file = settings.models_file
    if not file.exists():
        return warning("registry", f"there is no {file}", "`locus init` writes one to start from")
    try:
        return ok("registry", f"{file} names {len(load_registry(file))} models")
    except RegistryError as error:
        return broken("registry", str(error), f"correct {file}; docs/models.md explains its fields")


def _encoder(settings: Settings) -> Finding:
    name = settings.encoder
    try:
        identity = settings.encoder_identity
    except EncoderError as error:
        return broken("encoder", str(error), "install it, or set `encoder` in locus.toml")
    if identity != marked(name, settings.encoder_precision):
        return ok("encoder", f"{name} is here ({identity})")
    if Path(name).is_absolute() or name.startswith((".", "~")):
        return broken("encoder", f"there is no folder {name}", "set `encoder` in locus.toml")
    return ok("encoder", f"{name} comes from the hub or its cache when a query is new")


def _server() -> Iterator[Finding]:
    url = os.environ.get("PREFECT_API_URL", "").rstrip("/")
    if not url:
        return
    import httpx

    try:
        answer = httpx.get(f"{url}/health", timeout=_PATIENCE_S)
        why = None if answer.status_code == httpx.codes.OK else f"status {answer.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        why = str(error) or type(error).__name__
    if why is None:
        yield ok("server", f"the Prefect server at {url} answers")
    else:
        yield broken(
            "server",
            f"the Prefect server at PREFECT_API_URL, {url}, doesn't answer ({why})",
            "start it, correct PREFECT_API_URL, or unset it: then every command starts its own",
        )


def _lease(settings: Settings, now: datetime) -> Finding:
    held = lease_status(settings)
    if held is None:
        return ok("lease", "no run holds the pipeline")
    who = f"{held['what']} on {held['host']}, process {held['pid']}"
    if held["state"] == "running":
        return ok("lease", f"held by {who}")
    if held["state"] == "dead":
        return warning(
            "lease", f"{who} died with it", "none is needed: the next run takes it over at once"
        )
    silent = (now - held["heartbeat_at"]).total_seconds()
    return warning(
        "lease",
        f"{who} holds it and was silent for {silent:.0f} s",
        f"look whether that process lives; if not, the next run takes it over after watching it "
        f"for {settings.lease_seconds:g} s",
    )
