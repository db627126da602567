"""From stored outputs to rows: measures of every cell, intervals of every method."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from locus.bank import Array
from locus.benchmark.bootstrap import MEASURES, SCHEMA, draw, intervals, resampled, sums
from locus.benchmark.data import BenchmarkData, Models
from locus.benchmark.metrics import accuracy_error, correctness, measures
from locus.benchmark.protocols import Cell, columns_of, people
from locus.benchmark.store import Arrays, Store

log = logging.getLogger("locus.benchmark")


@dataclass(frozen=True)
class Measured:
    """All that was measured, ready to be computed on.

    Attributes:
        data: what it was measured on.
        store: outputs.
        cells: those that are there.
        methods: in the order of the tables.
        default: the one that others are compared with; None if it is not among them.
    """

    data: BenchmarkData
    store: Store
    cells: tuple[Cell, ...]
    methods: tuple[str, ...]
    default: str | None

    def of(self, protocol: str, method: str | None = None, budget: int | None = None) -> list[Cell]:
        """Cells of a protocol, perhaps of one method and one budget, by seed."""
        return [
            cell
            for cell in self.cells
            if cell.protocol == protocol
            and method in (None, cell.method)
            and budget in (None, cell.budget)
        ]

    def placed(self, protocol: str) -> Models:
        """The models that a protocol places."""
        return people(self.data, protocol)[1]

    def outputs(self, protocol: str, method: str, budget: int) -> Iterator[tuple[Cell, Arrays]]:
        """What a method said in each seed."""
        for cell in self.of(protocol, method, budget):
            yield cell, self.store.arrays(cell)


def bank_answers(
    data: BenchmarkData, cell: Cell, arrays: Arrays
) -> tuple[Array, NDArray[np.bool_]]:
    """Scores on the bank queries that were predicted [B, m], and which of them were asked."""
    _, placed = people(data, cell.protocol)
    columns = columns_of(data, cell.protocol, cell.seed)[arrays["bank_columns"]]
    return placed.scores["train"][:, columns], arrays["asked"][:, arrays["bank_columns"]]


def row_of(
    data: BenchmarkData, cell: Cell, facts: dict[str, Any], arrays: Arrays
) -> dict[str, Any]:
    """Facts and measures of one cell.

    Measures on unanswered bank queries have the prefix ``bank_``; they are null where the models
    answered everything.
    """
    answers = people(data, cell.protocol)[1].scores["test"]
    test: Array = arrays["test"]
    row = {**facts, **measures(test, answers)}
    y_bank, asked = bank_answers(data, cell, arrays)
    # Without stored predictions everything known was asked, and no prediction counts.
    p_bank: Array = arrays.get("bank", np.zeros_like(y_bank)).astype(np.float32)
    left = correctness(p_bank, np.where(asked, np.nan, y_bank).astype(np.float32))
    return row | {
        "bank_accuracy": left["accuracy"],
        "bank_auc": left["auc"],
        "bank_bce": left["bce"],
        "overall_error": accuracy_error(test, answers, p_bank, y_bank, asked),
    }


def compute(measured: Measured, rounds: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of all cells, and intervals (`bootstrap.SCHEMA`) of all methods at all budgets."""
    rows: list[dict[str, Any]] = []
    bounds = [pl.DataFrame(schema=SCHEMA)]
    weight_RT = draw(len(measured.data.queries["test"]), rounds)
    situations = list(dict.fromkeys((c.protocol, c.budget) for c in measured.cells))
    for protocol, budget in situations:
        answers = measured.placed(protocol).scores["test"]
        sampled = {}
        for method in measured.methods:
            seeds = []
            for cell, arrays in measured.outputs(protocol, method, budget):
                rows.append(row_of(measured.data, cell, measured.store.facts(cell), arrays))
                seeds.append(resampled(sums(arrays["test"], answers), weight_RT))
            if seeds:
                sampled[method] = {
                    m: np.mean([seed[m] for seed in seeds], axis=0) for m in MEASURES
                }
        bounds.append(intervals(protocol, budget, sampled, measured.default or ""))
        log.info("computed %s, budget %s", protocol, budget or "all")
    frame = pl.DataFrame(rows, infer_schema_length=None)
    # Null, not NaN, for a measure that is not defined (one class only, nothing answered).
    return frame.with_columns(pl.selectors.float().fill_nan(None)), pl.concat(bounds)


def mean_curves(results: pl.DataFrame, protocol: str, columns: Sequence[str]) -> pl.DataFrame:
    """Mean over seeds of some measures, by method and budget."""
    return (
        results.filter(protocol=protocol)
        .group_by("method", "budget", maintain_order=True)
        .agg(pl.col(*columns).mean())
        .sort("budget", maintain_order=True)
    )
