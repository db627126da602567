"""Samples files in parts, which several processes read at once where they are large.

What comes out is the same, in the same order, as if one had read it all: a part is whole lines, a
line means the same wherever it is read, and what lines have to do with each other is judged by
whoever puts the parts together. Reading keeps Python busy, so that threads would not help. Helpers
are processes of their own that load nothing but what reads a line; one that ends before it is done
is done without.
"""

import json
import logging
import marshal
import os
import select
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from locus.imports.lm_eval_documents import About, Document, Entry, read_entries
from locus.imports.lm_eval_helper import DONE

log = logging.getLogger(__name__)

Lines = list[tuple[int, Entry | None]]

LARGE_BYTES = 48 << 20
"""From this size of all files on, helpers save more time than it takes to start them."""

PART_BYTES = 4 << 20
_HELPERS_MOST = 3  # beyond, putting together takes longer than reading
_GIVEN = 2  # parts that a helper has at a time, so that it need not wait for the next
_AHEAD = 8  # parts that are held before their turn, at most, for each that reads
_HELPER = "locus.imports.lm_eval_helper"


class _Part(NamedTuple):
    """The lines of a file that begin at or after ``start`` and before ``end``."""

    path: Path
    about: About
    start: int
    end: int | None


@contextmanager
def in_parts(files: Sequence[tuple[Path, About]]) -> Iterator["Reader"]:
    """A reader of samples files, with helpers where they are worth it.

    Args:
        files: all that will be read, in the order in which they will be, each with what is known.
    """
    sizes = [_size(path) for path, _ in files]
    parts = [
        _Part(path, about, start, start + PART_BYTES if start + PART_BYTES < size else None)
        for (path, about), size in zip(files, sizes, strict=True)
        for start in range(0, max(size, 1), PART_BYTES)
    ]
    with ExitStack() as stack:
        wanted = min(_cores() - 1, _HELPERS_MOST) if sum(sizes) >= LARGE_BYTES else 0
        yield Reader(parts, _helpers(wanted, stack))


def _helpers(wanted: int, stack: ExitStack) -> "list[_Helper]":
    """As many helpers as can be started, which end with ``stack``."""
    helpers: list[_Helper] = []
    try:
        while len(helpers) < wanted:
            folder = tempfile.TemporaryDirectory(prefix="locus-logs-")
            helper = _Helper(Path(stack.enter_context(folder)))
            stack.callback(helper.end)
            helpers.append(helper)
    except OSError as error:
        log.warning("logs are read by fewer processes than there are cores: %s", error)
    return helpers


class Reader:
    """Reads files part by part; what helpers have read before its turn, it takes from them."""

    def __init__(self, parts: list[_Part], helpers: "list[_Helper]") -> None:
        self._parts, self._helpers = parts, helpers
        self._turn = 0  # number of the part that is read next
        self._free = 0  # number of the first part that nobody has taken
        self._ready: dict[int, Lines] = {}
        self._again: set[int] = set()  # taken, and nothing came of it

    def read(self, path: Path) -> Iterator[tuple[int, Entry | None]]:
        """What the lines of the next file say; see `lm_eval_documents.read_entries`.

        Raises:
            OSError: the file can't be read.
            ValueError: it is another file's turn.
        """
        if self._turn == len(self._parts) or self._parts[self._turn].path != path:
            raise ValueError(f"it is not the turn of {path}")
        before = 0
        try:
            while self._turn < len(self._parts) and self._parts[self._turn].path == path:
                line = 0
                for line, entry in self._entries(self._turn):
                    if entry is not None:
                        yield before + line, entry
                before += line
                self._turn += 1
        finally:  # after an error, the next file's turn comes all the same
            while self._turn < len(self._parts) and self._parts[self._turn].path == path:
                self._turn += 1
            self._free = max(self._free, self._turn)
        yield before, None

    def _entries(self, number: int) -> Iterator[tuple[int, Entry | None]]:
        while True:
            self._listen(wait=False)
            if number in self._ready:
                yield from self._ready.pop(number)
                return
            if number >= self._free or number in self._again:
                self._free = max(self._free, number + 1)
                yield from _read(self._parts[number])
                return
            # A helper is about to be done with it.
            if self._may_take():
                self._take_one()
            else:
                self._listen(wait=True)

    def _may_take(self) -> bool:
        most = _AHEAD * (1 + len(self._helpers))
        return self._free < min(len(self._parts), self._turn + most)

    def _take_one(self) -> None:
        """Read a part before its turn."""
        number, self._free = self._free, self._free + 1
        try:
            self._ready[number] = list(_read(self._parts[number]))
        except OSError:  # which is for its turn
            self._again.add(number)

    def _listen(self, wait: bool) -> None:
        """Take what helpers have read, and give them what to read next."""
        busy = {helper.tells: helper for helper in self._helpers}
        for helper in (busy[tells] for tells in _that_tell(list(busy), wait)):
            for number, lines in helper.results():
                if lines is None:
                    self._again.add(number)
                else:
                    self._ready[number] = lines
            if helper.has_ended:
                self._helpers.remove(helper)
        for helper in self._helpers:
            while helper.is_up and len(helper.given) < _GIVEN and self._may_take():
                number, self._free = self._free, self._free + 1
                helper.give(number, self._parts[number])


class _Helper:
    """A process that reads parts, as the one that started it sees it.

    Attributes:
        given: numbers of the parts that it has not read yet.
        tells: file descriptor that has something to read when `results` has.
        is_up: whether it has started.
        has_ended: whether it gives no results any more.
    """

    def __init__(self, folder: Path) -> None:
        self.given: deque[int] = deque()
        self.is_up = self.has_ended = False
        self._folder = folder
        project = str(Path(__file__).parents[2])
        paths = [project, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            # Without the folder that we are in, which may be one of somebody's logs.
            [sys.executable, "-P", "-m", _HELPER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            # An interrupt is for whoever started it, who ends it then.
            start_new_session=True,
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("a helper was started without pipes")
        self._asks, self.tells = self._process.stdin, self._process.stdout.fileno()

    def give(self, number: int, part: _Part) -> None:
        """Have it read a part."""
        self.given.append(number)
        job = [str(part.path), part.start, part.end, part.about, str(self._file(number))]
        with suppress(BrokenPipeError):  # its end is heard of where results are
            self._asks.write(json.dumps(job).encode() + b"\n")

    def results(self) -> Iterator[tuple[int, Lines | None]]:
        """The parts that it is done with, each with its lines; None where it failed."""
        said = os.read(self.tells, 64)
        for byte in said:
            if not self.is_up:
                self.is_up = True
                continue
            number = self.given.popleft()
            yield number, _load(self._file(number)) if byte == DONE[0] else None
        if not said:
            log.debug("a helper ended with status %s", self._process.wait())
            self.has_ended = True
            yield from ((number, None) for number in self.given)

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._asks.close()
        os.close(self.tells)

    def _file(self, number: int) -> Path:
        return self._folder / str(number)


def _that_tell(descriptors: list[int], wait: bool) -> list[int]:
    """Those of the file descriptors that have something to read or have ended."""
    if not descriptors:
        return []
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(None if wait else 0)]


def _read(part: _Part) -> Iterator[tuple[int, Entry | None]]:
    return read_entries(part.path, part.about, part.start, part.end)


def _load(path: Path) -> Lines:
    """What a helper has written."""
    lines = marshal.loads(path.read_bytes())  # noqa: S302  ours, in a folder that is only ours
    path.unlink()
    return [(number, said and _entry(said)) for number, said in lines]


def _entry(said: tuple[Any, ...]) -> Entry:
    """An entry out of the plain tuples that a helper writes."""
    *head, document = said
    return Entry._make([*head, document and Document._make(document)])


def _size(path: Path) -> int:
    """Size of a file; 0 if it can't be told, which shows when it is read."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _cores() -> int:
    """How many cores are ours to use; 1 where processes can't be listened to."""
    if os.name != "posix":
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
