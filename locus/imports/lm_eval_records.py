"""Lines of a samples file of lm-evaluation-harness: which are records, and what their JSON says.

Here belongs what makes a line a sound record. What a record means is read in `lm_eval_documents`.
This and that module load next to nothing, since helpers do nothing but read (`lm_eval_parts`).
"""

import json
import json.encoder
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

RECORD_KEYS = frozenset(
    {
        "doc_id",
        "doc",
        "target",
        "arguments",
        "resps",
        "filtered_resps",
        "filter",
        "metrics",
        "doc_hash",
        "prompt_hash",
        "target_hash",
        "task_name",
    }
)
"""Keys of a record that are no metric."""

_NOT_JSON = "not valid JSON"
_DOC_ID = (int, str)
_LEVELS = 64  # of nesting, at most: recursion over what is read is safe
_BUFFER = 1 << 18  # Lines are longer than Python's own: they would be put together of pieces.


def _encoder(sort_keys: bool) -> Callable[[Any], str]:
    """JSON of plain values as the standard library writes it, text as it is and without NaN."""
    standard = json.JSONEncoder(ensure_ascii=False, sort_keys=sort_keys, allow_nan=False)
    # It makes the part that does the work anew for every value, which takes as long as the work.
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return standard.encode
    text = json.encoder.encode_basestring
    once = make(None, standard.default, text, None, ": ", ", ", sort_keys, False, False)
    return lambda value: "".join(once(value, 0))


_sorted = _encoder(sort_keys=True)
_as_it_is = _encoder(sort_keys=False)


@dataclass(slots=True)
class Record:
    """A sound record.

    Attributes:
        raw: its line.
        values: what it says.
        metrics: its metrics by name, as logged.
        doc: its document as JSON, which tells documents apart.
        is_strict: whether its line is JSON to the letter, so that nothing in it was put right, and
            was read fast, so that whole numbers beyond 64 bits that are not looked at are rounded.
    """

    raw: bytes
    values: dict[str, Any]
    metrics: dict[str, Any]
    doc: str
    is_strict: bool


def read_records(
    path: Path, start: int = 0, end: int | None = None
) -> Iterator[tuple[int, Record | None, str]]:
    """Lines of a file: number, the record or None, and what is wrong with it; blank ones not.

    Args:
        path: the file.
        start: byte from which on lines are read; the one that it is in the middle of is not, and
            the first that is read has number 1.
        end: byte at or after which no line begins that is read; default: the end of the file.

    Yields:
        Also, at last, (number of lines, None, "").

    Raises:
        OSError: the file can't be read; the lines before are told.
    """
    line = 0
    with path.open("rb", buffering=_BUFFER) as stream:
        at = start
        if start:
            stream.seek(start - 1)
            # Of a line that is longer than a part, no more than a part.
            at += len(stream.readline(-1 if end is None else end - at + 1)) - 1
        while (end is None or at < end) and (text := stream.readline()):
            line += 1
            raw = text.removeprefix(b"\xef\xbb\xbf") if not at else text
            at += len(text)
            if not raw.strip():
                continue
            record, reason = _parse(raw)
            if record is None and not text.endswith(b"\n") and reason.startswith(_NOT_JSON):
                reason = f"the file ends in the middle of a record ({reason})"
            yield line, record, reason
    yield line, None, ""


def _parse(raw: bytes) -> tuple[Record | None, str]:
    """One line as a record, or (None, what is wrong with it)."""
    try:
        # Three times as fast as the standard library, but it refuses NaN and half a pair of
        # surrogates, which logs hold, and rounds whole numbers beyond 64 bits.
        values = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return parse_slowly(raw)
    record, reason = _judged(values, raw, is_strict=True)
    # A target or answers that may be rounded are found where they are kept.
    if record is None or "e+" in record.doc or any(map(is_huge, record.metrics.values())):
        return parse_slowly(raw)
    return record, reason


def parse_slowly(raw: bytes) -> tuple[Record | None, str]:
    """One line as a record, whose numbers are exact and whose text may be damaged."""
    try:
        values = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return None, "not UTF-8 text"
    except (ValueError, RecursionError) as error:
        return None, f"{_NOT_JSON}: {error}"
    return _judged(values, raw, is_strict=False)


def _judged(values: Any, raw: bytes, is_strict: bool) -> tuple[Record | None, str]:
    if not isinstance(values, dict):
        return None, "expected an object: one record of lm-eval a line"
    if _may_be_deep(raw) and not is_shallow(values, _LEVELS):
        return None, f"nested too deeply: expected at most {_LEVELS} levels"
    if not is_strict and b"\\u" in raw:
        values = repair(values)
    doc_id = values.get("doc_id")
    if type(doc_id) not in _DOC_ID:  # a truth value is none
        return None, "doc_id: expected the number of the document"
    doc = values.get("doc")
    if doc is None:
        return None, "doc: expected the document behind the question"
    name = values.get("filter")
    if name is not None and not isinstance(name, str):
        return None, "filter: expected the name of a filter"
    metrics = _metrics(values)
    if not metrics:
        return None, "no metric: expected at least one, such as acc or exact_match"
    return Record(raw, values, metrics, as_json(doc, _sorted), is_strict), ""


def _may_be_deep(raw: bytes) -> bool:
    """Whether there are more brackets than levels are allowed, as in few lines."""
    # Taking them out looks for the next one at once, counting them at one byte after the other.
    most = _LEVELS + 1
    left = len(raw.replace(b"[", b"", most)) + len(raw.replace(b"{", b"", most))
    return 2 * len(raw) - left > _LEVELS


def _metrics(values: dict[str, Any]) -> dict[str, Any]:
    """The metrics of a record: those it lists, else every key that is not one of the fixed."""
    listed = values.get("metrics")
    if isinstance(listed, list):
        return {
            key: values[key]
            for key in listed
            if isinstance(key, str) and key in values and key not in RECORD_KEYS
        }
    return {key: value for key, value in values.items() if key not in RECORD_KEYS}


def is_huge(value: object) -> bool:
    """Whether a number is in it that may have been rounded."""
    if isinstance(value, float):
        return not -(2.0**63) < value < 2.0**63
    return isinstance(value, list) and any(map(is_huge, value))


def as_json(value: Any, encode: Callable[[Any], str] = _as_it_is) -> str:
    """``value`` as JSON, with NaN and infinities, which JSON has not, as null."""
    try:
        return encode(value)
    except ValueError:
        return encode(finite(value))


def finite(value: Any) -> Any:
    """``value`` with NaN and infinities, which JSON has not, as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [finite(item) for item in value]
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return value


def repair(value: Any) -> Any:
    """``value`` with lone surrogates, which are no text, replaced by U+FFFD."""
    if isinstance(value, str):
        if value.isascii():
            return value
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [repair(item) for item in value]
    if isinstance(value, dict):
        return {repair(key): repair(item) for key, item in value.items()}
    return value


def is_shallow(value: object, levels: int = 64) -> bool:
    """Whether ``value`` is nested at most ``levels`` deep, so that recursion over it is safe."""
    if isinstance(value, dict):
        return levels > 0 and all(is_shallow(item, levels - 1) for item in value.values())
    if isinstance(value, list):
        return levels > 0 and all(is_shallow(item, levels - 1) for item in value)
    return True
