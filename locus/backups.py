"""A backup: files under their names, and a manifest that pins each by its hash; read as hostile.

It is a folder or, where its name ends in .tar, .tar.gz or .tgz, one file. Either looks like this::

    backup.json        format, when, facts, and size and SHA-256 of every other file
    home/...           what goes into the home
    settings/...       what lies beside it

What is read may come from anywhere, so nothing in it is believed: names can't lead out of the
folder that they are unpacked to, only plain files are taken, and every byte is held to the
manifest. That manifest itself is named by its own hash, the backup's id, which whoever made the
backup was told.
"""

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from locus.durable import sync

FORMAT = 1
MANIFEST = "backup.json"
PLACES = ("home", "settings")

_TAR = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz"}
_MANIFEST_MOST = 256 * 2**20
_LONGEST_NAME = 255
_BLOCK = 2**20
# The next step, after what is wrong.
_ANOTHER = "; take another backup"
_STRANGE = "; it was not made by `locus backup`, so nothing of it is unpacked"


class BackupError(RuntimeError):
    """A backup that can't be made or trusted; the message names the file and the fault."""


@dataclass(frozen=True)
class Backup:
    """A backup whose manifest was read.

    Attributes:
        path: where it lies.
        manifest: what its manifest says.
        backup_id: SHA-256 of the manifest.
    """

    path: Path
    manifest: dict[str, Any]
    backup_id: str

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        """Size and hash of every file, by name."""
        return dict(self.manifest["files"])

    @property
    def n_bytes(self) -> int:
        """Size of all files together."""
        return sum(entry["bytes"] for entry in self.files.values())


# --- writing -------------------------------------------------------------------------------------


def write(target: Path, files: Mapping[str, Path], facts: Mapping[str, Any]) -> Backup:
    """Write a backup, there whole or not at all; nobody may change the files meanwhile.

    Args:
        target: a folder that isn't there yet or is empty, or a .tar, .tar.gz or .tgz file that
            isn't there yet.
        files: by name in the backup, where it lies now.
        facts: what else the manifest says.

    Raises:
        BackupError: the target is there already or can't be written, or a file can't be read or
            changed meanwhile; nothing is left.
    """
    refuse_target(target)
    try:
        entries = {name: _entry(path) for name, path in sorted(files.items())}
        raw = json.dumps({"format": FORMAT, **facts, "files": entries}, indent=1).encode() + b"\n"
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise _unwritten(target, error) from error
    try:
        built = work / target.name
        if mode := tar_mode(target):
            _write_tar(built, mode, raw, files)
        else:
            _write_folder(built, raw, files)
        # What was written is read again: a disk that takes bytes and loses them is found now.
        backup = check(built)
        with suppress(FileNotFoundError):
            if target.is_dir():
                target.rmdir()
        built.rename(target)
        sync(target.parent)
    except OSError as error:
        raise _unwritten(target, error) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Backup(target, backup.manifest, backup.backup_id)


def refuse_target(target: Path) -> None:
    """Refuse to write where something is.

    Raises:
        BackupError: a file, or a folder with something in it.
    """
    is_empty = target.is_dir() and not any(target.iterdir()) and tar_mode(target) is None
    if os.path.lexists(target) and not is_empty:
        raise BackupError(f"{target} is there already: name another place for the backup")


def tar_mode(target: Path) -> str | None:
    """How a file of this name is written; None if it is to be a folder."""
    return next((mode for ending, mode in _TAR.items() if target.name.endswith(ending)), None)


def _entry(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        stat = os.fstat(stream.fileno())
    entry: dict[str, Any] = {"sha256": sha256, "bytes": stat.st_size}
    return entry if stat.st_mode & 0o200 else {**entry, "read_only": True}


def _write_tar(built: Path, mode: str, raw: bytes, files: Mapping[str, Path]) -> None:
    import io

    with built.open("xb") as out:
        with tarfile.open(fileobj=out, mode=mode, format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
            first = tarfile.TarInfo(MANIFEST)
            first.size = len(raw)
            tar.addfile(first, io.BytesIO(raw))
            for name, path in sorted(files.items()):
                with path.open("rb") as stream:
                    member = tarfile.TarInfo(name)
                    member.size = os.fstat(stream.fileno()).st_size
                    tar.addfile(member, stream)
        out.flush()
        os.fsync(out.fileno())


def _write_folder(built: Path, raw: bytes, files: Mapping[str, Path]) -> None:
    built.mkdir()
    for name, path in sorted(files.items()):
        copy = built / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        sync(copy)
    # Last: a folder without one is no backup.
    (built / MANIFEST).write_bytes(raw)
    sync(built / MANIFEST)
    sync(built)


def _unwritten(target: Path, error: OSError) -> BackupError:
    what = f" ({error.filename})" if error.filename else ""
    return BackupError(
        f"{target} can't be written: {error.strerror or error}{what}; make room or name another "
        "place, and back up again"
    )


# --- reading -------------------------------------------------------------------------------------


def read(source: Path) -> Backup:
    """Read the manifest of a backup, and nothing else.

    Raises:
        BackupError: there is no backup, or its manifest can't be used.
    """
    with _opened(source) as members:
        return _manifest(source, members)


def check(source: Path, into: Path | None = None) -> Backup:
    """Hold every byte of a backup to its manifest, and unpack it where asked.

    Args:
        source: the backup.
        into: an empty folder of the caller's own, where the files are unpacked to while they are
            checked; None unpacks nothing. After an error the caller removes it.

    Raises:
        BackupError: a file that is missing, changed, not named by the manifest, not a plain file,
            or named so that it would lie elsewhere; or a backup of a newer format.
        OSError: it can't be unpacked, such as on a full disk.
    """
    with _opened(source) as members:
        backup = _manifest(source, members)
        wanted, seen = backup.files, set[str]()
        for name, size, stream in members:
            entry = wanted.get(name)
            if entry is None:
                raise BackupError(f"{source}: {name!r} is not in its manifest{_ANOTHER}")
            if name in seen:
                raise BackupError(f"{source}: {name!r} is there twice{_ANOTHER}")
            seen.add(name)
            if size != entry["bytes"]:
                raise _changed(source, name)
            _take(source, name, entry, stream, into)
    if missing := sorted(wanted.keys() - seen):
        n = f"{len(missing)} of {len(wanted)} files"
        raise BackupError(f"{source}: {missing[0]!r} is missing ({n}){_ANOTHER}")
    return backup


_Members = Iterator[tuple[str, int, IO[bytes]]]


@contextmanager
def _opened(source: Path) -> Iterator[_Members]:
    """The plain files of a backup, the manifest first."""
    try:
        if source.is_dir():
            yield _in_folder(source)
            return
        with tarfile.open(source, mode="r:*") as tar:
            yield _in_tar(source, tar)
    except FileNotFoundError as error:
        raise BackupError(f"there is no backup at {source}: {error}") from error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise _unreadable(source, error) from error
    except OSError as error:
        if error.errno is None:  # of gzip: a damaged stream
            raise _unreadable(source, error) from error
        raise
    except ValueError as error:
        raise _unreadable(source, error) from error


def _unreadable(source: Path, error: Exception) -> BackupError:
    return BackupError(f"{source} can't be read as a backup: {error}{_ANOTHER}")


def _in_folder(source: Path) -> _Members:
    names = [MANIFEST, *sorted(_names(source))] if (source / MANIFEST).exists() else []
    for name in names:
        path = source / name
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(handle, "rb") as stream:
            yield name, os.fstat(handle).st_size, stream


def _names(source: Path) -> Iterator[str]:
    """Names of all files but the manifest; links and devices are refused, not followed."""
    for folder, folders, files in os.walk(source):
        for name in (*folders, *files):
            path = Path(folder) / name
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise BackupError(f"{path} is a link or no plain file{_STRANGE}")
        for name in files:
            found = (Path(folder) / name).relative_to(source).as_posix()
            if found != MANIFEST:
                yield found


def _in_tar(source: Path, tar: tarfile.TarFile) -> _Members:
    for member in tar:
        stream = tar.extractfile(member) if member.isreg() else None
        if stream is None:
            raise BackupError(f"{source}: {member.name!r} is a link or no plain file{_STRANGE}")
        yield member.name, member.size, stream


def _manifest(source: Path, members: _Members) -> Backup:
    name, size, stream = next(members, ("", 0, None))
    if name != MANIFEST or stream is None:
        raise BackupError(
            f"{source} is no backup: it doesn't begin with {MANIFEST}; name what `locus backup` "
            "wrote"
        )
    if size > _MANIFEST_MOST:
        raise BackupError(f"{source}: {MANIFEST} is too long ({size} bytes){_ANOTHER}")
    raw = stream.read()
    try:
        manifest = json.loads(raw)
        version = int(manifest["format"])
        files = {str(k): dict(v) for k, v in manifest["files"].items()}
        whole = all(
            isinstance(e["sha256"], str) and type(e["bytes"]) is int for e in files.values()
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackupError(f"{source}: {MANIFEST} can't be read: {error}{_ANOTHER}") from error
    if version > FORMAT:
        raise BackupError(
            f"{source} has format {version}, this version reads up to {FORMAT}: upgrade the package"
        )
    if not whole:
        raise BackupError(f"{source}: {MANIFEST} lacks the hash or size of a file{_ANOTHER}")
    for one in files:
        _refuse_name(source, one)
    return Backup(source, manifest, hashlib.sha256(raw).hexdigest())


def _refuse_name(source: Path, name: str) -> None:
    """Refuse a name that isn't plainly below one of the places."""
    parts = name.split("/")
    plain = (
        PurePosixPath(name).as_posix() == name
        and name.isprintable()
        and "\\" not in name
        and parts[0] in PLACES
        and len(parts) > 1
        and not {"", ".", ".."} & set(parts)
        and all(len(part.encode("utf-8", "replace")) <= _LONGEST_NAME for part in parts)
    )
    if not plain:
        raise BackupError(f"{source}: {name[:200]!r} is no name of a file in a backup{_STRANGE}")


def _take(
    source: Path, name: str, entry: Mapping[str, Any], stream: IO[bytes], into: Path | None
) -> None:
    """Read one file to its end, hash it, and write it down where asked."""
    digest, left = hashlib.sha256(), int(entry["bytes"])
    out: IO[bytes] | None = None
    try:
        if into is not None:
            path = into / name
            path.parent.mkdir(parents=True, exist_ok=True)
            out = path.open("xb")
        while block := stream.read(min(_BLOCK, left + 1)):
            left -= len(block)
            digest.update(block)
            if out is not None:
                out.write(block)
        if left or digest.hexdigest() != entry["sha256"]:
            raise _changed(source, name)
        if out is not None:
            out.flush()
            os.fsync(out.fileno())
            os.fchmod(out.fileno(), 0o444 if entry.get("read_only") else 0o644)
    finally:
        if out is not None:
            out.close()


def _changed(source: Path, name: str) -> BackupError:
    return BackupError(f"{source}: {name!r} has changed since the backup was made{_ANOTHER}")
