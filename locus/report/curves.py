"""Three curves: how few models cover how much, what a budget buys, and what quality costs.

Where they come from: `locus.publication.curves`. A curve that can't be measured comes without rows
and with the reason, which the page says in its place.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from locus.report.digits import significant, thousandths
from locus.report.tidy import COUNT, REAL, TEXT, ReportDataError, tidy, visible

BEST, NAIVE = "best", "naive"
ROUTED, SINGLE, BEST_SINGLE = "routed", "single", "best single"
PRICE, PARAMS = "price", "params"

_SHARE: dict[str, pl.DataType] = {"hit1": REAL, "low": REAL, "high": REAL, "n": COUNT}

PORTFOLIO: dict[str, pl.DataType] = {
    "choice": TEXT,
    "size": COUNT,
    "model_id": TEXT,
    **_SHARE,
    "pool_hit1": REAL,
    "params_b": REAL,
    "price": REAL,
}
BUDGET: dict[str, pl.DataType] = {
    "unit": TEXT,
    "budget": REAL,
    "cost": REAL,
    "size": COUNT,
    **_SHARE,
    "pool_hit1": REAL,
    "model_id": TEXT,
    **{f"single_{name}": kind for name, kind in _SHARE.items()},
}
COST: dict[str, pl.DataType] = {
    "kind": TEXT,
    "weight": REAL,
    "model_id": TEXT,
    "cost": REAL,
    **_SHARE,
}

NOT_MEASURED = "This was not measured for this snapshot."
NEAR = 0.01
"""A set serves like the whole pool when its share is at most this much lower."""

_SPOKEN_OF = 5


def _empty(schema: dict[str, pl.DataType]) -> pl.DataFrame:
    return pl.DataFrame(schema=schema)


@dataclass(frozen=True)
class Curves:
    """Shares of held-out queries that were answered right, with 95 % intervals.

    Attributes:
        portfolio: `PORTFOLIO`: for the ``best`` set, which ends where no model adds anything, and
            the ``naive`` one, in the order of choice, the model that joins, and then the share
            within the set and within the whole pool (both on the ``n`` queries that somebody of the
            set answered), and what the set has together: billions of parameters and USD per Mtok,
            NULL from the first unknown one on.
        budget: `BUDGET`: for a ``budget`` in USD per Mtok (``price``) or billions of parameters
            (``params``) the set it buys, what that costs, and the best single model it buys.
        cost: `COST`: ``routed`` with a growing ``weight`` of money, and every ``single`` model,
            the ``best single`` one among them; ``cost`` is the mean price of who answers.
        n_chosen_on: queries whose predictions chose the sets; none of them is held out.
        without_price: models whose price is unknown.
        absent: for ``portfolio``, ``budget`` and ``cost``, why there are no rows.
    """

    portfolio: pl.DataFrame = field(default_factory=lambda: _empty(PORTFOLIO))
    budget: pl.DataFrame = field(default_factory=lambda: _empty(BUDGET))
    cost: pl.DataFrame = field(default_factory=lambda: _empty(COST))
    n_chosen_on: int = 0
    without_price: int = 0
    absent: Mapping[str, str] = field(default_factory=dict)

    def checked(self, known: pl.Series) -> "Curves":
        """A copy with its frames as described.

        Args:
            known: ids of the page's models.

        Raises:
            ReportDataError: a frame lacks a column, has one of another type, or names a model that
                the page doesn't have.
        """
        frames = {}
        for name, schema in (("portfolio", PORTFOLIO), ("budget", BUDGET), ("cost", COST)):
            frame = tidy(getattr(self, name), schema, f"curves.{name}")
            stray = frame["model_id"].drop_nulls()
            stray = stray.filter(~stray.is_in(known.implode()))
            if len(stray):
                raise ReportDataError(
                    f"curves.{name}.model_id names {stray[0]!r}, which is not in models; "
                    "add it there or leave its rows out"
                )
            frames[name] = frame
        return Curves(
            **frames,
            n_chosen_on=self.n_chosen_on,
            without_price=self.without_price,
            absent={name: visible(why) for name, why in self.absent.items()},
        )

    @property
    def units(self) -> list[str]:
        """Units of which there is a budget curve, money first."""
        there = set(self.budget["unit"])
        return [unit for unit in (PRICE, PARAMS) if unit in there]


def pack_curves(curves: Curves, at: pl.DataFrame) -> dict[str, Any]:
    """Rows of checked `Curves` for the page's script; shares in thousandths, models by position.

    Args:
        curves: what to pack.
        at: model_id and its position ``at`` in the page's list.
    """

    def rows(frame: pl.DataFrame, *columns: str) -> list[list[object]]:
        placed = frame.join(at, on="model_id", how="left", maintain_order="left")
        packed = [
            placed["at"].to_list()
            if name == "model_id"
            else thousandths(placed[name])
            if name.endswith(("hit1", "low", "high"))
            else [significant(value) for value in placed[name]]
            if placed[name].dtype == REAL
            else placed[name].to_list()
            for name in columns
        ]
        return [list(row) for row in zip(*packed, strict=True)]

    share = tuple(_SHARE)
    return {
        "portfolio": {
            choice: rows(
                curves.portfolio.filter(choice=choice).sort("size"),
                "size", "model_id", *share, "pool_hit1", "params_b", "price",
            )
            for choice in (BEST, NAIVE)
        },
        "budget": {
            unit: rows(
                curves.budget.filter(unit=unit).sort("budget"),
                "budget", "cost", "size", *share, "pool_hit1", "model_id",
                *(f"single_{name}" for name in share),
            )
            for unit in curves.units
        },
        "cost": {
            ROUTED: rows(
                curves.cost.filter(kind=ROUTED).sort("weight"), "weight", "cost", *share
            ),
            SINGLE: rows(
                curves.cost.filter(pl.col("kind") != ROUTED).sort(
                    pl.col("kind") != BEST_SINGLE, "model_id"
                ),
                "model_id", "cost", *share,
            ),
            "best": curves.cost.filter(kind=BEST_SINGLE).height,
        },
    }  # fmt: skip


def curve_words(curves: Curves) -> dict[str, Any]:
    """What the page says of each curve: why it is absent, on how many queries, what it shows."""
    absent = dict.fromkeys(("portfolio", "budget", "cost"), "") | dict(curves.absent)
    for name in absent:
        if getattr(curves, name).is_empty() and not absent[name]:
            absent[name] = NOT_MEASURED
    whys = set(absent.values())
    return {
        "absent": absent,
        "nothing": whys.pop() if len(whys) == 1 else "",
        "n": {name: _n_words(getattr(curves, name)) for name in ("portfolio", "budget")}
        | {"cost": _n_words(curves.cost.filter(kind=ROUTED))},
        "n_chosen_on": curves.n_chosen_on,
        "without_price": curves.without_price,
        "units": curves.units,
        "portfolio": _portfolio_words(curves.portfolio),
        "cost": _cost_words(curves.cost),
    }


def _n_words(frame: pl.DataFrame) -> str:
    """How many queries are behind the rows: a number, or from the least to the most."""
    counts = sorted(set(frame["n"].drop_nulls()))
    if not counts:
        return "0"
    return f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _portfolio_words(portfolio: pl.DataFrame) -> str:
    """What a handful of models reaches, and how many it takes to come near the whole pool."""
    both = (
        portfolio.filter(choice=BEST)
        .join(portfolio.filter(choice=NAIVE), on="size", suffix="_naive")
        .drop_nulls(["hit1", "hit1_naive", "pool_hit1"])
        .sort("size")
    )
    if both.is_empty():
        return ""
    row = both.filter((pl.col("size") <= _SPOKEN_OF) | (pl.col("size") == both["size"][0])).row(
        -1, named=True
    )
    size = row["size"]
    best, naive = (
        ("The best model", "the most accurate model")
        if size == 1
        else (f"The best set of {size} models", f"the {size} most accurate models")
    )
    words = (
        f"{best} answers {_percent(row['hit1'])} right, {naive} {_percent(row['hit1_naive'])}, "
        f"the whole pool {_percent(row['pool_hit1'])}."
    )
    overlap = row["low"] <= row["high_naive"] and row["low_naive"] <= row["high"]
    if overlap and row["hit1"] != row["hit1_naive"]:
        words += " The intervals of the two overlap, so their difference may be chance."
    near = both.filter(pl.col("hit1") >= pl.col("pool_hit1") - NEAR)
    if near.is_empty():
        words += f" No set of up to {both['size'][-1]} comes within one point of the pool."
    else:
        come = "model comes" if near["size"][0] == 1 else "models come"
        words += f" {near['size'][0]} {come} within one point of the pool."
    longest, bar = (portfolio.filter(choice=choice).height for choice in (BEST, NAIVE))
    if longest < bar:
        words += f" Beyond the best {longest}, no model is expected to add anything."
    return words


def _cost_words(cost: pl.DataFrame) -> str:
    """What routing saves at the quality of the best single model, if it reaches that."""
    single = cost.filter(kind=BEST_SINGLE).drop_nulls(["hit1", "cost"])
    routed = cost.filter(kind=ROUTED).drop_nulls(["hit1", "cost"])
    if single.is_empty() or routed.is_empty():
        return ""
    best = single.row(0, named=True)
    there = routed.filter(pl.col("hit1") >= best["hit1"]).sort("cost")
    bar = f"The best single model answers {_percent(best['hit1'])} right at {best['cost']:.3g} USD"
    if there.is_empty():
        most = routed.sort("hit1", "cost", descending=[True, False]).row(0, named=True)
        chance = ", and the difference may be chance" if most["high"] >= best["low"] else ""
        return f"{bar}; routing reaches {_percent(most['hit1'])} at most{chance}."
    found = there.row(0, named=True)
    return f"{bar}; routing reaches as much at {found['cost']:.3g} USD."
