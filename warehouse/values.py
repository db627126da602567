"""Small conversions between Python values and what a column holds."""

import json
from collections.abc import Mapping
from typing import Any


def json_text(value: Mapping[str, Any] | None) -> str | None:
    """A mapping as JSON text with sorted keys; None stays None.

    Raises:
        TypeError: a value is not JSON-like.
        ValueError: a number is NaN or infinite.
    """
    if value is None:
        return None
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


def json_value(text: str | None) -> Any:
    """The value behind JSON text; None stays None."""
    return None if text is None else json.loads(text)
