"""The SQL files that come with the package: migrations and queries that users may copy."""

from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent / "queries"


@cache
def query(name: str) -> str:
    """Text of ``queries/<name>.sql``."""
    return (_FOLDER / f"{name}.sql").read_text(encoding="utf-8")
