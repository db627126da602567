"""`locus benchmark`: measure what is missing, then compute tables and figures from what is kept."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from locus.benchmark import figures
from locus.benchmark.bootstrap import ROUNDS
from locus.benchmark.data import BenchmarkData
from locus.benchmark.efficiency import efficiency
from locus.benchmark.fallback import fallback
from locus.benchmark.geometry import PLACES, disagreement, euclidean, geometry
from locus.benchmark.measure import Bench, measure
from locus.benchmark.methods import (
    DEFAULT,
    QUICK_STEPS,
    SLOW,
    WIDE_LEFT_OUT,
    UnknownMethodError,
    caps_of,
    makers_by_name,
    settings_key,
)
from locus.benchmark.page import Findings, write_page
from locus.benchmark.portfolios import PortfolioFindings, portfolios
from locus.benchmark.protocols import BUDGETS, Job, ladders, plan_jobs
from locus.benchmark.results import Measured, compute, mean_curves
from locus.benchmark.stability import stability
from locus.benchmark.store import Store
from locus.benchmark.tables import plain
from locus.durable import whole_file
from locus.ids import short_hash

log = logging.getLogger("locus.benchmark")

_CURVES = {"auc": "AUC", "bce": "BCE", "hit1": "hit@1"}
_BANK_CURVES = {"bank_auc": "AUC", "bank_bce": "BCE", "overall_error": "error of overall accuracy"}


class UnknownProtocolError(ValueError):
    """A protocol that isn't there; the message lists those that are."""


class NothingMeasuredError(RuntimeError):
    """No method could be measured; the message names the first failure."""


@dataclass(frozen=True)
class Options:
    """What is measured, and how.

    Attributes:
        methods: names of methods; empty takes all (in a quick run all but `methods.SLOW`).
        seeds: seeds of every cell; one if ``quick``.
        quick: few budgets, one seed, short training of the trained peers, no P3.
        workers: processes that measure.
        again: methods whose kept outputs are dropped first, because their code has changed.
        caps: most optimiser steps of trained methods, by name.
        rounds: bootstrap rounds.
        protocols: protocols to measure; empty takes all. The page shows all that is kept.
        docs: Markdown file that the page is also written to, with its figures beside it in
            ``images/benchmark/``.
    """

    methods: tuple[str, ...] = ()
    seeds: int = 5
    quick: bool = False
    workers: int = 1
    again: tuple[str, ...] = ()
    caps: Mapping[str, int] = field(default_factory=dict)
    rounds: int = ROUNDS
    protocols: tuple[str, ...] = ()
    docs: Path | None = None


@dataclass(frozen=True)
class Report:
    """Where everything lies, and what failed.

    Attributes:
        page: the Markdown page; results.parquet and intervals.parquet lie beside it.
        failed: reasons by "protocol, method, seed".
    """

    page: Path
    failed: dict[str, str]


def run(data: BenchmarkData, out: Path, options: Options | None = None) -> Report:
    """Measure every cell that is missing, and write page, tables and figures.

    What a method said is kept under a folder named by data, encoder and kind of run, one cell a
    pair of files, keyed by the method's settings: a run that was stopped goes on where it was, and
    one with nothing missing only computes.

    Args:
        data: what to measure on.
        out: folder for results.
        options: what is measured, and how.

    Raises:
        UnknownMethodError: a method that isn't there.
        NothingMeasuredError: no cell could be measured.
    """
    options = options or Options()
    methods = _methods(options)
    ladder, notes = ladders(data, options.quick)
    keys = {
        (protocol, method): settings_key(makers[method]())
        for protocol in ladder
        for makers in [makers_by_name(options.quick, caps_of(protocol, options.caps))]
        for method in methods
    }
    kind = "quick" if options.quick else "full"
    folder = out / f"{data.name}-{data.digest}-{short_hash(data.encoder, 6)}-{kind}"
    store = Store(folder, keys)
    jobs = [
        job
        for job in plan_jobs(ladder, methods, 1 if options.quick else options.seeds)
        if not (job.protocol == "P3" and job.method in WIDE_LEFT_OUT)
    ]
    failed = _measure(Bench(data, store, options.quick, options.caps), jobs, options)
    cells = tuple(cell for job in jobs for cell in job.cells if store.has(cell))
    if not cells:
        raise NothingMeasuredError(
            f"nothing was measured on {data.name}: "
            + next(iter(failed.values()), "no protocol fits this data (see the notes above)")
        )
    notes = [*data.notes, *notes, *_about_methods(methods, ladder, options)]
    notes += [plain(f"{what} failed: {why}") for what, why in failed.items()]
    default = DEFAULT if DEFAULT in methods else methods[0]
    have = {cell.method for cell in cells}
    shown = tuple(m for m in methods if m in have)
    measured = Measured(data, store, cells, shown, default if default in have else None)
    page = _write(measured, folder, notes, options)
    return Report(page, failed)


def _methods(options: Options) -> list[str]:
    """Names in the order of the tables: the default first.

    Raises:
        UnknownMethodError: a method that isn't there.
        UnknownProtocolError: a protocol that isn't there.
    """
    for protocol in options.protocols:
        if protocol not in BUDGETS:
            raise UnknownProtocolError(f"no protocol {protocol!r}; there are {', '.join(BUDGETS)}")
    known = list(makers_by_name(options.quick, options.caps))
    for name in (*options.methods, *options.again):
        if name not in known:
            raise UnknownMethodError(f"no method {name!r}; there are {', '.join(known)}")
    wanted = options.methods or [m for m in known if not (options.quick and m in SLOW)]
    return [name for name in known if name in wanted]


def _measure(bench: Bench, jobs: list[Job], options: Options) -> dict[str, str]:
    jobs = [job for job in jobs if job.protocol in (options.protocols or BUDGETS)]
    for job in jobs:
        if job.method in options.again:
            for cell in job.cells:
                bench.store.forget(cell)
    missing = [job for job in jobs if not all(map(bench.store.has, job.cells))]
    n_cells = sum(len(job.cells) for job in jobs)
    log.info(
        "%d of %d jobs (%d cells) are measured already",
        len(jobs) - len(missing),
        len(jobs),
        n_cells,
    )
    failed = measure(bench, missing, options.workers) if missing else {}
    return {f"{j.protocol}, {j.method}, seed {j.seed}": why for j, why in failed.items()}


def _about_methods(
    methods: Sequence[str], ladder: Mapping[str, list[int]], options: Options
) -> list[str]:
    """Which methods are capped or left out, and why."""
    caps = {**(QUICK_STEPS if options.quick else {}), **options.caps}
    notes = [
        f"`{method}` is capped at {caps[method]:,} optimiser steps"
        for method in methods
        if method in caps
    ]
    if options.quick and not options.methods:
        notes.append(f"{', '.join(SLOW)} is left out of a quick run: name it to have it")
    if "P3" in ladder:
        wide = caps_of("P3", options.caps)
        notes += [
            f"P3: `{method}` is capped at {wide[method]:,} optimiser steps"
            for method in methods
            if method in wide and method not in options.caps
        ]
        notes += [
            f"P3: `{method}` is left out, {why}"
            for method, why in WIDE_LEFT_OUT.items()
            if method in methods
        ]
    return notes


def _write(measured: Measured, folder: Path, notes: list[str], options: Options) -> Path:
    results, bounds = compute(measured, options.rounds)
    for name, frame in (("results", results), ("intervals", bounds)):
        with whole_file(folder / f"{name}.parquet") as stream:
            frame.write_parquet(stream)
    portfolio = portfolios(measured)
    images = folder / "images"
    drawn = _draw(measured, results, portfolio, images) if figures.available() else {}
    found = Findings(
        results,
        bounds,
        efficiency(results),
        geometry(measured),
        fallback(measured),
        stability(measured),
        portfolio,
        notes,
        options.rounds,
        options.quick,
        {name: f"images/{path.name}" for name, path in drawn.items()},
    )
    page = folder / "results.md"
    _text(page, write_page(measured, found))
    if options.docs is not None:
        _to_docs(measured, found, drawn, options.docs)
    return page


def _to_docs(measured: Measured, found: Findings, drawn: Mapping[str, Path], docs: Path) -> None:
    """The page once more, with copies of its figures under ``images/benchmark/``."""
    links = {}
    for name, path in drawn.items():
        link = f"images/benchmark/{short_hash(measured.data.name, 6)}-{path.name}"
        (docs.parent / link).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, docs.parent / link)
        links[name] = link
    docs.parent.mkdir(parents=True, exist_ok=True)
    _text(docs, write_page(measured, replace(found, figures=links)))


def _text(path: Path, text: str) -> None:
    with whole_file(path) as stream:
        stream.write(text.encode())


def _draw(
    measured: Measured, results: pl.DataFrame, portfolio: PortfolioFindings, folder: Path
) -> dict[str, Path]:
    """Figures by the name of their section."""
    drawn = {}
    methods = measured.methods
    for protocol in ("P2", "P2-all"):
        frame = mean_curves(results, protocol, list(_CURVES))
        if frame["budget"].n_unique() > 1:
            path = folder / f"{protocol.lower()}.png"
            drawn[protocol] = figures.curves(frame, _CURVES, methods, "evaluations", path)
    frame = mean_curves(results, "P2-all", list(_BANK_CURVES)).drop_nulls("bank_auc")
    if frame["budget"].n_unique() > 1:
        path = folder / "bank.png"
        drawn["bank"] = figures.curves(frame, _BANK_CURVES, methods, "evaluations", path)
    panels = {}
    for protocol, budget, pairs in PLACES:
        outputs = next(measured.outputs(protocol, measured.default or methods[0], budget), None)
        if outputs is None or "vectors" not in outputs[1]:
            continue
        vectors = outputs[1]["vectors"]
        observed = disagreement(measured.placed(protocol).scores["test"])
        upper = pl.Series(range(len(vectors))).to_numpy()
        keep = upper[:, None] < upper[None]
        panels[f"{pairs} pairs"] = (euclidean(vectors)[keep], observed[keep])
    if panels:
        drawn["geometry"] = figures.scatter(
            panels, "Euclidean distance", "observed disagreement", folder / "geometry.png"
        )
    if portfolio.sizes.height:
        frame = portfolio.sizes.select("hit1", budget="models", method="choice")
        path = folder / "portfolio.png"
        drawn["portfolio"] = figures.curves(
            frame,
            {"hit1": "hit@1 within the set"},
            list(frame["method"].unique(maintain_order=True)),
            "models",
            path,
        )
    if portfolio.curves["method"].n_unique() > 0:
        path = folder / "cost.png"
        drawn["cost"] = figures.curves(
            portfolio.curves.rename({"params_b": "budget"}),
            {"hit1": "hit@1 of cost-aware routing"},
            methods,
            "billions of parameters a query",
            path,
        )
    return drawn
