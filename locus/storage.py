"""Shared storage: objects by name in a folder or a bucket, each there whole or not at all.

What machines that share no disk hand to one another goes through here, and nothing else: no
listing is cached, no object is appended to. Keys are never part of an address; a bucket's come from
the environment (``AWS_...``), as does the address of a service other than Amazon's
(``AWS_ENDPOINT_URL``).
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from locus.durable import remove_leftovers, whole_file

log = logging.getLogger(__name__)

# By protocol: the package that it takes, and how that is installed. Only stores in which a PUT is
# whole or not belong here.
PACKAGES = {"s3": ("s3fs", "locus-map[s3]")}


class StorageAddressError(ValueError):
    """An address that can't be used; the message says what to write or install."""


class StorageError(RuntimeError):
    """Storage that can't be reached, or refuses; the message names it and what it said."""


class Storage(ABC):
    """Objects by name, such as ``jobs/1/report.json``.

    Attributes:
        address: where it is; another process opens the same by it.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    @abstractmethod
    def put(self, name: str, content: bytes) -> None:
        """Write an object; a reader sees the one before or this one.

        Raises:
            StorageError: it can't be written.
        """

    @abstractmethod
    def get(self, name: str) -> bytes | None:
        """Content of an object; None if there is none.

        Raises:
            StorageError: it can't be read.
        """

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """Names of all objects under ``folder/``, in order.

        Raises:
            StorageError: they can't be listed.
        """

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove an object, if it is there.

        Raises:
            StorageError: it can't be removed.
        """


def check_address(address: str) -> str:
    """An address as it came, if it can be used.

    Raises:
        StorageAddressError: an unknown protocol, a key in it, no bucket, a missing package.
    """
    parts = urlsplit(address)
    if "://" not in address:
        if not address.strip():
            raise StorageAddressError("storage is empty: name a folder or s3://bucket/prefix")
        return address
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise StorageAddressError(f"storage {address!r}: write file:/// and a whole path")
        return address
    if parts.scheme not in PACKAGES:
        known = ", ".join(f"{name}://" for name in ("file", *PACKAGES))
        raise StorageAddressError(
            f"storage has the unknown protocol {parts.scheme!r}: name a folder, or one of {known}"
        )
    if "@" in parts.netloc or parts.query:
        # Not repeated: it may hold a key.
        raise StorageAddressError(
            f"storage {parts.scheme}://... has more than a bucket and a prefix: keys come from the "
            "environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL)"
        )
    if not parts.netloc:
        raise StorageAddressError(f"storage {address!r} names no bucket: s3://bucket/prefix")
    package, extra = PACKAGES[parts.scheme]
    if find_spec(package) is None:
        raise StorageAddressError(
            f"storage {address!r} takes the package {package}: pip install '{extra}'"
        )
    return address


@lru_cache(maxsize=32)
def open_storage(address: str) -> Storage:
    """Storage at an address: a folder, ``file:///...`` or ``s3://bucket/prefix``.

    Nothing is read or written yet. One connection serves all threads.

    Raises:
        StorageAddressError: the address can't be used.
    """
    check_address(address)
    parts = urlsplit(address)
    if "://" not in address:
        return _Folder(address, Path(address).expanduser())
    if parts.scheme == "file":
        return _Folder(address, Path(unquote(parts.path)))
    return _Bucket(address.rstrip("/"))


class _Folder(Storage):
    """A folder, of this machine or shared by several."""

    def __init__(self, address: str, root: Path) -> None:
        super().__init__(address)
        self._root = root

    def put(self, name: str, content: bytes) -> None:
        path = self._root / name
        with self._told(name):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(path)
            with whole_file(path) as stream:
                stream.write(content)

    def get(self, name: str) -> bytes | None:
        with self._told(name):
            try:
                return (self._root / name).read_bytes()
            except FileNotFoundError:
                return None

    def names(self, folder: str) -> list[str]:
        with self._told(folder):
            found = [p for p in (self._root / folder).rglob("*") if p.is_file()]
        return sorted(
            p.relative_to(self._root).as_posix() for p in found if not p.name.startswith(".")
        )

    def remove(self, name: str) -> None:
        path = self._root / name
        with self._told(name):
            path.unlink(missing_ok=True)
            # As in a bucket, a folder is there as long as something is in it.
            if path.parent != self._root and path.parent.is_dir():
                try:
                    path.parent.rmdir()
                except OSError:
                    log.debug("%s is not empty", path.parent)

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"storage {self.address}: {name}: {error}; look at the folder's mount and owner"
            ) from error


class _Bucket(Storage):
    """A bucket behind fsspec."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        import fsspec

        protocol, _, self._root = address.partition("://")
        self._fs: Any = fsspec.filesystem(
            protocol, use_listings_cache=False, skip_instance_cache=True
        )

    def put(self, name: str, content: bytes) -> None:
        with self._told(name):
            self._fs.pipe_file(f"{self._root}/{name}", content)

    def get(self, name: str) -> bytes | None:
        with self._told(name):
            try:
                return bytes(self._fs.cat_file(f"{self._root}/{name}"))
            except FileNotFoundError:
                return None

    def names(self, folder: str) -> list[str]:
        with self._told(folder):
            try:
                found = self._fs.find(f"{self._root}/{folder}")
            except FileNotFoundError:
                return []
        return sorted(str(key).removeprefix(f"{self._root}/") for key in found)

    def remove(self, name: str) -> None:
        with self._told(name):
            try:
                self._fs.rm_file(f"{self._root}/{name}")
            except FileNotFoundError:
                log.debug("%s was gone already", name)

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # Its clients raise errors of three libraries, with no common ancestor but this.
            said = " ".join(str(error).split()) or type(error).__name__
            raise StorageError(
                f"storage {self.address}: {name}: {said[:300]}; check the bucket's name, what the "
                "key may do, and that AWS_ENDPOINT_URL (if set) can be reached from here"
            ) from error
