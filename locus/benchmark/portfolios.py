"""Portfolios and costs: a few models, or a few billion parameters, that serve like the pool.

All on the pool under P1 with all scores. Sets are chosen from embeddings, from training scores, or
from predictions for the texts of the test queries, never from test answers.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from locus.bank import Array
from locus.benchmark.geometry import euclidean
from locus.benchmark.protocols import ALL
from locus.benchmark.results import Measured
from locus.benchmark.store import Arrays
from locus.benchmark.tables import number, table
from locus.portfolio import (
    coverage_per_cost,
    greedy_best_of_set,
    k_center,
    k_medoids,
    portfolio_curve,
    random_curve,
)
from locus.routing.policy import cost_quality_curve, hull_score

SIZES = (1, 3, 5, 10, 15)
BUDGETS = (10, 25, 50, 150, 300)
"""Billions of parameters that a set may have together."""
# Right answers that a billion parameters are worth: from free to out of the question.
_WEIGHTS = (0.0, *np.geomspace(1e-5, 1, 26))

SCHEMA = {"choice": pl.String, "models": pl.Int64, "hit1": pl.Float64, "pool_hit1": pl.Float64}
BUDGET_SCHEMA = {
    "budget": pl.Int64,
    "models": pl.Float64,
    "params_b": pl.Float64,
    "hit1": pl.Float64,
    "single": pl.Float64,
}
COST_SCHEMA = {"method": pl.String, "params_b": pl.Float64, "hit1": pl.Float64}


@dataclass(frozen=True)
class PortfolioFindings:
    """What was found.

    Attributes:
        sizes: `SCHEMA`: hit@1 of routing within sets of a size, by how the set was chosen.
        budgets: `BUDGET_SCHEMA`: sets under a budget of parameters, by the default method.
        curves: `COST_SCHEMA`: corners of the curve of cost-aware routing.
        area: mean hit@1 along that curve by method, between costs that all methods reach.
        costs: the two costs, in billions of parameters a query.
        unknown: pool models whose parameters are not known.
    """

    sizes: pl.DataFrame
    budgets: pl.DataFrame
    curves: pl.DataFrame
    area: dict[str, float]
    costs: tuple[float, float]
    unknown: int


def portfolios(measured: Measured) -> PortfolioFindings:
    """Compute everything; frames are empty where the data has nothing to compute from."""
    curves, area, costs = _cost_quality(measured)
    return PortfolioFindings(
        _sizes(measured),
        _budgets(measured),
        curves,
        area,
        costs,
        int(np.isnan(measured.data.pool.params_b).sum()),
    )


def _first(measured: Measured) -> str:
    return measured.default or measured.methods[0]


def _said(measured: Measured, method: str) -> Iterator[tuple[int, Arrays, Array, Array]]:
    """Seed, arrays, p_TM and y_TM of a method's cells."""
    y_TM = measured.data.pool.scores["test"].T
    for cell, arrays in measured.outputs("P1", method, ALL):
        yield cell.seed, arrays, arrays["test"].T, y_TM


def _training_means(measured: Measured) -> Array:
    train = measured.data.pool.scores["train"]
    known = ~np.isnan(train)
    means: Array = np.where(known, train, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return means


def _sizes(measured: Measured) -> pl.DataFrame:
    k = min(max(SIZES), len(measured.data.pool))
    frames = [pl.DataFrame(schema=SCHEMA)]

    def add(choice: str, curve: pl.DataFrame) -> None:
        missing = [pl.lit(None).alias("pool_hit1")] if "pool_hit1" not in curve.columns else []
        frames.append(
            curve.with_columns(pl.lit(choice).alias("choice"), *missing)
            .select("choice", pl.col("size").alias("models"), "hit1", "pool_hit1")
            .cast(SCHEMA)  # type: ignore[arg-type]
        )

    ranking = np.argsort(-_training_means(measured), kind="stable")[:k].tolist()
    for method in measured.methods:
        for seed, arrays, p_TM, y_TM in _said(measured, method):
            first = method == _first(measured)
            if "vectors" in arrays:
                distance = euclidean(arrays["vectors"])
                center, medoids = k_center(distance, k), k_medoids(distance, k)
                add(f"{method}, k-center", portfolio_curve(center.chosen, p_TM, y_TM))
                add(f"{method}, k-medoids", portfolio_curve(medoids.chosen, p_TM, y_TM))
            if "vectors" in arrays or first:
                greedy = greedy_best_of_set(p_TM, k)
                add(f"{method}, greedy", portfolio_curve(greedy.chosen, p_TM, y_TM))
            if first:
                add(f"{method}, best training means", portfolio_curve(ranking, p_TM, y_TM))
                add(f"{method}, random", random_curve(k, p_TM, y_TM, seed=seed))
    return (
        pl.concat(frames)
        .group_by("choice", "models", maintain_order=True)
        .agg(pl.col("hit1", "pool_hit1").mean())
    )


def _budgets(measured: Measured) -> pl.DataFrame:
    params = measured.data.pool.params_b
    if np.isnan(params).all():
        return pl.DataFrame(schema=BUDGET_SCHEMA)
    means = _training_means(measured)
    rows = []
    for _, _, p_TM, y_TM in _said(measured, _first(measured)):
        for budget in BUDGETS:
            affordable = np.flatnonzero(params <= budget)
            if not len(affordable) or budget > 2 * np.nansum(params):
                continue
            found = coverage_per_cost(p_TM, params, budget)
            if not found.chosen:
                continue
            last = portfolio_curve(found.chosen, p_TM, y_TM, params).row(-1, named=True)
            best = int(affordable[means[affordable].argmax()])
            single = portfolio_curve([best], p_TM, y_TM).row(0, named=True)
            rows.append((budget, len(found.chosen), last["cost"], last["hit1"], single["hit1"]))
    frame = pl.DataFrame(rows, schema=BUDGET_SCHEMA, orient="row")
    return frame.group_by("budget", maintain_order=True).mean()


def _cost_quality(
    measured: Measured,
) -> tuple[pl.DataFrame, dict[str, float], tuple[float, float]]:
    params = measured.data.pool.params_b
    answered = ~np.isnan(measured.data.pool.scores["test"]).all(axis=1)
    empty = pl.DataFrame(schema=COST_SCHEMA)
    if (answered & ~np.isnan(params)).sum() < 2:
        return empty, {}, (0.0, 0.0)
    curves: dict[str, list[pl.DataFrame]] = {}
    for method in measured.methods:
        for _, _, p_TM, y_TM in _said(measured, method):
            curve = cost_quality_curve(p_TM, y_TM, params, _WEIGHTS)
            curves.setdefault(method, []).append(curve)
    corners = [c.filter("on_hull") for found in curves.values() for c in found]
    if not corners:
        return empty, {}, (0.0, 0.0)
    low = max(float(c["cost"].min()) for c in corners)  # type: ignore[arg-type]
    high = max(low, *(float(c["cost"].max()) for c in corners))  # type: ignore[arg-type]
    area = {
        method: float(np.mean([hull_score(c, low, high) for c in found]))
        for method, found in curves.items()
    }
    # The first seed's corners: a mean of curves would have none.
    shown = [
        found[0].filter("on_hull").select(method=pl.lit(m), params_b="cost", hit1="score")
        for m, found in curves.items()
    ]
    return pl.concat(shown).cast(COST_SCHEMA), area, (low, high)  # type: ignore[arg-type]


def portfolio_section(found: PortfolioFindings) -> list[str]:
    """The section's lines; none if nothing was measured under P1 with all scores."""
    if found.sizes.is_empty():
        return []
    sizes = [k for k in SIZES if k in set(found.sizes["models"])]
    rows = []
    for choice in found.sizes["choice"].unique(maintain_order=True):
        mine = found.sizes.filter(choice=choice)
        hits = dict(mine.select("models", "hit1").iter_rows())
        rows.append([choice, *(number(hits.get(k)) for k in sizes), number(mine["pool_hit1"][-1])])
    lines = [
        "",
        "## Portfolios",
        "",
        "Pool, P1 with all scores. hit@1 of routing, by the method named, within a set of models. "
        "k-center and k-medoids: by distance of embeddings. Greedy: by predictions for the texts "
        "of the test queries. Random: mean of 100 draws. Pool: routing over all models.",
        "",
        *table(["method, set", *(f"{k} model{'s' * (k > 1)}" for k in sizes), "pool"], rows),
    ]
    unknown = f" {found.unknown} models of unknown size can't be chosen." if found.unknown else ""
    if not found.budgets.is_empty():
        lines += [
            "",
            "Sets under a budget of parameters (billions), by coverage gained per cost; single: "
            f"the best affordable model by training scores.{unknown}",
            "",
            *table(
                ["budget", "models", "parameters", "hit@1", "single hit@1"],
                [
                    [
                        f"{row['budget']} B",
                        number(row["models"], 1),
                        f"{number(row['params_b'], 1)} B",
                        number(row["hit1"]),
                        number(row["single"]),
                    ]
                    for row in found.budgets.iter_rows(named=True)
                ],
            ),
        ]
    if found.area:
        low, high = found.costs
        lines += [
            "",
            "Cost-aware routing, a query costing the parameters of the model that answers: mean "
            f"hit@1 along the curve between {low:.1f} B and {high:.1f} B a query.",
            "",
            *table(list(found.area), [[number(value) for value in found.area.values()]]),
        ]
    return lines
