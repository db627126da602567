"""The documents of the zoo's lm-eval tasks, made in memory: no file, no download.

lm-eval calls these functions by the names in the YAML files beside them, with the task's metadata.
"""

from typing import TYPE_CHECKING

from locus.zoo.skills import benchmark

if TYPE_CHECKING:
    from datasets import Dataset

Splits = dict[str, "Dataset"]


def _splits(skill: str) -> Splits:
    from datasets import Dataset

    return {"test": Dataset.from_list([document.row() for document in benchmark(skill)])}


def copy(**_metadata: object) -> Splits:
    """Documents of the skill ``copy``."""
    return _splits("copy")


def reverse(**_metadata: object) -> Splits:
    """Documents of the skill ``reverse``."""
    return _splits("reverse")


def sort(**_metadata: object) -> Splits:
    """Documents of the skill ``sort``."""
    return _splits("sort")


def sequence(**_metadata: object) -> Splits:
    """Documents of the skill ``sequence``."""
    return _splits("sequence")


def countries(**_metadata: object) -> Splits:
    """Documents of the skill ``countries``."""
    return _splits("countries")


def people(**_metadata: object) -> Splits:
    """Documents of the skill ``people``."""
    return _splits("people")


def pattern(**_metadata: object) -> Splits:
    """Documents of the skill ``pattern``."""
    return _splits("pattern")


def count(**_metadata: object) -> Splits:
    """Documents of the skill ``count``."""
    return _splits("count")


def arithmetic(**_metadata: object) -> Splits:
    """Documents of the skill ``arithmetic``."""
    return _splits("arithmetic")


def compare(**_metadata: object) -> Splits:
    """Documents of the skill ``compare``."""
    return _splits("compare")
