"""What methods said, kept whole: a pair of files a cell, arrays (npz, no pickles) and facts.

The facts are written last: a cell whose facts are there is whole. Arrays of a cell:

    test            float32 [B, T]   P(correct) on test queries
    asked           bool [B, n]      bank queries that the models were placed from
    bank_columns    int64 [m]        bank queries that were predicted
    bank            float16 [B, m]   P(correct) on them, answered or not; absent if none is left
    vectors         float32 [B, d]   if the method embeds
    vectors_again   float32 [B, d]   placed from a second, disjoint sample
    spread          float16 [B, T]   if the method says how sure it is
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locus.benchmark.protocols import Cell
from locus.durable import whole_file

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Store:
    """Cells of one data set, one encoder and one kind of run (quick or full).

    Attributes:
        folder: where they lie.
        settings: key of a method's settings under a protocol, by (protocol, method).
    """

    folder: Path
    settings: Mapping[tuple[str, str], str]

    def _path(self, cell: Cell) -> Path:
        key = self.settings[cell.protocol, cell.method]
        return self.folder / "cells" / f"{cell.key}-{key}.json"

    def has(self, cell: Cell) -> bool:
        """Whether the cell was measured."""
        path = self._path(cell)
        return path.exists() and path.with_suffix(".npz").exists()

    def put(self, cell: Cell, arrays: Arrays, facts: dict[str, Any]) -> None:
        """Keep a cell."""
        path = self._path(cell)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path.with_suffix(".npz")) as stream:
            np.savez_compressed(stream, allow_pickle=False, **arrays)
        with whole_file(path) as stream:
            stream.write(json.dumps(facts, sort_keys=True).encode())

    def facts(self, cell: Cell) -> dict[str, Any]:
        """Seconds, labels and machine."""
        found: dict[str, Any] = json.loads(self._path(cell).read_text(encoding="utf-8"))
        return found

    def arrays(self, cell: Cell) -> Arrays:
        """What the method said."""
        with np.load(self._path(cell).with_suffix(".npz"), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}

    def forget(self, cell: Cell) -> None:
        """Remove a cell, so that it is measured again."""
        path = self._path(cell)
        path.unlink(missing_ok=True)
        path.with_suffix(".npz").unlink(missing_ok=True)
