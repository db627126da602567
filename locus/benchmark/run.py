"""`locus benchmark`: measure what is missing, then write the tables."""

import json
import logging
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from locus.bank import Method
from locus.benchmark.data import BenchmarkData
from locus.benchmark.methods import SLOW, makers_by_name
from locus.benchmark.metrics import hit_at
from locus.benchmark.protocols import P1_BUDGETS, P2_BUDGETS, Cell, Row, run_cells
from locus.durable import whole_file
from locus.ids import short_hash

log = logging.getLogger("locus.benchmark")

SHOWN = ("auc", "bce", "accuracy", "ece", "hit1", "hit3", "hit5", "accuracy_error")
QUICK_BUDGETS = {"P1": (256,), "P2": (8, 64, 256)}


class UnknownMethodError(ValueError):
    """A method that isn't there; the message lists those that are."""


def plan(methods: Sequence[str], seeds: int, quick: bool) -> list[Cell]:
    """All cells of a benchmark."""
    budgets = QUICK_BUDGETS if quick else {"P1": P1_BUDGETS, "P2": P2_BUDGETS}
    return [
        Cell(protocol, method, budget, seed)
        for method in methods
        for protocol, ladder in budgets.items()
        for budget in ladder
        for seed in range(seeds)
    ]


def run(
    data: BenchmarkData,
    out: Path,
    methods: Sequence[str] | None = None,
    seeds: int = 5,
    quick: bool = False,
) -> Path:
    """Measure every cell that has no result yet, and write the tables.

    A cell is one file, written whole, under a folder named by data and encoder; a run that was
    stopped goes on where it was.

    Args:
        data: what to measure on.
        out: folder for results.
        methods: names of methods; None takes all.
        seeds: seeds of every cell; one if ``quick``.
        quick: few budgets, one seed, short training of the trained peers; the slow ones
            (`methods.SLOW`) only if they are named.

    Returns:
        The Markdown file with the tables; ``results.parquet`` lies beside it.

    Raises:
        UnknownMethodError: a method that isn't there.
    """
    makers = makers_by_name(quick)
    chosen = list(methods or [name for name in makers if not (quick and name in SLOW)])
    unknown = sorted(set(chosen) - set(makers))
    if unknown:
        raise UnknownMethodError(f"no method {unknown[0]!r}; there are {', '.join(makers)}")
    kind = "quick" if quick else "full"
    folder = out / f"{data.name}-{data.digest}-{short_hash(data.encoder, 6)}-{kind}"
    cells = plan(chosen, 1 if quick else seeds, quick)
    for name in chosen:
        mine = [c for c in cells if c.method == name and not _file(folder, c).exists()]
        _measure(data, folder, makers[name], name, mine)
    rows = [json.loads(_file(folder, cell).read_text()) for cell in cells]
    frame = pl.DataFrame(rows)
    frame.write_parquet(folder / "results.parquet")
    page = folder / "results.md"
    page.write_text(_page(data, frame, quick), encoding="utf-8")
    return page


def _measure(
    data: BenchmarkData, folder: Path, make: Callable[[], Method], name: str, cells: list[Cell]
) -> None:
    for done, (cell, row) in enumerate(run_cells(data, make, cells), start=1):
        _write(_file(folder, cell), row)
        log.info(
            "%s %d of %d: %s budget %d seed %d, AUC %.3f, BCE %.3f, hit@1 %.3f",
            name, done, len(cells), cell.protocol, cell.budget, cell.seed,
            row["auc"], row["bce"], row["hit1"],
        )  # fmt: skip


def _file(folder: Path, cell: Cell) -> Path:
    return folder / "cells" / f"{cell.key}.json"


def _write(path: Path, row: Row) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as stream:
        stream.write(json.dumps(row).encode())


def _page(data: BenchmarkData, frame: pl.DataFrame, quick: bool) -> str:
    """The tables in Markdown: mean over seeds, and spread where there is more than one."""
    pool, held = data.pool["test"], data.held["test"]
    lines = [
        f"# Benchmark on {data.name}",
        "",
        f"{len(pool)} training models, {len(held)} held-out models, {len(data.queries['train'])} "
        f"train, {len(data.queries['val'])} val and {len(data.queries['test'])} test queries; "
        f"encoder {data.encoder}; data {data.digest}; {frame['seed'].n_unique()} seed(s)"
        f"{', quick' if quick else ''}. {platform.machine()}, {os.cpu_count()} cores.",
        "",
        "Figures are means over seeds, with the standard deviation behind ±. hit@k: mean score of "
        "the best of the first k choices. P1: pool models with a budget of training scores each. "
        "P2: held-out models placed from a budget of scores each. Budget 0: all.",
    ]
    for protocol, answers in (("P1", pool), ("P2", held)):
        lines += ["", f"## {protocol}, unseen queries", "", _trivial(answers), ""]
        lines += _table(frame.filter(protocol=protocol))
    return "\n".join(lines) + "\n"


def _trivial(answers: Any) -> str:
    means = np.nanmean(answers, axis=1)
    single = np.broadcast_to(means[:, None], answers.shape)
    return (
        f"Bars: random {np.nanmean(answers):.3f}, best single in hindsight "
        f"{hit_at(single, answers, 1):.3f}, oracle {hit_at(answers, answers, 1):.3f} (hit@1)."
    )


def _table(frame: pl.DataFrame) -> list[str]:
    grouped = frame.group_by("budget", "method").agg(
        *(pl.col(m).mean().alias(m) for m in (*SHOWN, "fit_s")),
        *(pl.col(m).std().alias(f"{m}_std") for m in SHOWN),
    )
    head = ["budget", "method", *SHOWN, "fit s"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in grouped.sort("budget", "bce").iter_rows(named=True):
        cells = [f"{row[m]:.3f}{_spread(row[f'{m}_std'])}" for m in SHOWN]
        lines.append(
            f"| {row['budget']} | {row['method']} | {' | '.join(cells)} | {row['fit_s']:.1f} |"
        )
    return lines


def _spread(std: float | None) -> str:
    return "" if std is None else f" ± {std:.3f}"
