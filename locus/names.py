"""What to say of a name that isn't there."""

import difflib
from collections.abc import Iterable


def hint(name: str, known: Iterable[str], otherwise: str) -> str:
    """Names that are spelled alike, or ``otherwise`` where there are none."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"did you mean {', '.join(near)}?" if near else otherwise
