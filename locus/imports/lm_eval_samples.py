"""The samples files of lm-evaluation-harness: one record a document and filter.

Here belong the variants of a record and of a file. Which metric is a query's score, and who was
evaluated, is decided in `lm_eval_logs`.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from locus import ids
from locus.imports.bundle import ProblemLog, visible
from locus.imports.lm_eval_results import is_shallow, repair
from locus.imports.lm_eval_text import options_of, prompt_text, question_text

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

SOURCE_ID_KEYS = ("id", "question_id", "qid", "source_id", "task_id", "key")
"""Keys of a document that may hold its id at its source."""

_NOT_JSON = "not valid JSON"
_CATEGORY = ("category", "subject", "subfield")
_LEVELS = 64  # of nesting, at most: recursion over what is read is safe
_SORTED = json.JSONEncoder(ensure_ascii=False, sort_keys=True, allow_nan=False)
_AS_IT_IS = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


@dataclass
class Document:
    """One document of a samples file, with the metrics of all its filters.

    Attributes:
        line: line of its first record.
        doc_id: its number in the task.
        query_id: its identity here (under the task version that was given).
        text, options, target, category, source_id: see the frame `queries`.
        doc: the document as JSON.
        output_type: what kind of request was made.
        response: what the model said, or the likelihoods as JSON.
        is_empty: whether it was asked to write and wrote nothing at all.
        lines: filter -> line of its record.
        metrics: filter -> metric -> value, as logged.
        hashes: the harness' own hashes: doc_hash, prompt_hash, target_hash.
    """

    line: int | None
    doc_id: str
    query_id: str
    text: str
    options: list[str] | None
    target: str | None
    category: str | None
    source_id: str
    doc: str
    output_type: str | None
    response: str | None
    is_empty: bool
    hashes: dict[str, str | None]
    lines: dict[str, int | None] = field(default_factory=dict)
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class SamplesFile:
    """A samples file that was read: its documents, in order, and its filters, in order."""

    file: str
    documents: list[Document]
    filters: list[str]
    n_repeated: int


def read_samples(
    path: Path,
    file: str,
    log: ProblemLog,
    *,
    task: str,
    version: str,
    filters: list[str],
    output_type: str | None,
) -> SamplesFile:
    """Read one samples file.

    A record that does not name its filter (older versions of the harness) is told by its order: the
    n-th record of a document is for the n-th filter, which is called ``filter-n``, or ``none`` if
    there is just one, where the names are not known.

    Args:
        path: the file.
        file: its name in problems.
        log: told of every line that is no good.
        task: the task it is about.
        version: version of the task; part of every query's id.
        filters: the task's filters in order, if known.
        output_type: what kind of request the task makes, if known.
    """
    documents: dict[str, Document] = {}
    names: dict[str, None] = {}
    unnamed: dict[str, int] = {}  # doc_id -> how many records without a filter's name
    repeated = 0
    has_gap = was_bad = False
    for line, record, reason in _records(path):
        has_gap = has_gap or was_bad
        was_bad = record is None
        if record is None:
            log.add(file, file, reason, line)
            continue
        doc_id = str(record.values["doc_id"])
        name = record.values.get("filter")
        if name is None:
            place = unnamed[doc_id] = unnamed.get(doc_id, 0) + 1
            name = filters[place - 1] if place <= len(filters) else f"filter-{place}"
        known = documents.get(doc_id)
        made = known or _document(record, task, version, line, output_type)
        why_not = _add(made, record, name, line, is_new=known is None)
        if why_not is None:
            documents[doc_id] = made
            names.setdefault(name)
        elif why_not:
            log.add(file, f"doc_id {visible(doc_id, 60)}", why_not, line)
        else:
            repeated += 1
    if has_gap:
        _drop_ambiguous(documents, unnamed, file, log)
    if not filters and max(unnamed.values(), default=0) == 1:
        _rename(documents, "filter-1", "none")
        names = {("none" if name == "filter-1" else name): None for name in names}
    ordered = [f for f in filters if f in names] + [f for f in names if f not in filters]
    return SamplesFile(file, list(documents.values()), ordered, repeated)


def _drop_ambiguous(
    documents: dict[str, Document], unnamed: dict[str, int], file: str, log: ProblemLog
) -> None:
    """Leave out documents that lack a record, where a lost line makes their order doubtful."""
    expected = max(unnamed.values(), default=0)
    for doc_id, count in unnamed.items():
        if count < expected and doc_id in documents:
            line = documents.pop(doc_id).line
            reason = (
                f"{count} of {expected} records: a line of this file is broken, and records do not "
                "say which filter they are for, so that it is unknown which one is left"
            )
            log.add(file, f"doc_id {visible(doc_id, 60)}", reason, line)


def _rename(documents: dict[str, Document], old: str, new: str) -> None:
    for document in documents.values():
        if old in document.metrics:
            document.metrics[new] = document.metrics.pop(old)
            document.lines[new] = document.lines.pop(old)


@dataclass(frozen=True)
class _Record:
    """A record, with its document as JSON, which tells documents apart."""

    values: dict[str, Any]
    doc: str


def _records(path: Path) -> Iterator[tuple[int | None, _Record | None, str]]:
    """Lines of a file: number, the record or None, and what is wrong with it."""
    line = 0
    is_empty = True
    try:
        with path.open("rb") as stream:
            for line, text in enumerate(stream, start=1):
                raw = text.removeprefix(b"\xef\xbb\xbf") if line == 1 else text
                if not raw.strip():
                    continue
                is_empty = False
                record, reason = _parse(raw)
                if record is None and not text.endswith(b"\n") and reason.startswith(_NOT_JSON):
                    reason = f"the file ends in the middle of a record ({reason})"
                yield line, record, reason
    except OSError as error:
        yield line or None, None, f"it can't be read: {error}"
        return
    if is_empty:
        yield None, None, "the file is empty: the run did not finish writing it"


def _parse(raw: bytes) -> tuple[_Record | None, str]:
    """One line as a record, or (None, what is wrong with it)."""
    try:
        # Three times as fast as the standard library, but it refuses NaN and half a pair of
        # surrogates, which logs hold, and rounds whole numbers beyond 64 bits.
        values = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return _parse_slowly(raw)
    record, reason = _judged(values, raw)
    if record is None or "e+" in record.doc or _is_huge(_kept(values)):
        return _parse_slowly(raw)
    return record, reason


def _parse_slowly(raw: bytes) -> tuple[_Record | None, str]:
    try:
        values = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return None, "not UTF-8 text"
    except (ValueError, RecursionError) as error:
        return None, f"{_NOT_JSON}: {error}"
    return _judged(values, raw)


def _judged(values: Any, raw: bytes) -> tuple[_Record | None, str]:
    if not isinstance(values, dict):
        return None, "expected an object: one record of lm-eval a line"
    # Most lines have fewer brackets than levels are allowed.
    if raw.count(b"[") + raw.count(b"{") > _LEVELS and not is_shallow(values, _LEVELS):
        return None, f"nested too deeply: expected at most {_LEVELS} levels"
    if b"\\u" in raw:
        values = repair(values)
    doc_id = values.get("doc_id")
    if isinstance(doc_id, bool) or not isinstance(doc_id, int | str):
        return None, "doc_id: expected the number of the document"
    if values.get("doc") is None:
        return None, "doc: expected the document behind the question"
    name = values.get("filter")
    if name is not None and not isinstance(name, str):
        return None, "filter: expected the name of a filter"
    if not _metrics(values):
        return None, "no metric: expected at least one, such as acc or exact_match"
    return _Record(values, _json(values["doc"], _SORTED)), ""


def _kept(values: dict[str, Any]) -> list[Any]:
    """What is kept of a record beside texts and its document."""
    return [*_metrics(values).values(), values.get("target"), values.get("resps")]


def _is_huge(value: object) -> bool:
    """Whether a number is in it that may have been rounded."""
    if isinstance(value, float):
        return abs(value) >= 2**63
    return isinstance(value, list) and any(map(_is_huge, value))


def _json(value: Any, encoder: json.JSONEncoder = _AS_IT_IS) -> str:
    """``value`` as JSON, with NaN and infinities, which JSON has not, as null."""
    try:
        return encoder.encode(value)
    except ValueError:
        return encoder.encode(_finite(value))


def _document(
    read: _Record, task: str, version: str, line: int | None, output_type: str | None
) -> Document:
    record = read.values
    doc = record["doc"]
    requests = _requests(record.get("arguments"))
    rated = [request[1] for request in requests if len(request) > 1 and isinstance(request[1], str)]
    prompt = prompt_text(requests[0][0]) if requests and requests[0] else ""
    options = options_of(doc, rated)
    text = question_text(doc, prompt, options)
    output_type = output_type or _output_type(requests, rated)
    response, is_empty = _response(record.get("resps"), output_type)
    fields = doc if isinstance(doc, dict) else {}
    named = (fields.get(key) for key in SOURCE_ID_KEYS)
    source = next((v for v in named if isinstance(v, str | int) and str(v)), record["doc_id"])
    groups = (fields.get(key) for key in _CATEGORY)
    target = record.get("target")
    hashes = {key: record.get(key) for key in ("doc_hash", "prompt_hash", "target_hash")}
    return Document(
        line=line,
        doc_id=str(record["doc_id"]),
        query_id=ids.query_id(task, version, doc, text),
        text=text,
        options=options,
        target=target if target is None or isinstance(target, str) else json.dumps(target),
        category=next((v for v in groups if isinstance(v, str) and v), None),
        source_id=str(source),
        doc=read.doc,
        output_type=output_type,
        response=response,
        is_empty=is_empty,
        hashes={key: value if isinstance(value, str) else None for key, value in hashes.items()},
    )


def _add(known: Document, record: _Record, name: str, line: int | None, is_new: bool) -> str | None:
    """Add a record to its document. Returns None, or why not; an empty string: said before."""
    if is_new and not known.text:
        return "nothing is asked: neither the document nor the arguments hold a text"
    metrics = _metrics(record.values)
    if not is_new:
        doc_hash = record.values.get("doc_hash")
        if record.doc != known.doc or (known.hashes["doc_hash"] or doc_hash) != (doc_hash or None):
            return f"another document has the same doc_id in line {known.line}"
        if name in known.metrics:
            if _finite(metrics) == _finite(known.metrics[name]):
                return ""
            return (
                f"the document has different metrics for filter {name} in line "
                f"{known.lines[name]}: keep one of the two"
            )
    known.metrics[name] = metrics
    known.lines[name] = line
    return None


def _metrics(record: dict[str, Any]) -> dict[str, Any]:
    """The metrics of a record: those it lists, else every key that is not one of the fixed."""
    listed = record.get("metrics")
    if isinstance(listed, list):
        names = [key for key in listed if isinstance(key, str) and key not in RECORD_KEYS]
        return {key: record[key] for key in names if key in record}
    return {key: value for key, value in record.items() if key not in RECORD_KEYS}


def _requests(arguments: object) -> list[list[Any]]:
    """The requests that were made for a document, each a list of arguments."""
    if isinstance(arguments, dict):
        arguments = _in_order(arguments)
    if not isinstance(arguments, list):
        return []
    if arguments and isinstance(arguments[0], str):  # one request that is not wrapped in a list
        return [arguments]
    requests = [_in_order(item) if isinstance(item, dict) else item for item in arguments]
    return [item for item in requests if isinstance(item, list)]


def _in_order(numbered: dict[str, Any]) -> list[Any]:
    """Values of ``{"arg_0": ..., "arg_1": ...}`` by number."""
    return [numbered[key] for key in _ordered(tuple(numbered))]


@lru_cache(maxsize=256)
def _ordered(keys: tuple[str, ...]) -> tuple[str, ...]:
    # All records of a task have the same ones.
    def number(key: str) -> int:
        tail = key.rsplit("_", 1)[-1]
        return int(tail) if tail.isascii() and tail.isdigit() and len(tail) < 10 else 0

    return tuple(sorted(keys, key=number))


def _output_type(requests: list[list[Any]], rated: list[str]) -> str | None:
    if not requests:
        return None
    if rated:
        return "multiple_choice" if len(requests) > 1 else "loglikelihood"
    return "generate_until" if len(requests[0]) > 1 else "loglikelihood_rolling"


def _response(resps: object, output_type: str | None) -> tuple[str | None, bool]:
    """(what the model said, whether it said nothing at all)."""
    if output_type != "generate_until":
        given = None if resps is None else _json(resps)
        return given, False
    if resps is None:
        return None, False
    said = list(_leaves(resps))
    # The harness writes a missing answer (null) as the text None.
    is_empty = bool(said) and all(text in (None, "", "None") for text in said)
    if len(said) == 1:
        return (None if said[0] is None else str(said[0])), is_empty
    return json.dumps(said, ensure_ascii=False) if said else None, is_empty


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, dict):
        yield _json(value)
    else:
        yield value


def _finite(value: Any) -> Any:
    """``value`` with NaN and infinities, which JSON has not, as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return value


def metrics_json(document: Document) -> str:
    """All metrics of a document as JSON: 'metric,filter' -> value."""
    flat = {
        f"{metric},{name}": value
        for name, metrics in document.metrics.items()
        for metric, value in metrics.items()
    }
    return _json(flat)
