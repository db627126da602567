"""What all fuzz tests share: how many inputs from which seed, hostile pieces, and the watch on us.

`LOCUS_FUZZ_EXAMPLES` inputs a surface (1,000 by default), `LOCUS_FUZZ_SEED` for others than the
ones that every run sees. Inputs are sound ones with something done to them, so that they come
further than noise would.
"""

import copy
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("LOCUS_FUZZ_EXAMPLES", "1000"))
SEED = int(os.environ.get("LOCUS_FUZZ_SEED", "0"))
PATIENCE = pytest.mark.timeout(300 + EXAMPLES)
"""For every module here: as long as it takes, where many inputs are asked for."""
# Hypothesis remembers all inputs of a round; this bounds its memory.
_ROUND = 1000

CANARY = "canary-5f1c0e7a"
CANARY_VARIABLE = "LOCUS_FUZZ_API_KEY"
"""A variable that holds `CANARY`, which nothing may ever repeat."""

# --- Pieces --------------------------------------------------------------------------------------

TEXTS = (
    "", " ", "\x00", "\x1b[31m", "\u202eevil", "\u2028", "\ufeff", "\ud83d", "é\u0301", "x" * 300,
    "../../x", "..", ".", "/etc/passwd", "~root", "a/../../b", "C:\\x", "file:///etc/passwd",
    "=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-1", "%00", "'; DROP TABLE score; --", '"', "`",
    "$(touch ran)", "|touch ran", "{{ 7*7 }}", "${LOCUS_FUZZ_API_KEY}",
    "!!python/object:os.system", "<script>alert(1)</script>", "null", "NaN", "1e999", "2026-13-01",
    "\r\n", "\t", ",", "a\nb",
)  # fmt: skip
NUMBERS = (
    0, -1, 1, 2, 0.5, -0.0, 1e308, -1e308, 5e-324, float("nan"), float("inf"), float("-inf"),
    2**31, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**40, 10**400,
)  # fmt: skip

texts = st.sampled_from(TEXTS) | st.text(st.characters(exclude_categories=[]), max_size=12)
scalars = st.none() | st.booleans() | st.sampled_from(NUMBERS) | texts
values = scalars | st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def changed(draw: st.DrawFn, *sound: Any, most: int = 3) -> Any:
    """One of the ``sound`` values of JSON's kinds, with up to ``most`` things done to it."""
    value = copy.deepcopy(draw(st.sampled_from(sound)))
    for _ in range(draw(st.integers(0, most))):
        value = _change(draw, value)
    return value


def _change(draw: st.DrawFn, value: Any) -> Any:
    places = list(_places(value))
    if not places:
        return draw(values)
    holder, key = draw(st.sampled_from(places))
    what = draw(st.sampled_from(("replace", "replace", "drop", "rename", "wrap", "swap", "repeat")))
    if what == "replace":
        holder[key] = draw(values)
    elif what == "drop":
        del holder[key]
    elif what == "wrap":
        holder[key] = draw(st.sampled_from(([holder[key]], {"": holder[key]}, str(holder[key]))))
    elif what == "swap":
        other, place = draw(st.sampled_from(places))
        holder[key] = copy.deepcopy(other[place])
    elif isinstance(holder, dict):
        holder[draw(texts)] = holder[key] if what == "repeat" else holder.pop(key)
    else:
        holder.insert(key, copy.deepcopy(holder[key]))
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Everything that can be replaced, as (what holds it, key)."""
    pairs: Any = ()
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    for key, inner in pairs:
        yield value, key
        yield from _places(inner)


_PIECES = (
    b"", b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"\n", b"\r", b'"', b",", b"{", b"}", b"]", b"\\",
    b"[" * 3000, b'{"a":' * 3000, b"9" * 5000, b"NaN", b"-Infinity", b"\xe2\x80\xae",
    b"\xef\xbb\xbf",
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, sound: st.SearchStrategy[bytes]) -> bytes:
    """Bytes; now and then cut off, with a piece put in or written over, or twice."""
    content = draw(sound)
    what = draw(st.sampled_from(("", "", "", "", "cut", "put", "over", "twice")))
    if not what or not content:
        return content
    at = draw(st.integers(0, len(content)))
    if what == "cut":
        return content[:at]
    if what == "twice":
        return content + content[at:]
    piece = draw(st.sampled_from(_PIECES) | st.binary(max_size=8))
    return content[:at] + piece + content[at + (len(piece) if what == "over" else 0) :]


def as_json(value: Any) -> bytes:
    """JSON as a stranger writes it: halves of characters as codes, NaN, long numbers."""
    limit = sys.get_int_max_str_digits()
    assert limit > 400
    return json.dumps(value).encode()


# --- Running and watching ------------------------------------------------------------------------


def fuzz(check: Callable[..., str], *inputs: st.SearchStrategy[Any], share: float = 1) -> None:
    """Hand generated inputs to ``check``, which returns what became of one, in a word or two.

    Args:
        check: raises where something is not as it should be.
        inputs: its arguments.
        share: of `EXAMPLES`, where a surface has several checks.

    Raises:
        AssertionError: all inputs came to the same end, so that little was tried.
    """
    ends: Counter[str] = Counter()

    def counted(drawn: tuple[Any, ...]) -> None:
        ends[check(*drawn)] += 1

    left, turn = max(int(EXAMPLES * share), 20), 0
    while left > 0:
        profile = settings(
            max_examples=min(left, _ROUND),
            deadline=None,
            database=None,
            # Inputs are small as they are, and making a failing one smaller takes minutes.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        seed(SEED * 1_000_000 + turn)(profile(given(st.tuples(*inputs))(counted)))()
        left, turn = left - _ROUND, turn + 1
    sys.stdout.write(f"{sum(ends.values())} inputs: {dict(ends.most_common())}\n")
    assert len(ends) > 1, ends


_PROCESSES = ("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn")
_CODE = ("subprocess.Popen", "pickle.find_class", "socket.connect", *_PROCESSES)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_watch: list["Watch"] = []


class Watch:
    """Notices processes, connections, and files touched outside the folders that are ours.

    Attributes:
        seen: what should not have been.
    """

    def __init__(self, ground: Path, ours: tuple[Path, ...]) -> None:
        self.ground, self._ours = ground, tuple(str(one) + os.sep for one in ours)
        self.seen: list[str] = []

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        """Judge an event of Python's own audit."""
        if event in _CODE:
            self.seen.append(f"{event} {args!r}"[:300])
        elif event == "open" and isinstance(args[0], str) and int(args[2] or 0) & _WRITES:
            path = str(Path(args[0]).absolute())
            if not path.startswith((*self._ours, "/dev/", "/proc/self/")):
                self.seen.append(f"open {path}")

    def listing(self) -> set[str]:
        """Everything on the ground that does not lie in a folder of ours."""
        return {
            path
            for folder, folders, files in os.walk(self.ground)
            for name in (*folders, *files)
            if not (path := os.path.join(folder, name) + os.sep).startswith(self._ours)  # noqa: PTH118
        }


def _hear(event: str, args: tuple[Any, ...]) -> None:
    for watch in _watch:
        watch.hear(event, args)


sys.addaudithook(_hear)  # for good: Python takes none off again


@contextmanager
def watched(ground: Path, *ours: Path) -> Iterator[None]:
    """The block may write in ``ours`` alone, start nothing, and call nobody.

    Args:
        ground: folder whose listing is compared before and after: what goes up a few folders from
            ``ours`` lands in it. Code that is not Python's own is only seen so.
        ours: folders on the ground.

    Raises:
        AssertionError: something got out.
    """
    watch = Watch(ground, ours)
    before = watch.listing()
    _watch.append(watch)
    try:
        yield
    finally:
        _watch.remove(watch)
    assert not watch.seen, watch.seen
    assert watch.listing() == before


def check_told(text: str, most: int = 3000) -> None:
    """What a user is told: not endless, no traceback, no key, nothing that can't be shown."""
    assert text.strip() and len(text) <= most, f"{len(text)} characters: {text[:500]}"
    assert "Traceback" not in text and CANARY not in text
    text.encode()
