"""Measures the report's curves on a snapshot being built, by the functions behind the commands.

Sets are those of `locus portfolio`, the curve is that of `locus curve`; predictions on queries that
are not for test choose, test queries judge. Intervals are Wilson's, of the share right.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from locus.decisions import PublishedMap
from locus.decisions.curves import curve
from locus.decisions.sets import Unit, choose_set, judge
from locus.portfolio import Portfolio
from locus.publication.content import Array, SnapshotContent
from locus.report.curves import (
    BEST,
    BEST_SINGLE,
    BUDGET,
    COST,
    NAIVE,
    PARAMS,
    PORTFOLIO,
    ROUTED,
    SINGLE,
    Curves,
)
from locus.similarity import wilson

Floats = NDArray[np.float64]

SIZES = 20
"""Largest set of the portfolio curve."""
BUDGETS = 10
_NOTHING = 1e-9

NO_TEST = (
    "No held-out test query was answered by these models, so nothing can be said: ask some "
    "(test_queries in locus.toml) and publish."
)
NO_CHOICE = "There is nothing to choose: the pool has one model."
NO_REFERENCE = (
    "There are no predictions on queries other than test queries to choose sets by: publish with "
    "more reference queries (reference_queries in locus.toml)."
)


def measure(content: SnapshotContent, p_TM: Array, y_TM: Array) -> Curves:
    """Measure the curves, or find out why one can't be.

    Args:
        content: what is published.
        p_TM: predicted P(correct) of the reference queries.
        y_TM: their scores; NaN where missing.
    """
    published = PublishedMap(
        f"of {content.created_at:%Y-%m-%d %H:%M} UTC",
        content.models,
        content.z_Md,
        content.uncertainty_M,
        content.reference.select("query_id", "task", "split"),
        y_TM.T,
        np.arange(len(p_TM)),
        p_TM.astype(np.float64),
    )
    accuracy_M = train_accuracy(content)
    absent = _absent(published)
    portfolio, budget, cost = (pl.DataFrame(schema=schema) for schema in (PORTFOLIO, BUDGET, COST))
    if "portfolio" not in absent:
        portfolio = _portfolio(published, accuracy_M)
    if "budget" not in absent:
        budget = pl.concat(
            _budget(published, accuracy_M, unit, cost_M)
            for unit, cost_M in _units(published).items()
            if _known(cost_M) >= 2
        )
    if "cost" not in absent:
        cost = _cost(published, accuracy_M)
    return Curves(
        portfolio,
        budget,
        cost,
        int((~published.test_T).sum()),
        int(np.isnan(published.price_M).sum()),
        absent,
    )


def train_accuracy(content: SnapshotContent) -> Floats:
    """Mean score of each model on training queries, [M]; NaN where it answered none."""
    known = (
        content.scores.filter(split="train")
        .group_by("model_id")
        .agg(accuracy=pl.col("score").cast(pl.Float64).mean())
    )
    found = content.models.select("model_id").join(
        known, on="model_id", how="left", maintain_order="left"
    )
    return found["accuracy"].fill_null(float("nan")).to_numpy()


def _absent(published: PublishedMap) -> dict[str, str]:
    """Why a curve can't be measured, by its name."""
    answered_M = (~np.isnan(published.observed_TM[published.test_T])).any(axis=0)
    everything = ("portfolio", "budget", "cost")
    if not answered_M.any():
        return dict.fromkeys(everything, NO_TEST)
    if published.models.height < 2:
        return dict.fromkeys(everything, NO_CHOICE)
    absent = {}
    if published.test_T.all():
        absent = dict.fromkeys(("portfolio", "budget"), NO_REFERENCE)
    elif max(_known(cost_M) for cost_M in _units(published).values()) < 2:
        absent["budget"] = (
            "Neither prices nor numbers of parameters are known of two models: put them into "
            "models.yaml and publish."
        )
    priced_M = ~np.isnan(published.price_M)
    if priced_M.sum() < 2:
        absent["cost"] = (
            f"The price of {priced_M.sum() or 'no'} model is known and a curve takes two: put "
            "prices into models.yaml and publish."
        )
    elif not (priced_M & answered_M).any():
        absent["cost"] = "No model whose price is known has answered a held-out test query."
    return absent


def _units(published: PublishedMap) -> dict[Unit, Floats]:
    return {"price": published.price_M, "params": published.params_M}


def _known(cost_M: Floats) -> int:
    return int((~np.isnan(cost_M)).sum())


def _with_interval(frame: pl.DataFrame, prefix: str = "") -> pl.DataFrame:
    """Add ``low`` and ``high`` of the share ``hit1`` of ``n``; NULL where there is no share."""
    share, n = frame[f"{prefix}hit1"], frame[f"{prefix}n"]
    n = pl.Series(np.where(share.is_null(), 0, n.fill_null(0)))
    low, high = wilson(share.fill_null(0) * n, n)
    return frame.with_columns(low.alias(f"{prefix}low"), high.alias(f"{prefix}high"))


def _naive(accuracy_M: Floats, size: int) -> Portfolio:
    """The models that were most often right on training queries; ties go to the lower index."""
    order = np.argsort(-accuracy_M, kind="stable")  # NaN goes last
    chosen = tuple(int(m) for m in order[:size] if not np.isnan(accuracy_M[m]))
    values = tuple(float(accuracy_M[m]) for m in chosen)
    return Portfolio("accuracy", chosen, values, (None,) * len(chosen))


def _portfolio(published: PublishedMap, accuracy_M: Floats) -> pl.DataFrame:
    size = min(SIZES, published.models.height)
    best = choose_set(published, size=size).rows
    # Where nobody adds anything any more, the next would be there for its place in the alphabet.
    sets = {BEST: best.filter(pl.col("value").diff().fill_null(1) > _NOTHING)}
    naive = _naive(accuracy_M, size)
    if naive.chosen:
        sets[NAIVE] = judge(published, naive)
    frame = pl.concat(
        rows.select(
            pl.lit(choice).alias("choice"),
            pl.col("order").alias("size"),
            "model_id",
            "hit1",
            "pool_hit1",
            pl.col("n_test").alias("n"),
            pl.col("params_b_so_far").alias("params_b"),
            pl.col("price_so_far").alias("price"),
        )
        for choice, rows in sets.items()
    )
    return _with_interval(frame).select(*PORTFOLIO)


def _budget(
    published: PublishedMap, accuracy_M: Floats, unit: Unit, cost_M: Floats
) -> pl.DataFrame:
    """Sets at rising budgets, from the cheapest model to what the `SIZES` dearest cost together.

    A set that is expected to answer no more than what a smaller budget buys is left out.
    """
    known = np.sort(cost_M[~np.isnan(cost_M)])
    positive = known[known > 0]
    if not len(positive):
        return pl.DataFrame(schema=BUDGET)
    # A hair more, so that rounding leaves nobody out.
    grid = (1 + 1e-9) * np.geomspace(positive[0], known[-SIZES:].sum(), BUDGETS)
    so_far = f"{'params_b' if unit == PARAMS else 'price'}_so_far"
    rows = []
    reached = -np.inf
    for budget in grid:
        found = choose_set(published, budget=float(budget), unit=unit).rows
        if found.is_empty() or found["value"][-1] <= reached:
            continue
        reached = found["value"][-1]
        last = found.row(-1, named=True)
        within = np.where(cost_M <= budget, accuracy_M, np.nan)
        single = judge(published, one) if (one := _naive(within, 1)).chosen else None
        alone = single.row(0, named=True) if single is not None else {}
        rows.append(
            {
                "unit": unit,
                "budget": float(budget),
                "cost": last[so_far],
                "size": found.height,
                "hit1": last["hit1"],
                "n": last["n_test"],
                "pool_hit1": last["pool_hit1"],
                "model_id": alone.get("model_id"),
                "single_hit1": alone.get("hit1"),
                "single_n": alone.get("n_test"),
            }
        )
    frame = _with_interval(_with_interval(pl.DataFrame(rows, schema_overrides=BUDGET)), "single_")
    return frame.select(*BUDGET)


def _cost(published: PublishedMap, accuracy_M: Floats) -> pl.DataFrame:
    points, _ = curve(published)
    routed = points.select(
        pl.lit(ROUTED).alias("kind"),
        pl.col("lambda").alias("weight"),
        pl.lit(None, pl.String).alias("model_id"),
        "cost",
        pl.col("score").alias("hit1"),
        "n",
    )
    price_M = published.price_M
    y_TM = published.observed_TM[published.test_T]
    best = _naive(np.where(np.isnan(price_M), np.nan, accuracy_M), 1).chosen
    n_M = (~np.isnan(y_TM)).sum(axis=0)
    share_M = np.where(np.isnan(y_TM), 0, y_TM).sum(axis=0) / np.maximum(n_M, 1)
    single = pl.DataFrame(
        {
            "kind": [BEST_SINGLE if m in best else SINGLE for m in range(len(price_M))],
            "weight": None,
            "model_id": published.ids,
            "cost": price_M,
            "hit1": np.where(n_M, share_M, np.nan),
            "n": n_M,
        },
        schema_overrides={"weight": pl.Float64, "n": pl.Int64},
    ).filter(pl.col("cost").is_not_nan() & pl.col("hit1").is_not_nan())
    frame = pl.concat([routed, single], how="vertical_relaxed")
    return _with_interval(frame).select(*COST)
