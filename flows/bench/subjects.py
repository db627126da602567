"""What can be measured: one module a subject, loaded only in the process that measures it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from flows.bench.rows import Row, Say, Size

Rows = Callable[[Size, Path, Say], Iterable[Row]]


class UnknownSubjectError(ValueError):
    """There is no such subject; the message says which there are."""


@dataclass(frozen=True)
class Subject:
    """One subject.

    Attributes:
        module: where its ``rows`` is.
        about: what it measures, in one line.
        threads: threads of every numerical library in its process; None leaves that to them.
    """

    module: str
    about: str
    threads: int | None = None

    def rows(self) -> Rows:
        """The function that measures it."""
        measure: Rows = import_module(self.module).rows
        return measure


SUBJECTS = {
    "training": Subject(
        "flows.bench.training", "learning a map, beside LOCUS as published, to equal validation BCE"
    ),
    "refresh": Subject("flows.bench.refresh", "placing all models, and those with new scores only"),
    "routing": Subject("flows.bench.routing", "choosing a model for a query", threads=1),
    "encoding": Subject(
        "flows.bench.encoding", "query texts to vectors, beside sentence-transformers"
    ),
    "growth": Subject(
        "flows.bench.growth", "how time and memory of a refresh grow with models and scores"
    ),
    "storage": Subject("flows.bench.storage", "reading and writing the warehouse"),
    "importing": Subject("flows.bench.importing", "importing what others measured"),
    "startup": Subject("flows.bench.startup", "from a command to its first answer"),
}


def available() -> dict[str, Subject]:
    """Subjects whose module is installed."""
    return {name: subject for name, subject in SUBJECTS.items() if find_spec(subject.module)}


def chosen(names: Iterable[str]) -> dict[str, Subject]:
    """Some subjects, each once; all of them where none is named.

    Raises:
        UnknownSubjectError: one is not there.
    """
    there = available()
    wanted = list(dict.fromkeys(names)) or list(there)
    strangers = [name for name in wanted if name not in there]
    if strangers:
        raise UnknownSubjectError(
            f"there is no subject {strangers[0]!r}: choose from {', '.join(there)}"
        )
    return {name: there[name] for name in wanted}
