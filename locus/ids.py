"""Identifiers, validated once at the edge; everything behind it trusts the type.

A model id comes from strangers (YAML, logs, a hub, a command line), so the rule here is narrow:
printable ASCII without quotes, white space or path tricks. Inside, ids are only ever bound SQL
values and table cells; file names are always hashes of them (`short_hash`).
"""

import hashlib
import json
import re
from typing import NewType

ModelId = NewType("ModelId", str)
QueryId = NewType("QueryId", str)

MODEL_ID_MAX = 200
_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9._+:-]*"
_MODEL_ID = re.compile(rf"{_SEGMENT}(/{_SEGMENT}){{0,3}}")


class InvalidIdError(ValueError):
    """An identifier that is refused at the edge; the message names it and says the rule."""


def model_id(text: str) -> ModelId:
    """Validate a model id such as ``org/name`` or ``gemma3:12b``.

    Raises:
        InvalidIdError: empty, longer than 200 characters, or anything but up to four segments of
            ``A-Z a-z 0-9 . _ + : -`` separated by ``/`` without ``..``.
    """
    if len(text) > MODEL_ID_MAX:
        raise InvalidIdError(f"model id of {len(text)} characters is too long (at most 200)")
    if not _MODEL_ID.fullmatch(text) or ".." in text:
        raise InvalidIdError(
            f"model id {text!r} is not valid: use letters, digits and . _ + : - in at most four "
            "parts separated by '/', for example 'org/name'"
        )
    return ModelId(text)


def query_id(task: str, task_version: str, document: object, prompt: object) -> QueryId:
    """The identity of a question: the same question is the same row, whatever its position.

    Args:
        task: name of the task (benchmark) that asks it.
        task_version: version of the task's definition.
        document: the JSON-like document behind the question.
        prompt: what is shown to the model (text, or a JSON-like structure).
    """
    canonical = json.dumps(
        [task, task_version, document, prompt], sort_keys=True, ensure_ascii=False, default=str
    )
    return QueryId("q-" + short_hash(canonical, 24))


def short_hash(text: str, length: int = 16) -> str:
    """First ``length`` hexadecimal digits of the SHA-256 of ``text``; safe as a file name."""
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def split_of(query: str, val: float = 0.1, test: float = 0.2) -> str:
    """Assign a query to ``train``, ``val`` or ``test`` by its id alone, the same way for ever.

    Only ``train`` queries are ever given to the encoder; ``val`` steers training; ``test``
    measures what is published.
    """
    position = int(short_hash("split:" + query, 8), 16) / 16**8
    if position < test:
        return "test"
    return "val" if position < test + val else "train"
