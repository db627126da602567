"""Sample efficiency: how many evaluations reach what the published method reaches at 256."""

from collections.abc import Mapping

import numpy as np
import polars as pl

REFERENCE = "locus-published"
REFERENCE_BUDGET = 256
SIGN = {"auc": 1.0, "bce": -1.0}
"""Measures compared, and whether more is better."""

SCHEMA = {
    "protocol": pl.String,
    "measure": pl.String,
    "target": pl.Float64,
    "method": pl.String,
    "evaluations": pl.Float64,
    "at_first": pl.Boolean,
}


def needed(curve: Mapping[int, float], target: float, sign: float) -> tuple[float | None, bool]:
    """Evaluations at which a curve first reaches a target, linear in their logarithm.

    Args:
        curve: measure by budget.
        target: what has to be reached.
        sign: 1 if more is better, -1 if less is.

    Returns:
        Evaluations, None if the target is not reached; and whether the lowest budget reaches it
        already, so that fewer might do.
    """
    budgets = sorted(b for b, value in curve.items() if np.isfinite(value))
    if not budgets:
        return None, False
    gaps = [sign * (curve[b] - target) for b in budgets]
    if gaps[0] >= 0:
        return float(budgets[0]), True
    for at in range(1, len(budgets)):
        if gaps[at] >= 0:
            share = -gaps[at - 1] / (gaps[at] - gaps[at - 1])
            low, high = np.log(budgets[at - 1]), np.log(budgets[at])
            return float(np.exp(low + share * (high - low))), False
    return None, False


def efficiency(results: pl.DataFrame) -> pl.DataFrame:
    """Evaluations needed, of every method, under P2 and P2-all.

    Args:
        results: rows with `protocol`, `method`, `budget`, `seed` and the measures of `SIGN`.

    Returns:
        Rows of `SCHEMA`; ``evaluations`` is null where the target is not reached. Empty where the
        reference was not measured at 256.
    """
    rows = []
    means = results.group_by("protocol", "method", "budget").agg(pl.col(*SIGN).mean())
    for protocol in ("P2", "P2-all"):
        found = means.filter(protocol=protocol)
        goal = found.filter(method=REFERENCE, budget=REFERENCE_BUDGET)
        if goal.is_empty():
            continue
        for measure, sign in SIGN.items():
            target = float(goal[measure][0])
            for method in results["method"].unique(maintain_order=True):
                mine = found.filter(method=method)
                curve = dict(mine.select("budget", measure).iter_rows())
                evaluations, at_first = needed(curve, target, sign)
                rows.append((protocol, measure, target, method, evaluations, at_first))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")
