"""What was asked: the question and its options, out of a document and the prompt made from it.

A samples file holds the whole prompt, with instructions and examples of other questions. A query's
text is the question alone, because it is what a query is encoded and compared by.
"""

import json
import re
from typing import Any

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
        for key in _OPTIONS:
            found = _option_list(doc.get(key))
            if found:
                return found
        for names in _SERIES:
            if len(doc.keys() & names) < 2:
                continue
            values = [doc[name] for name in names if _is_scalar(doc.get(name))]
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
    if not isinstance(value, list) or len(value) < 2 or not all(_is_scalar(v) for v in value):
        return None
    return [str(item) for item in value]


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def question_text(doc: object, prompt: str, options: list[str] | None) -> str:
    """The bare question with its options, lettered; an empty string if nothing was asked.

    The first field of the document with a usual name whose text is in the prompt is the question.
    If none is, but the end of the prompt is in such a field (the field holds the answer too), it is
    that end; else the first such field; else the end of the prompt.
    """
    fields = {key.lower(): text for key, text in _texts(doc)}
    candidates = [fields[name] for name in _QUESTION if name in fields]
    flat = None
    question = next((text for text in candidates if text.strip() in prompt), None)
    if question is None and candidates:
        flat = _flat(prompt)
        question = next((text for text in candidates if _flat(text) in flat), None)
    if question is None:
        tail = prompt_tail(prompt)
        inside = tail and any(_flat(tail) in _flat(text) for text in candidates)
        question = tail if inside or not candidates else candidates[0]
    context = [
        fields[name].strip()
        for name in _CONTEXT
        if name in fields and fields[name].strip() in prompt and fields[name] not in question
    ]
    lines = [*context, question.strip()]
    for number, option in enumerate(options or []):
        lines.append(f"{chr(65 + number) if number < 26 else number + 1}. {option}")
    return "\n".join(line for line in lines if line)


def _texts(doc: object) -> list[tuple[str, str]]:
    if isinstance(doc, str):
        return [("text", doc)] if doc.strip() else []
    if not isinstance(doc, dict):
        return []
    return [(key, value) for key, value in doc.items() if isinstance(value, str) and value.strip()]


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
