"""The samples files of lm-evaluation-harness: one record a document and filter.

Here belong the variants of a file. What a line says is in `lm_eval_records` and
`lm_eval_documents`; which metric is a query's score, and who was evaluated, is decided in
`lm_eval_logs`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from locus.imports.bundle import ProblemLog, visible
from locus.imports.lm_eval_documents import Document, Entry
from locus.imports.lm_eval_records import as_json, finite


@dataclass
class SamplesFile:
    """A samples file that was read: its documents, in order, and its filters, in order."""

    file: str
    documents: list[Document]
    filters: list[str]
    n_repeated: int


def read_samples(
    entries: Iterator[tuple[int, Entry | None]], file: str, log: ProblemLog, filters: list[str]
) -> SamplesFile:
    """Read one samples file.

    A record that does not name its filter (older versions of the harness) is told by its order: the
    n-th record of a document is for the n-th filter, which is called ``filter-n``, or ``none`` if
    there is just one, where the names are not known.

    Args:
        entries: number of a line and what it says, as of `lm_eval_documents.read_entries`.
        file: the file's name in problems.
        log: told of every line that is no good.
        filters: the task's filters in order, if known.
    """
    documents: dict[str, Document] = {}
    names: dict[str, None] = {}
    unnamed: dict[str, int] = {}  # doc_id -> how many records without a filter's name
    repeated = 0
    has_gap = was_bad = False
    for line, entry in _sound(entries, file, log):
        has_gap = has_gap or was_bad
        was_bad = entry is None
        if entry is None:
            continue
        doc_id, name = entry.doc_id, entry.name
        if name is None:
            place = unnamed[doc_id] = unnamed.get(doc_id, 0) + 1
            name = filters[place - 1] if place <= len(filters) else f"filter-{place}"
        known = documents.get(doc_id)
        why_not = _add(known, entry, name, line)
        if why_not is None:
            if known is None and entry.document is not None:
                documents[doc_id] = entry.document
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


def _sound(
    entries: Iterator[tuple[int, Entry | None]], file: str, log: ProblemLog
) -> Iterator[tuple[int, Entry | None]]:
    """Lines of a file; None for one that is no record, which is in ``log`` then."""
    line = 0
    is_empty = True
    try:
        for line, entry in entries:
            if entry is None:
                continue
            is_empty = False
            if entry.reason:
                log.add(file, file, entry.reason, line)
            yield line, None if entry.reason else entry
    except OSError as error:
        log.add(file, file, f"it can't be read: {error}", line or None)
        yield line, None
        return
    if is_empty:
        log.add(file, file, "the file is empty: the run did not finish writing it")
        yield line, None


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


def _add(known: Document | None, entry: Entry, name: str, line: int) -> str | None:
    """Add a record to its document. Returns None, or why not; an empty string: said before."""
    if known is None:
        known = entry.document
        if known is None or not known.text:
            return "nothing is asked: neither the document nor the arguments hold a text"
    else:
        said = entry.doc_hash
        if entry.doc != known.doc or (known.doc_hash or said) != (said or None):
            return f"another document has the same doc_id in line {known.line}"
        if name in known.metrics:
            if finite(entry.metrics) == finite(known.metrics[name]):
                return ""
            return (
                f"the document has different metrics for filter {name} in line "
                f"{known.lines[name]}: keep one of the two"
            )
    known.metrics[name] = entry.metrics
    known.lines[name] = line
    return None


def metrics_json(document: Document) -> str:
    """All metrics of a document as JSON: 'metric,filter' -> value."""
    try:
        return _flat_json(orjson.dumps(document.metrics))
    except orjson.JSONEncodeError:  # a number of more than 64 bits
        return as_json(_flat(document.metrics))


# Most metrics are right or wrong, so that few texts are made of them.
@lru_cache(maxsize=4096)
def _flat_json(metrics: bytes) -> str:
    return as_json(_flat(orjson.loads(metrics)))


def _flat(metrics: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        f"{metric},{name}": value
        for name, of_it in metrics.items()
        for metric, value in of_it.items()
    }
