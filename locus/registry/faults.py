"""What is wrong with a registry, in words that name the field."""

import difflib
from collections.abc import Sequence
from datetime import date
from typing import Any

from pydantic import ValidationError

_SHOWN = 60


class RegistryError(ValueError):
    """A registry that can't be used; the message names the file, the model and the field."""


def shown(value: object, most: int = _SHOWN) -> str:
    """A value as text of at most so many characters, whatever it is."""
    try:
        text = str(value)[:most]
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a number of thousands of digits"
    return text.encode("utf-8", "backslashreplace").decode()


def is_text(text: str) -> bool:
    """Whether it can be written: half of a character, as JSON and YAML can have it, can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def reasons(error: ValidationError, fields: Sequence[str]) -> list[str]:
    """Every fault of an entry in a line of its own, the field first.

    Args:
        error: what pydantic found.
        fields: the fields that there are.
    """
    return [_reason(dict(fault), fields) for fault in error.errors(include_url=False)]


def _reason(fault: dict[str, Any], fields: Sequence[str]) -> str:
    field, kind, value = _place(fault["loc"]), fault["type"], fault["input"]
    said = str(fault["msg"]).removeprefix("Value error, ")
    if kind == "model_type":
        return "an entry is a mapping with at least an `id`, such as `- id: org/name`"
    if kind == "missing":
        return f"{field} is missing"
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        near = difflib.get_close_matches(str(fault["loc"][-1]), fields, n=1)
        return f"{field} is no field" + (f"; did you mean {near[0]}?" if near else "")
    if kind == "value_error":
        return f"{field}: {said}" if field else said
    if kind == "string_type" and isinstance(value, int | float | date):
        read = "a date" if isinstance(value, date) else "a number, true or false"
        return f"{field}: YAML reads {shown(value)} as {read}; it is text, so put it in quotes"
    instead = "" if isinstance(value, dict | list) else f", not {shown(value)!r}"
    return f"{field or 'a name'}: {said[:1].lower()}{said[1:]}{instead}"


def _place(loc: Sequence[Any]) -> str:
    """A field's name; an entry of a list is counted from 1."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f", entry {part + 1}"
        else:
            text += f".{shown(part)}" if text else shown(part)
    return text
