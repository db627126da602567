"""What was asked: the question and its options, out of a document and the prompt made from it.

A samples file holds the whole prompt, with instructions and examples of other questions. A query's
text is the question alone, because it is what a query is encoded and compared by.
"""

import json
import re
from functools import lru_cache
from typing import Any, NamedTuple

# Names under which documents keep the question, in the order in which they are tried.
_QUESTION = (
    "question",
    "query",
    "problem",
    "prompt",
    "instruction",
    "input",
    "goal",
    "ctx",
    "text",
    "sentence",
    "content",
)
# What a question may refer to; it is put before it.
_CONTEXT = ("passage", "context", "article", "story", "support", "premise")
_OPTIONS = ("choices", "options", "mc1_targets", "endings")
# Options that have a field each.
_SERIES = (
    ("option1", "option2", "option3", "option4", "option5"),
    ("sol1", "sol2"),
    ("answerA", "answerB", "answerC", "answerD"),
    ("opa", "opb", "opc", "opd", "ope"),
    ("A", "B", "C", "D", "E"),
)
_TAIL_MAX = 4_000
_TAIL_MIN = 24
_LABELS = tuple(f"{chr(65 + number)}. " for number in range(26))
_NEAR = 200  # characters
_SCALARS = {str, int, float}
_ONLY_TEXT = {str}


def prompt_text(argument: object) -> str:
    """The prompt as text; of a chat, what the user said last."""
    if isinstance(argument, list) and len(argument) == 1 and isinstance(argument[0], str):
        argument = argument[0]  # a named tuple of one text that was written as a list
    messages: Any = argument
    if isinstance(argument, str):
        if not argument.startswith("[{"):
            return argument
        try:
            messages = json.loads(argument)
        except (ValueError, RecursionError):
            return argument
    if isinstance(messages, list):
        said = [m.get("content") for m in messages if isinstance(m, dict) and _is_user(m)]
        if said:
            return _content(said[-1])
    return argument if isinstance(argument, str) else ""


def _is_user(message: dict[str, Any]) -> bool:
    return message.get("role") == "user"


def _content(content: object) -> str:
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def options_of(doc: object, continuations: list[str]) -> list[str] | None:
    """The options of a multiple-choice question, from its document or, failing that, its requests.

    Args:
        doc: the document behind the question.
        continuations: what the model was asked to rate, in order; empty if it was not.
    """
    if isinstance(doc, dict):
        fields = _fields(tuple(doc))
        for key in fields.options:
            found = _option_list(doc[key])
            if found:
                return found
        for names in fields.series:
            values = [doc[name] for name in names if type(doc.get(name)) in _SCALARS]
            if len(values) >= 2 and all(str(value).strip() for value in values[:2]):
                return [str(value) for value in values]
    rated = [text.strip() for text in continuations]
    # Letters stand for options that are in the prompt; they say nothing by themselves.
    if len(rated) >= 2 and any(len(text) > 1 for text in rated) and len(set(rated)) > 1:
        return rated
    return None


def _option_list(value: object) -> list[str] | None:
    if isinstance(value, dict):
        inner = value.get("text", value.get("choices"))
        value = inner if isinstance(inner, list) else list(value.values())
    if not isinstance(value, list) or len(value) < 2:
        return None
    kinds = set(map(type, value))
    if kinds == _ONLY_TEXT:
        return value
    return list(map(str, value)) if kinds <= _SCALARS else None


def question_text(doc: object, prompt: str, options: list[str] | None) -> str:
    """The bare question with its options, lettered; an empty string if nothing was asked.

    The first field of the document with a usual name whose text is in the prompt is the question.
    If none is, but the end of the prompt is in such a field (the field holds the answer too), it is
    that end; else the first such field; else the end of the prompt.
    """
    candidates, others = _asked(doc)
    question = _first_in(prompt, candidates)
    if question is None and candidates:
        flat = _flat(prompt)
        question = next((text for text in candidates if _flat(text) in flat), None)
    if question is None:
        tail = prompt_tail(prompt)
        inside = tail and any(_flat(tail) in _flat(text) for text in candidates)
        question = tail if inside or not candidates else candidates[0]
    lines = [text.strip() for text in others if text.strip() in prompt and text not in question]
    if bare := question.strip():
        lines.append(bare)
    for number, option in enumerate(options or ()):
        label = _LABELS[number] if number < len(_LABELS) else f"{number + 1}. "
        lines.append(label + option)
    return "\n".join(lines)


class _Fields(NamedTuple):
    """Which fields of a document may say what was asked.

    Attributes:
        questions, contexts: for every usual name the fields that have it, whatever their case, the
            last one first.
        options: those that may hold all options.
        series: names of which each may hold one option.
    """

    questions: list[list[str]]
    contexts: list[list[str]]
    options: list[str]
    series: list[tuple[str, ...]]


@lru_cache(maxsize=16)
def _fields(keys: tuple[str, ...]) -> _Fields:
    # All documents of a task have the same keys.
    by_name: dict[str, list[str]] = {}
    for key in reversed(keys):
        by_name.setdefault(key.lower(), []).append(key)
    return _Fields(
        [by_name[name] for name in _QUESTION if name in by_name],
        [by_name[name] for name in _CONTEXT if name in by_name],
        [name for name in _OPTIONS if name in keys],
        [names for names in _SERIES if len(set(keys).intersection(names)) >= 2],
    )


def _asked(doc: object) -> tuple[list[str], list[str]]:
    """The texts of a document that may be its question, and those it may refer to, in order."""
    if isinstance(doc, str):
        return ([doc] if doc.strip() else []), []
    if not isinstance(doc, dict):
        return [], []
    fields = _fields(tuple(doc))
    return _texts(doc, fields.questions), _texts(doc, fields.contexts)


def _texts(doc: dict[str, Any], fields: list[list[str]]) -> list[str]:
    """Of each of the ``fields`` the first text that is not blank."""
    texts = []
    for keys in fields:
        for key in keys:
            text = doc[key]
            if isinstance(text, str) and text.strip():
                texts.append(text)
                break
    return texts


def _first_in(prompt: str, texts: list[str]) -> str | None:
    """The first of ``texts`` that is in the prompt."""
    for text in texts:
        bare = text.strip()
        # What is asked is at the end, mostly, and searching a long text for a long one takes long.
        if bare in prompt[-len(bare) - _NEAR :] or bare in prompt:
            return text
    return None


def _flat(text: str) -> str:
    return " ".join(text.split())


def prompt_tail(prompt: str) -> str:
    """The last block of a prompt: what follows the last blank line, and more if that is tiny."""
    end = prompt[-_TAIL_MAX:].strip()
    blocks = re.split(r"\n\s*\n", end)
    tail = blocks.pop()
    while blocks and len(tail) < _TAIL_MIN:
        tail = f"{blocks.pop()}\n\n{tail}"
    return tail
