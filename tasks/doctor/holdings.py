"""What lies in a home: warehouse, parts, checkpoints, snapshots, leftovers; held to one another."""

import hashlib
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from locus.embedding.checkpoint import CheckpointError, load
from locus.encoding import EncoderError
from locus.snapshots import Snapshot, SnapshotError, current, sealed_folders, verify
from tasks.doctor.finding import Finding, broken, ok, some, warning
from tasks.doctor.leftovers import leftovers
from tasks.freshness import CLOCKS_DIFFER, last_night
from tasks.lock import lease_status
from tasks.record import REFUSED
from tasks.settings import Settings
from warehouse.errors import ContractError, WarehouseBusyError, WarehouseError
from warehouse.examine import Examined, examine
from warehouse.parts import read_part

CORRUPT = ".corrupt"
"""What follows the name of a snapshot that was set aside."""

_ID = re.compile(r"[0-9a-f]{64}")
_REPAIR = "`locus doctor --repair`"
_ASIDE = f"{_REPAIR} sets it aside; restore it from a backup if it is needed"


def look_at_holdings(settings: Settings, now: datetime) -> Iterator[Finding]:
    """Everything that lies in the home.

    Args:
        settings: the pipeline's settings.
        now: the time it is (UTC).
    """
    if not settings.home.is_dir():
        return
    intact, damaged = snapshots(settings)
    found, said = _warehouse(settings, intact)
    # A row of a file at another version says nothing of what this code needs.
    if found is not None and found.version != found.known:
        found = None
    yield from said
    yield from _parts(settings, found)
    yield from _checkpoints(settings, found)
    yield from _published(settings, found, intact, damaged)
    yield _clock(settings, found, intact, now)
    held = lease_status(settings)
    left = [] if held and held["state"] != "dead" else leftovers(settings)
    if left:
        names = some([str(path.relative_to(settings.home.parent)) for path in left])
        yield warning("leftovers", f"killed runs left {names}", f"{_REPAIR} removes them")
    else:
        yield ok("leftovers", "killed runs left nothing")


def snapshots(settings: Settings) -> tuple[list[Snapshot], dict[Path, str]]:
    """The kept snapshots of which every byte is as it was sealed, and why the others are not.

    Returns:
        The whole ones, the newest first, and by folder what is wrong with each of the others.
    """
    intact, damaged = [], {}
    for folder in sealed_folders(settings.published):
        try:
            found = verify(folder)
        except (SnapshotError, OSError) as error:
            damaged[folder] = str(error)
            continue
        if found.snapshot_id == folder.name:
            intact.append(found)
        else:
            damaged[folder] = f"snapshot {folder.name}: its manifest is of {found.snapshot_id}"
    return intact, damaged


# --- warehouse -----------------------------------------------------------------------------------


def _warehouse(settings: Settings, intact: list[Snapshot]) -> tuple[Examined | None, list[Finding]]:
    path = settings.warehouse
    wal = path.with_name(path.name + ".wal")
    if not path.exists():
        if intact or any(settings.checkpoints.glob("*")) or any(settings.parts.glob("*")):
            said = f"{path} is missing, but there are snapshots, maps or answers beside it"
            return None, [broken("warehouse", said, _from_elsewhere(path, intact))]
        return None, [ok("warehouse", f"{path} is not there yet: the first run makes it")]
    held = lease_status(settings)
    if held is not None and held["state"] != "dead":
        # Reading all of it may take longer than a run waits for the file.
        said = f"a run goes on, so {path} was not looked into"
        return None, [warning("warehouse", said, "ask again when that has ended")]
    try:
        found = examine(path)
    except WarehouseBusyError:
        said = f"{path} is held by another process, so nobody could look into it"
        return None, [warning("warehouse", said, "ask again when that has ended")]
    except WarehouseError as error:
        step = _from_elsewhere(path, intact)
        if wal.exists() and "WAL" in str(error):
            move = _command("mv", wal, f"{wal}{CORRUPT}")
            step = (
                f"`{move}` opens it as it was before its last few transactions; answers of these "
                f"lie in parts, and the next night goes on from there. Or: {step}"
            )
        return None, [broken("warehouse", str(error), step)]
    if found.version > found.known:
        said = f"{path} is at schema version {found.version}, this code knows {found.known}"
        step = "install the version of the code that wrote it, or a newer one"
        return found, [broken("warehouse", said, step)]
    if found.version < found.known:
        said = f"{path} is at schema version {found.version} of {found.known}"
        return found, [warning("warehouse", said, "the next run brings it up, after a backup")]
    counts = ", ".join(f"{n:,} {what}" for what, n in found.counts.items())
    tail = f"; {wal.stat().st_size:,} bytes of its log wait to be merged" if wal.exists() else ""
    said = f"schema version {found.version}, {counts}{tail}"
    findings = [
        broken(
            "rows",
            f"{rule}: {n}",
            "restore a backup, or look at the rows: warehouse/queries/consistency.sql says which "
            "ones are meant",
        )
        for rule, n in found.broken.items()
    ] or [ok("rows", "all agree with one another")]
    if found.open_runs:
        said_runs = f"{len(found.open_runs)} were interrupted: {some(list(found.open_runs))}"
        step = "the next night records what they answered and closes them"
        findings.append(warning("runs", said_runs, step))
    return found, [ok("warehouse", said), *findings]


def _from_elsewhere(path: Path, intact: list[Snapshot]) -> str:
    """How to get a warehouse that can't be opened back, without losing what is there."""
    # The log too: it would be replayed into whatever takes the file's place.
    moves = [
        _command("mv", one, f"{one}{CORRUPT}")
        for one in (path, path.with_name(path.name + ".wal"))
        if one.exists()
    ]
    step = "`locus restore BACKUP --replace`, or "
    if moves:
        step += f"set it aside (`{' && '.join(moves)}`) "
    copies = [one for one in intact if (one.folder / path.name).is_file()]
    if not copies:
        return f"{step}{'to ' if moves else ''}begin anew"
    copy = _command("install", "-m", "644", copies[0].folder / path.name, path)
    return (
        f"{step}{'and ' if moves else ''}put the copy in its place that was published last "
        f"(`{copy}`); the next night asks what was answered since"
    )


def _command(*words: object) -> str:
    return shlex.join(map(str, words))


# --- parts and checkpoints -----------------------------------------------------------------------


def parts_of(settings: Settings) -> list[Path]:
    """All parts, recorded or not."""
    return sorted(
        part
        for parent in (settings.parts, settings.home / "canaries")
        for part in parent.rglob("*.parquet")
        if not part.name.startswith(".")
    )


def damaged_part(part: Path, recorded: frozenset[str]) -> str | None:
    """Why a part can't be read; None if it was recorded as it is, or is a whole table.

    Raises:
        OSError: the disk doesn't give it.
    """
    data = part.read_bytes()
    if hashlib.sha256(data).hexdigest() in recorded:
        return None
    try:
        read_part(data, part)
    except ContractError as error:
        return error.rule
    return None


def _parts(settings: Settings, found: Examined | None) -> Iterator[Finding]:
    parts = parts_of(settings)
    recorded = found.parts if found else frozenset[str]()
    damaged, waiting = {}, []
    for part in parts:
        try:
            why = damaged_part(part, recorded)
        except OSError as error:
            why = str(error)
        if why is not None:
            damaged[part] = why
        elif found and hashlib.sha256(part.read_bytes()).hexdigest() not in recorded:
            waiting.append(part)
    for part, why in damaged.items():
        yield broken(
            "part",
            why if str(part) in why else f"{part} can't be read: {why}",
            f"{_REPAIR} sets it aside; answers of it that were not recorded are asked again",
        )
    if waiting:
        yield warning(
            "parts",
            f"{len(waiting)} are not recorded: {some([p.name for p in waiting])}",
            "an interrupted run's are recorded by the next night; others are used where the same "
            "queries are asked again",
        )
    elif not damaged:
        known = "all recorded" if found else "all can be read"
        yield ok("parts", f"{len(parts)}, {known}" if parts else "none yet")
    aside = [
        p for parent in (settings.parts, settings.home / "canaries")
        for p in parent.rglob(f"*{REFUSED}")
    ]  # fmt: skip
    if aside:
        names = some([str(p) for p in aside])
        yield warning("parts", f"set aside: {names}", "look at them, then remove them")


def _checkpoints(settings: Settings, found: Examined | None) -> Iterator[Finding]:
    folders = settings.checkpoints.glob("*") if settings.checkpoints.is_dir() else ()
    there = {f.name: f for f in sorted(folders) if _ID.fullmatch(f.name)}
    states = found.checkpoints if found else {}
    wrong = False
    for name in sorted(there.keys() | states.keys()):
        active = states.get(name) == "active"
        finding = _checkpoint(settings, name, there.get(name), active, name in states or not found)
        if finding is not None:
            wrong = True
            yield finding
    if not wrong:
        yield ok("checkpoints", f"{len(there)}, all whole" if there else "none yet")


def _checkpoint(
    settings: Settings, name: str, folder: Path | None, active: bool, known: bool
) -> Finding | None:
    make = broken if active else warning
    step = (
        "put its folder back from a backup, take another map (`locus checkpoints rollback`), or "
        "learn a new one (`locus retrain --force`)"
        if active
        else "put its folder back from a backup, or leave it: it is not in use"
    )
    if folder is None:
        return make("checkpoint", f"the folder of {name[:16]} is missing", step)
    try:
        load(folder, settings.encoder_identity if active else None)
    except CheckpointError as error:
        return make("checkpoint", str(error), step)
    except EncoderError:
        return None  # told of by itself
    if not known:
        said = f"{name[:16]} is not in the warehouse: the run that made it was killed"
        return warning("checkpoint", said, "`locus retrain` removes it")
    return None


# --- published -----------------------------------------------------------------------------------


def _published(
    settings: Settings, found: Examined | None, intact: list[Snapshot], damaged: dict[Path, str]
) -> Iterator[Finding]:
    names = {one.snapshot_id for one in intact}
    if not names and not damaged and not (settings.published / "current.json").exists():
        if found and found.snapshots:
            said = f"{len(found.snapshots)} were published, and none is there"
            yield broken("published", said, "`locus publish` makes one of the warehouse")
        else:
            yield ok("published", "nothing yet")
        return
    step = f"{_REPAIR} shows readers a whole one" if names else "`locus publish` makes a new one"
    shown = None
    try:
        now = current(settings.published)
        if now.snapshot_id in names:
            shown = now.snapshot_id
            yield ok("published", f"readers see {shown}; {len(intact)} kept snapshots are whole")
        else:
            yield broken("published", f"readers see {now.snapshot_id}, which is damaged", step)
    except SnapshotError as error:
        yield broken("published", str(error), step)
    for why in damaged.values():
        yield broken("snapshot", why, _ASIDE)
    for aside in sorted((settings.published / "snapshots").glob(f"*{CORRUPT}")):
        yield warning("snapshot", f"set aside: {aside}", "look at it, then remove it")
    if found is not None:
        yield from _against_the_warehouse(found, intact, damaged, shown)


def _against_the_warehouse(
    found: Examined, intact: list[Snapshot], damaged: dict[Path, str], shown: str | None
) -> Iterator[Finding]:
    for one in intact:
        if one.snapshot_id not in found.snapshots:
            yield warning(
                "snapshot",
                f"{one.snapshot_id} is not in the warehouse: the run that sealed it was killed "
                "before the gates let it through, or another warehouse was here then",
                "don't go back to it without looking at its report",
            )
        elif found.snapshots[one.snapshot_id] not in (None, one.manifest_sha256):
            yield broken(
                "snapshot",
                f"{one.snapshot_id}: its manifest is not the one that was published",
                _ASIDE,
            )
    kept = sorted([one.snapshot_id for one in intact] + [folder.name for folder in damaged])
    # Old ones are removed from the old end; a newer one that isn't there was taken by somebody.
    newest = kept[-1] if kept else ""
    gone = sorted(name for name in found.snapshots if name > newest)
    if gone:
        yield warning(
            "snapshot",
            f"{some(gone)}: published later than what is kept, and not there",
            "restore from a backup, or `locus publish`",
        )
    if found.shown and shown and found.shown != shown and found.shown in kept:
        yield warning(
            "published",
            f"the warehouse says that readers should see {found.shown}: a run was killed between "
            "the two",
            f"`locus snapshots rollback {found.shown}` shows it",
        )


# --- clock ---------------------------------------------------------------------------------------


def _clock(
    settings: Settings, found: Examined | None, intact: list[Snapshot], now: datetime
) -> Finding:
    times: dict[str, datetime] = {}
    if found and found.newest:
        times[f"the newest {found.newest[0]} of the warehouse"] = found.newest[1]
    for one in intact[:1]:
        with suppress(ValueError, KeyError, TypeError):  # a manifest by somebody else
            at = datetime.fromisoformat(one.manifest["created_at"])
            times[f"snapshot {one.snapshot_id}"] = at
    night, held = last_night(settings), lease_status(settings)
    if night and night.ended_at:
        times["the end of the last night"] = night.ended_at
    if held:
        times["the last sign of life of a run"] = held["heartbeat_at"]
    ahead = {what: at - now for what, at in times.items() if at - now > CLOCKS_DIFFER}
    if not ahead:
        return ok("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC, and nothing is dated later")
    what = max(ahead, key=lambda name: ahead[name])
    hours = ahead[what].total_seconds() / 3600
    return warning(
        "clock",
        f"it is {now:%Y-%m-%d %H:%M} UTC here, and {what} is dated {hours:.1f} hours later",
        "set the clock right (`timedatectl`); if it was ahead before, runs go on, but until then "
        "name snapshots when you go back, and don't rely on how old data is said to be",
    )
