"""The Markdown page: what was measured, in a short summary and then in detail."""

from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

import polars as pl

from locus.benchmark.metrics import bars
from locus.benchmark.portfolios import PortfolioFindings, portfolio_section
from locus.benchmark.protocols import ALL, BANK_MOST, P2_QUERIES, people
from locus.benchmark.results import Measured
from locus.benchmark.sections import (
    efficiency_section,
    fallback_section,
    geometry_section,
    stability_section,
)
from locus.benchmark.tables import (
    NONE,
    difference,
    number,
    plain,
    table,
    with_interval,
    with_spread,
)

SUMMARY = {"auc": "AUC", "bce": "BCE", "hit1": "hit@1"}
DETAILED = (("P1", 256), ("P2", 32), ("P3", 32))
"""Protocols and budgets with a table of their own; all others are in results.parquet."""

WHAT = {
    "P1": "Pool models, each with its own random training scores; all other scores are hidden. "
    "Unseen test queries.",
    "P2": f"Learned from the pool's scores on {P2_QUERIES} training queries (the same for all); "
    "held-out models placed from some of these queries. Unseen models, unseen test queries.",
    "P2-all": "As P2, learned from every training score of the pool.",
    "P3": "Learned from every training model, all held-out models placed. Unseen test queries.",
}

_MEANING = (
    ("AUC", "chance that a right answer was given a higher probability than a wrong one"),
    ("BCE", "mean binary cross-entropy in nats; less is better"),
    ("accuracy", "share of answers whose being right was foreseen, at probability 0.5"),
    ("Brier", "mean squared error of the probability; less is better"),
    ("ECE", "gap between predicted and observed rate over 15 bins; less is better"),
    ("hit@k", "mean score of the best of the first k models chosen for each query"),
    ("fit s, answer s", "seconds to learn; seconds to place the models and predict all queries"),
)


@dataclass(frozen=True)
class Findings:
    """Everything computed that the page shows.

    Attributes:
        results: one row a cell.
        bounds: `bootstrap.SCHEMA`.
        efficiency: `efficiency.SCHEMA`.
        geometry: `geometry.SCHEMA`.
        fallback: `fallback.SCHEMA`.
        stability: `stability.SCHEMA`.
        portfolio: portfolios and costs.
        notes: what was left out, capped or failed, and why.
        rounds: bootstrap rounds.
        quick: a quick run.
        figures: links by name of the section.
    """

    results: pl.DataFrame
    bounds: pl.DataFrame
    efficiency: pl.DataFrame
    geometry: pl.DataFrame
    fallback: pl.DataFrame
    stability: pl.DataFrame
    portfolio: PortfolioFindings
    notes: list[str]
    rounds: int
    quick: bool
    figures: dict[str, str] = field(default_factory=dict)

    def figure(self, name: str, alt: str) -> list[str]:
        """A figure's lines, none if it was not drawn."""
        return ["", f"![{alt}]({self.figures[name]})"] if name in self.figures else []


def write_page(measured: Measured, found: Findings) -> str:
    """The whole page."""
    lines = [*_head(measured, found), *_summary(measured, found)]
    lines += _others(measured, found)
    for protocol, budget in DETAILED:
        lines += _detail(measured, found, protocol, budget)
    lines += _bank(measured, found)
    lines += efficiency_section(found.efficiency)
    lines += geometry_section(found.geometry)
    lines += found.figure("geometry", "distance against observed disagreement")
    lines += portfolio_section(found.portfolio)
    lines += found.figure("portfolio", "routing within portfolios of different sizes")
    lines += found.figure("cost", "hit@1 against parameters a query")
    lines += fallback_section(found.fallback)
    lines += stability_section(found.stability)
    return "\n".join(lines) + "\n"


def _head(measured: Measured, found: Findings) -> list[str]:
    data = measured.data
    n = {name: len(queries) for name, queries in data.queries.items()}
    wide = (
        f" P3: {len(data.wide_pool)} and {len(data.wide_held)}."
        if data.wide_pool is not None and data.wide_held is not None
        else ""
    )
    seeds = found.results["seed"].n_unique()
    machines = sorted(found.results["machine"].unique())
    compared = (
        f"Columns “vs {measured.default}” are paired differences to it under the same resampling, "
        "bold where their interval leaves out 0."
        if measured.default
        else ""
    )
    return [
        f"# Benchmark on {plain(data.name)}",
        "",
        f"{len(data.pool)} pool models, {len(data.held)} held-out models.{wide} {n['train']} "
        f"training, {n['val']} validation and {n['test']} test queries. "
        f"Seeds: {', '.join(map(str, range(seeds)))}{' (quick run)' if found.quick else ''}. "
        f"Encoder {plain(data.encoder)}. Data digest {data.digest}.",
        "",
        f"Measured on {'; '.join(machines)}. {_versions()}. Written by `locus benchmark`.",
        "",
        *[f"- {name}: {meaning}." for name, meaning in _MEANING],
        f"- ±: standard deviation over seeds. […]: 95 % interval of the mean over seeds, by "
        f"{found.rounds:,} bootstrap rounds over test queries. {compared}",
        "- Budget: evaluations per model. Validation scores of the pool may steer a method (when "
        "to stop, say) and are not counted. `*-known` reads the benchmark of the test query, which "
        "a router in use doesn't know; all others read its text at most.",
        *[f"- {note}." for note in found.notes],
    ]


def _versions() -> str:
    found = []
    for package in ("locus-map", "numpy", "scipy", "torch"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} unknown")
    return ", ".join(found)


def _budget(budget: int) -> str:
    return "all" if budget == ALL else str(budget)


def _rate(measured: Measured, protocol: str) -> float:
    """Mean training score of the models that are learned from."""
    values = people(measured.data, protocol)[0].scores["train"]
    known = values == values
    return float(values[known].mean()) if known.any() else 0.5


def _summarised(measured: Measured) -> str:
    """The protocol of the summary: onboarding if it was measured."""
    return next((p for p in ("P2", "P2-all", "P1") if measured.of(p)), "P3")


def _summary(measured: Measured, found: Findings) -> list[str]:
    """Method by budget, one table a measure."""
    protocol = _summarised(measured)
    results = found.results.filter(protocol=protocol)
    budgets = sorted(results["budget"].unique(), key=lambda b: b or 10**9)
    answers = measured.placed(protocol).scores["test"]
    trivial = bars(answers, _rate(measured, protocol))
    lines = ["", f"## Summary: {protocol}", "", WHAT[protocol]]
    for measure, title in SUMMARY.items():
        rows = []
        for method in measured.methods:
            cells = [method]
            for budget in budgets:
                values = results.filter(method=method, budget=budget)[measure]
                std = values.std()
                cells.append(with_spread(values.mean(), std))  # type: ignore[arg-type]
            rows.append(cells)
        rows += [[name, *[number(m[measure])] * len(budgets)] for name, m in trivial.items()]
        lines += ["", *table([title, *map(_budget, budgets)], rows)]
    lines += found.figure(protocol, f"{protocol}: measures against budget")
    if protocol == "P2" and "P2-all" in found.figures:
        lines += ["", f"P2-all, the same measures. {WHAT['P2-all']}"]
        lines += found.figure("P2-all", "P2-all: measures against budget")
    return lines


def _others(measured: Measured, found: Findings) -> list[str]:
    """The other protocols in one table each: AUC / BCE / hit@1, mean over seeds."""
    lines = []
    for protocol in WHAT:
        results = found.results.filter(protocol=protocol)
        if protocol == _summarised(measured) or results.is_empty():
            continue
        budgets = sorted(results["budget"].unique(), key=lambda b: b or 10**9)
        rows = []
        for method in measured.methods:
            cells = [method]
            for budget in budgets:
                mean = results.filter(method=method, budget=budget).mean().row(0, named=True)
                values = [number(mean[measure]) for measure in SUMMARY]
                cells.append(NONE if mean["bce"] is None else " / ".join(values))
            if any(cell != NONE for cell in cells[1:]):
                rows.append(cells)
        titles = " / ".join(SUMMARY.values())
        lines += ["", f"## {protocol}: {titles} at each budget", "", WHAT[protocol], ""]
        lines += table(["method", *map(_budget, budgets)], rows)
    return lines


def _detail(measured: Measured, found: Findings, protocol: str, budget: int) -> list[str]:
    if not measured.of(protocol, budget=budget):
        return []
    results = found.results.filter(protocol=protocol, budget=budget)
    bounds = found.bounds.filter(protocol=protocol, budget=budget)
    rows = []
    compared = measured.default if measured.default in set(results["method"]) else None
    mean = {m: results.filter(method=m).mean().row(0, named=True) for m in measured.methods}
    for method in measured.methods:
        mine = mean[method]
        if mine["auc"] is None and mine["bce"] is None:
            continue
        cells = [method]
        for measure in ("auc", "bce", "accuracy", "hit1"):
            bound = bounds.filter(method=method, measure=measure).row(0, named=True)
            cells.append(with_interval(mine[measure], bound["low"], bound["high"]))
            if compared and mine[measure] is not None and mean[compared][measure] is not None:
                gap = mine[measure] - mean[compared][measure]
                cells.append(difference(gap, bound["diff_low"], bound["diff_high"]))
            elif compared:
                cells.append(NONE)
        cells += [number(mine[m]) for m in ("hit3", "hit5", "brier", "ece")]
        cells += [number(mine["fit_s"], 2), number(mine["place_s"] + mine["predict_s"], 2)]
        rows.append(cells)
    for name, values in bars(
        measured.placed(protocol).scores["test"], _rate(measured, protocol)
    ).items():
        cells = [name]
        for measure in ("auc", "bce", "accuracy", "hit1"):
            cells += [number(values[measure]), *([NONE] if compared else [])]
        cells += [number(values[m]) for m in ("hit3", "hit5", "brier", "ece")]
        rows.append([*cells, NONE, NONE])
    versus = [f"vs {compared}"] if compared else []
    head = ["method"]
    for title in ("AUC", "BCE", "accuracy", "hit@1"):
        head += [title, *versus]
    head += ["hit@3", "hit@5", "Brier", "ECE", "fit s", "answer s"]
    placed, learned = (
        results[c].sum() / results.height for c in ("labels_placed", "labels_learned")
    )
    return [
        "",
        f"## {protocol}, budget {_budget(budget)}",
        "",
        f"{WHAT[protocol]} Labels learned from: {learned:,.0f}; placed from: {placed:,.0f}.",
        "",
        *table(head, rows),
    ]


def _bank(measured: Measured, found: Findings) -> list[str]:
    """Queries of the bank that the placed model has not answered."""
    # One table: the other protocols are in results.parquet.
    protocol = next((p for p in ("P2-all", "P2") if measured.of(p)), "")
    results = found.results.filter(protocol=protocol).drop_nulls("bank_bce")
    budgets = [b for b in (8, 32, 128) if b in set(results["budget"])]
    if not budgets:
        return []
    head, rows = ["method"], []
    for budget in budgets:
        head += [f"{budget}: accuracy", "AUC", "BCE", "overall"]
    for method in measured.methods:
        cells = [method]
        for budget in budgets:
            mean = results.filter(method=method, budget=budget).mean().row(0, named=True)
            names = ("bank_accuracy", "bank_auc", "bank_bce", "overall_error")
            cells += [number(mean[name]) for name in names]
        rows.append(cells)
    return [
        "",
        f"## {protocol}: bank queries that the new model has not answered",
        "",
        "Other models have answered these; a method may use that. Overall: mean absolute error of "
        "a model's predicted mean score over bank and test queries, answered ones counting as they "
        f"are. At most {BANK_MOST:,} bank queries are asked for.",
        "",
        *table(head, rows),
        *found.figure("bank", "unanswered bank queries: measures against budget"),
    ]
