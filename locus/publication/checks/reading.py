"""Opening a snapshot's files, and saying what is wrong with one."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
import polars as pl
import yaml
from safetensors import SafetensorError
from safetensors.numpy import load_file

from locus.publication.content import Array
from locus.snapshots import Snapshot, SnapshotError

_T = TypeVar("_T")

# The C parser reads a pool of thousands of models ten times as fast; not every build has it.
_YAML: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SHOWN = 300


class CheckFailedError(SnapshotError):
    """A file of a snapshot that is not as it must be; the message names it and what is wrong.

    Attributes:
        snapshot_id: the snapshot.
        file: the file, as the manifest names it.
        reason: what is wrong with it.
    """

    def __init__(self, snapshot_id: str, file: str, reason: str) -> None:
        """Take what is wrong.

        Args:
            snapshot_id: the snapshot.
            file: the file, as the manifest names it.
            reason: what is wrong with it.
        """
        super().__init__(f"snapshot {snapshot_id}: {file}: {reason}")
        self.snapshot_id, self.file, self.reason = snapshot_id, file, reason

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        # Exceptions are otherwise rebuilt from their message alone, as between processes.
        return type(self), (self.snapshot_id, self.file, self.reason)


@dataclass(frozen=True)
class Checked:
    """A file that is as it must be.

    Attributes:
        file: the file, as the manifest names it.
        found: what was found in it, in a few words.
    """

    file: str
    found: str


@dataclass(frozen=True)
class Reader:
    """Opens files of a snapshot; what can't be opened is a `CheckFailedError`."""

    snapshot: Snapshot

    def fail(self, file: str, reason: str) -> NoReturn:
        """Say that a file is wrong.

        Raises:
            CheckFailedError: always.
        """
        short = reason if len(reason) <= _SHOWN else reason[:_SHOWN] + " ..."
        raise CheckFailedError(self.snapshot.snapshot_id, file, short)

    def count(self, name: str) -> int:
        """What the manifest counts of models, queries or scores."""
        n = self.snapshot.manifest.get("counts", {}).get(name)
        if not isinstance(n, int):
            self.fail("manifest.json", f"counts no {name}")
        return n

    def has(self, file: str) -> bool:
        """Whether the snapshot has such a file."""
        return file in self.snapshot.manifest["files"]

    def text(self, file: str) -> str:
        """A text file that isn't empty."""
        text = self._open(file, lambda path: path.read_text(encoding="utf-8"))
        if not text.strip():
            self.fail(file, "is empty")
        return text

    def json(self, file: str) -> Any:
        """A JSON document."""
        return self._open(file, lambda path: json.loads(path.read_text(encoding="utf-8")))

    def yaml(self, file: str) -> Any:
        """A YAML document of plain values."""
        return self._open(
            file,
            lambda path: yaml.load(path.read_text(encoding="utf-8"), Loader=_YAML),  # noqa: S506
        )

    def arrays(self, file: str) -> dict[str, Array]:
        """Arrays of a safetensors file."""
        return self._open(file, load_file)

    def parquet(self, file: str, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
        """A table with these columns, of these types; more columns and narrower counts are fine."""
        frame = self._open(file, pl.read_parquet)
        for column, kind in schema.items():
            if column not in frame.columns:
                self.fail(file, f"lacks the column {column}")
            found = frame.schema[column]
            if found != kind and not (found.is_integer() and kind.is_integer()):
                self.fail(file, f"column {column} is of type {found}, not {kind}")
        return frame

    def rule(
        self, file: str, frame: pl.DataFrame, holds: pl.Expr, must: str, names: Sequence[str]
    ) -> None:
        """Hold every row against a rule; an unknown value keeps it.

        Args:
            file: where the rows are from.
            frame: the rows.
            holds: true where the rule is kept.
            must: the rule in words, for the error.
            names: columns that tell which row it is.
        """
        bad = frame.filter(~holds.fill_null(True))
        if bad.height:
            named = ", ".join(f"{name} {bad[name][0]!r}" for name in names)
            self.fail(file, f"{must}; {bad.height} rows are otherwise, the first is {named}")

    def known(self, file: str, names: Sequence[str], models: Mapping[str, int], where: str) -> None:
        """Refuse names that are no model of the snapshot."""
        odd = sorted({str(name) for name in names if name not in models})
        if odd:
            more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
            said = ", ".join(map(repr, odd[:3]))
            self.fail(file, f"{where} names {said}{more}, which is no model of the snapshot")

    def shaped(self, file: str, look: Callable[[], _T]) -> _T:
        """Look into a document; one of another shape than expected is an error about the file."""
        try:
            return look()
        except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
            self.fail(file, f"is not of the expected form: {type(error).__name__}: {error}")

    def _open(self, file: str, read: Callable[[Path], _T]) -> _T:
        try:
            return read(self.snapshot.folder / file)
        except FileNotFoundError:
            self.fail(file, "is missing")
        except (
            OSError,
            ValueError,
            RecursionError,
            yaml.YAMLError,
            SafetensorError,
            pl.exceptions.PolarsError,
        ) as error:
            self.fail(file, f"can't be read: {type(error).__name__}: {error}")


def vectors(reader: Reader, file: str, column: pl.Series, ids: Sequence[str]) -> Array:
    """A column of lists as one finite matrix, float32 [rows, width].

    Args:
        reader: says what is wrong.
        file: where the column is from.
        column: the lists.
        ids: the model of each row.
    """
    widths = column.list.len()
    if widths.n_unique() != 1 or not widths[0]:
        odd = int((widths != widths.mode().sort()[0]).fill_null(True).arg_max() or 0)
        reader.fail(
            file, f"column {column.name}: vectors are of several widths, as that of {ids[odd]!r}"
        )
    if column.explode().null_count():
        reader.fail(file, f"column {column.name}: a number is missing")
    values = np.asarray(column.to_list(), dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        reader.fail(file, f"column {column.name}: the vector of {ids[bad[0]]!r} is not finite")
    return values
