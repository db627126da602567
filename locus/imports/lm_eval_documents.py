"""What a record of a samples file is about: the question, its identity, and what the model said."""

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from locus import ids
from locus.imports.lm_eval_records import Record, as_json, is_huge, parse_slowly, read_records
from locus.imports.lm_eval_text import options_of, prompt_text, question_text

SOURCE_ID_KEYS = ("id", "question_id", "qid", "source_id", "task_id", "key")
"""Keys of a document that may hold its id at its source."""

# The harness writes a missing answer (null) as the text None.
_NOTHING = frozenset({None, "", "None"})
_CATEGORY = ("category", "subject", "subfield")
_TEXT = json.JSONEncoder(ensure_ascii=False).encode


class About(NamedTuple):
    """What is known of a samples file before it is read.

    Attributes:
        task: the task it is about.
        version: version of the task; part of every query's id.
        output_type: what kind of request the task makes, if known.
    """

    task: str
    version: str
    output_type: str | None


class Document(NamedTuple):
    """One document of a samples file, with the metrics of all its filters.

    Attributes:
        doc_id: its number in the task.
        query_id: its identity here (under the task version that was given).
        split: the part of the data that it belongs to.
        text, options, target, category, source_id: see the frame `queries`.
        doc: the document as JSON.
        output_type: what kind of request was made.
        response: what the model said, or the likelihoods as JSON.
        is_empty: whether it was asked to write and wrote nothing at all.
        doc_hash, prompt_hash, target_hash: the harness' own hashes.
        lines: filter -> line of its record.
        metrics: filter -> metric -> value, as logged.
    """

    doc_id: str
    query_id: str
    split: str
    text: str
    options: list[str] | None
    target: str | None
    category: str | None
    source_id: str
    doc: str
    output_type: str | None
    response: str | None
    is_empty: bool
    doc_hash: str | None
    prompt_hash: str | None
    target_hash: str | None
    lines: dict[str, int]
    metrics: dict[str, dict[str, Any]]

    @property
    def line(self) -> int:
        """Line of its first record."""
        return min(self.lines.values())


class Entry(NamedTuple):
    """What one line says.

    Attributes:
        reason: what is wrong with it; empty if nothing is, and only then the rest is given.
        doc_id: number of the document.
        name: the filter; None where the record does not say.
        metrics: metric -> value.
        doc: the document as JSON.
        doc_hash: the harness' hash of it.
        document: without metrics; None where a record before has it.
    """

    reason: str = ""
    doc_id: str = ""
    name: str | None = None
    metrics: dict[str, Any] = {}  # noqa: RUF012  nobody adds to it
    doc: str = ""
    doc_hash: Any = None
    document: Document | None = None


def read_entries(
    path: Path, about: About, start: int = 0, end: int | None = None
) -> Iterator[tuple[int, Entry | None]]:
    """What the lines of a file, or of a part of it, say; see `lm_eval_records.read_records`.

    Yields:
        For every line but blank ones its number and what it says; at last, (number of lines, None).

    Raises:
        OSError: the file can't be read.
    """
    known: dict[str, str] = {}  # doc_id -> its document, which need not be kept twice
    for line, record, reason in read_records(path, start, end):
        if record is None:
            yield line, Entry(reason) if reason else None
        else:
            yield line, _entry(record, about, known)


def _entry(record: Record, about: About, known: dict[str, str]) -> Entry:
    values, doc = record.values, record.doc
    doc_id = str(values["doc_id"])
    before = known.get(doc_id)
    document = None
    if before is None:
        document = _document(record, about)
        if document is None:
            exact, reason = parse_slowly(record.raw)
            if exact is None:
                return Entry(reason)
            document = _document(exact, about)
        if document is not None and document.text:
            known[doc_id] = doc
    elif before == doc:
        doc = before
    return Entry(
        "",
        doc_id,
        values.get("filter"),
        record.metrics,
        doc,
        values.get("doc_hash"),
        document,
    )


def _document(record: Record, about: About) -> Document | None:
    """The document of a record; None if a number that is kept of it may have been rounded."""
    values = record.values
    doc = values["doc"]
    requests = _requests(values.get("arguments"))
    rated = [request[1] for request in requests if len(request) > 1 and isinstance(request[1], str)]
    prompt = prompt_text(requests[0][0]) if requests and requests[0] else ""
    options = options_of(doc, rated)
    text = question_text(doc, prompt, options)
    output_type = about.output_type or _output_type(requests, rated)
    response, is_empty = _response(values.get("resps"), output_type)
    target = values.get("target")
    if record.is_strict and (is_huge(target) or (response and _has_huge(response, values))):
        return None
    query = _query_id(record, about, text)
    fields = doc if isinstance(doc, dict) else {}
    source = _first(fields, SOURCE_ID_KEYS, (str, int))
    return Document(
        str(values["doc_id"]),
        query,
        ids.split_of(query),
        text,
        options,
        target if target is None or isinstance(target, str) else json.dumps(target),
        _first(fields, _CATEGORY, str),
        str(values["doc_id"] if source is None else source),
        record.doc,
        output_type,
        response,
        is_empty,
        _hash(values.get("doc_hash")),
        _hash(values.get("prompt_hash")),
        _hash(values.get("target_hash")),
        {},
        {},
    )


def _has_huge(response: str, values: dict[str, Any]) -> bool:
    # Python writes numbers from 1e16 on so.
    return "e+" in response and is_huge(values.get("resps"))


def _query_id(record: Record, about: About, text: str) -> ids.QueryId:
    if not record.is_strict:
        return ids.query_id(about.task, about.version, record.values["doc"], text)
    # As `ids.query_id` does, with the document, whose JSON is here already.
    canonical = f"[{_TEXT(about.task)}, {_TEXT(about.version)}, {record.doc}, {_TEXT(text)}]"
    return ids.QueryId("q-" + ids.short_hash(canonical, 24))


def _first(fields: dict[str, Any], keys: tuple[str, ...], kind: type | tuple[type, ...]) -> Any:
    """The first of the fields ``keys`` that is of a kind and not an empty text."""
    for key in keys:
        value = fields.get(key)
        if value is not None and isinstance(value, kind) and value != "":
            return value
    return None


def _hash(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _requests(arguments: object) -> list[list[Any]]:
    """The requests that were made for a document, each a list of arguments."""
    if isinstance(arguments, dict):
        arguments = _in_order(arguments)
    if not isinstance(arguments, list):
        return []
    if arguments and isinstance(arguments[0], str):  # one request that is not wrapped in a list
        return [arguments]
    requests = []
    for item in arguments:
        if isinstance(item, dict):
            requests.append(_in_order(item))
        elif isinstance(item, list):
            requests.append(item)
    return requests


def _in_order(numbered: dict[str, Any]) -> list[Any]:
    """Values of ``{"arg_0": ..., "arg_1": ...}`` by number."""
    order = _order(tuple(numbered))
    return [numbered[key] for key in order] if order else list(numbered.values())


@lru_cache(maxsize=16)
def _order(keys: tuple[str, ...]) -> list[str] | None:
    """Keys by the number at their end; None if they are in this order."""

    # All records of a task have the same ones.
    def number(key: str) -> int:
        tail = key.rsplit("_", 1)[-1]
        return int(tail) if tail.isascii() and tail.isdigit() and len(tail) < 10 else 0

    order = sorted(keys, key=number)
    return None if order == list(keys) else order


def _output_type(requests: list[list[Any]], rated: list[str]) -> str | None:
    if not requests:
        return None
    if rated:
        return "multiple_choice" if len(requests) > 1 else "loglikelihood"
    return "generate_until" if len(requests[0]) > 1 else "loglikelihood_rolling"


def _response(resps: object, output_type: str | None) -> tuple[str | None, bool]:
    """(what the model said, whether it said nothing at all)."""
    if output_type != "generate_until":
        given = None if resps is None else as_json(resps)
        return given, False
    if resps is None:
        return None, False
    said = _leaves(resps)
    is_empty = bool(said) and _NOTHING.issuperset(said)
    if len(said) == 1:
        return (None if said[0] is None else str(said[0])), is_empty
    return json.dumps(said, ensure_ascii=False) if said else None, is_empty


def _leaves(value: object) -> list[object]:
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [as_json(value)] if isinstance(value, dict) else [value]
