"""Who answers a query, given what each model's chance, cost and doubt are.

Belongs here: rules that turn predicted correctness into a choice, and what they cost. Does not
belong here: where the predictions come from, how good routing is on held-out answers
(`locus.routing.quality`).

Shape letters: T queries, M models. A cost is that of one query, in any unit, the same for all
models. An unknown cost is NaN and stays unknown: such a model is never chosen by its price.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from locus.routing._budget import spend

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

Kind = Literal["best", "cost-aware", "budget", "lower-bound", "abstain"]


class PolicyError(ValueError):
    """A choice that can't be made as asked; the message names what is missing or wrong."""


@dataclass(frozen=True)
class Policy:
    """How to choose.

    Attributes:
        kind: ``best`` takes the most probable; ``cost-aware`` the highest p - price_weight * cost;
            ``budget`` the most expected right answers that ``budget`` pays for, over all queries of
            one call together; ``lower-bound`` the highest lower bound of p; ``abstain`` is ``best``
            with a threshold that must be given.
        price_weight: right answers that one unit of cost is worth; with ``cost-aware``.
        budget: units of cost for all queries of one call; with ``budget``.
        price_cap: dearest model that may answer, cost per query; with any kind.
        abstain_below: a model whose p (or lower bound) is below it may not answer, and a query
            that is left without a model is not answered; with any kind.
        abstain_on: what is held against ``abstain_below``: ``p`` or ``lower``; None takes
            ``lower`` for ``lower-bound`` and ``p`` for the rest.
    """

    kind: Kind = "best"
    price_weight: float | None = None
    budget: float | None = None
    price_cap: float | None = None
    abstain_below: float | None = None
    abstain_on: Literal["p", "lower"] | None = None

    def __post_init__(self) -> None:
        """Refuse settings that are missing, out of range, or would be ignored."""
        if self.kind not in get_args(Kind):
            raise PolicyError(f"policy {self.kind!r} is unknown; use {', '.join(get_args(Kind))}")
        needs = {"cost-aware": "price_weight", "budget": "budget", "abstain": "abstain_below"}
        wanted = needs.get(self.kind)
        if wanted and getattr(self, wanted) is None:
            raise PolicyError(f"policy {self.kind!r} needs {wanted}")
        for field in ("price_weight", "budget"):
            if getattr(self, field) is not None and field != wanted:
                raise PolicyError(f"policy {self.kind!r} would ignore {field}; leave it out")
        for field in ("price_weight", "budget", "price_cap"):
            value = getattr(self, field)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise PolicyError(f"{field} is {value}; give a finite number of 0 or more")
        if self.abstain_below is not None and not 0 <= self.abstain_below <= 1:
            raise PolicyError(f"abstain_below is {self.abstain_below}; give a number in [0, 1]")
        if self.abstain_on not in (None, "p", "lower"):
            raise PolicyError(f"abstain_on is {self.abstain_on!r}; use 'p' or 'lower'")
        if self.abstain_on is not None and self.abstain_below is None:
            raise PolicyError("abstain_on is given without abstain_below; give both or neither")

    @property
    def asks_cost(self) -> bool:
        """Whether it can't choose without costs."""
        return self.kind in ("cost-aware", "budget") or self.price_cap is not None

    @property
    def threshold_on(self) -> Literal["p", "lower"]:
        """What ``abstain_below`` is compared with."""
        return self.abstain_on or ("lower" if self.kind == "lower-bound" else "p")

    @property
    def asks_lower(self) -> bool:
        """Whether it can't choose without lower bounds."""
        return self.kind == "lower-bound" or (
            self.abstain_below is not None and self.threshold_on == "lower"
        )


@dataclass(frozen=True)
class Decision:
    """What `choose` chose.

    Attributes:
        ranking_TM: models that may answer, best first, int64; -1 after the last of them.
        value_TM: what ranked them, NaN after the last; under ``budget`` the worth of each at the
            price of money found, so the chosen one, though first, may not have the highest.
        abstained_T: queries that nobody answers: no model reaches the threshold, is allowed and
            within the cap, or (``budget``) is affordable.
        unknown_cost: models left out because the policy asks for a cost and theirs is unknown.
        cost: of the first choices together; None where a chosen model's is unknown.
        expected: right answers expected of the first choices, the sum of their p.
        at_most: ``budget`` only: no choice within the budget expects more right answers than this.
    """

    ranking_TM: Ints
    value_TM: Floats
    abstained_T: Bools
    unknown_cost: tuple[int, ...]
    cost: float | None
    expected: float
    at_most: float | None = None

    @property
    def chosen_T(self) -> Ints:
        """The first choice of each query; -1 where nobody answers."""
        first: Ints = self.ranking_TM[:, 0]
        return first


def choose(
    p_TM: ArrayLike,
    policy: Policy,
    *,
    cost_M: ArrayLike | Sequence[float | None] | None = None,
    lower_TM: ArrayLike | None = None,
    allowed: ArrayLike | None = None,
) -> Decision:
    """Choose a model for each query.

    Ties go to the cheaper model where costs are known, then to the lower index.

    Args:
        p_TM: predicted P(correct), [T, M], in [0, 1].
        policy: see `Policy`.
        cost_M: cost of one query, [M]; NaN or None where unknown.
        lower_TM: lower bounds of p, [T, M].
        allowed: models that may answer, bool [M] or [T, M]; None allows all.

    Raises:
        PolicyError: shapes differ, a number is out of range, the policy asks for costs or lower
            bounds that are not given, or no model at all is allowed with a cost that is known.
    """
    return _decide(*_asked(p_TM, policy, cost_M, lower_TM, allowed))


def pick(
    p_TM: ArrayLike,
    policy: Policy,
    *,
    cost_M: ArrayLike | Sequence[float | None] | None = None,
    lower_TM: ArrayLike | None = None,
    allowed: ArrayLike | None = None,
) -> Ints:
    """The first choices alone: `choose(...).chosen_T`, without ranking the rest.

    Args and errors are those of `choose`.

    Returns:
        Models [T]; -1 where nobody answers.
    """
    p, lower, cost, open_TM, policy, _ = _asked(p_TM, policy, cost_M, lower_TM, allowed)
    if policy.kind == "budget":
        return spend(p, cost, open_TM, float(policy.budget or 0))[0]
    ranked = np.where(open_TM, _value(p, lower, cost, policy), -np.inf)
    if np.isnan(cost).all():
        first = ranked.argmax(axis=1)
    else:
        # Cheapest first, so that argmax takes the cheaper of two equal ones.
        cheapest = np.argsort(cost, kind="stable")
        first = cheapest[ranked[:, cheapest].argmax(axis=1)]
    first[np.isneginf(ranked[np.arange(len(p)), first])] = -1
    return np.asarray(first, dtype=np.int64)


_Asked = tuple[Floats, Floats, Floats, Bools, Policy, tuple[int, ...]]


def _asked(
    p_TM: ArrayLike,
    policy: Policy,
    cost_M: ArrayLike | Sequence[float | None] | None,
    lower_TM: ArrayLike | None,
    allowed: ArrayLike | None,
) -> _Asked:
    """Check what `choose` and `pick` were given, and find who may answer."""
    p = _probabilities("p_TM", p_TM)
    n_queries, n_models = p.shape
    if n_models == 0:
        raise PolicyError("p_TM has no models: nobody can be chosen")
    open_TM = np.ones(p.shape, dtype=bool)
    if allowed is not None:
        mask = np.asarray(allowed)
        if mask.dtype != np.bool_ or mask.shape not in ((n_models,), p.shape):
            raise PolicyError(
                f"allowed is {mask.dtype} of shape {mask.shape}; give bool [{n_models}] "
                f"or {list(p.shape)}"
            )
        open_TM = np.array(np.broadcast_to(mask, p.shape))
        if n_queries and not open_TM.any():
            raise PolicyError("every model is excluded: nobody is left to answer")
    cost = np.full(n_models, np.nan) if cost_M is None else _costs(cost_M, n_models)
    unknown: tuple[int, ...] = ()
    if policy.asks_cost:
        open_TM, unknown = _with_known_cost(policy, open_TM, cost, given=cost_M is not None)
    if policy.price_cap is not None:
        open_TM &= cost <= policy.price_cap
    lower = p
    if policy.asks_lower:
        if lower_TM is None:
            raise PolicyError(f"policy {policy.kind!r} ranks or abstains by lower_TM; give it")
        lower = _probabilities("lower_TM", lower_TM)
        if lower.shape != p.shape:
            raise PolicyError(f"lower_TM has shape {lower.shape}, p_TM {p.shape}")
    if policy.abstain_below is not None:
        open_TM &= (lower if policy.threshold_on == "lower" else p) >= policy.abstain_below
    return p, lower, cost, open_TM, policy, unknown


def _value(p: Floats, lower: Floats, cost: Floats, policy: Policy, price: float = 0.0) -> Floats:
    """What ranks models; ``price`` is that of money under a budget."""
    if policy.kind == "lower-bound":
        return lower
    weight = float(policy.price_weight or 0) if policy.kind == "cost-aware" else price
    # A weight beyond all reason makes each cost infinite, and all that cost anything equally bad.
    with np.errstate(over="ignore"):
        return p - weight * np.where(np.isnan(cost), 0, cost) if weight else p


def _decide(
    p: Floats, lower: Floats, cost: Floats, open_TM: Bools, policy: Policy, unknown: tuple[int, ...]
) -> Decision:
    at_most: float | None = None
    first_T: Ints | None = None
    price = 0.0
    if policy.kind == "budget":
        first_T, price, at_most = spend(p, cost, open_TM, float(policy.budget or 0))
    value = _value(p, lower, cost, policy, price)
    ranked = np.where(open_TM, value, -np.inf)
    if first_T is not None:
        # The choice within the budget comes first; who can't be paid for gets no ranking at all.
        paid = first_T >= 0
        ranked[~paid] = -np.inf
        ranked[np.flatnonzero(paid), first_T[paid]] = np.inf
    order = np.lexsort((np.broadcast_to(np.nan_to_num(cost, nan=np.inf), p.shape), -ranked), axis=1)
    in_play = np.take_along_axis(ranked, order, axis=1) > -np.inf
    ranking = np.where(in_play, order, -1).astype(np.int64)
    values = np.where(in_play, np.take_along_axis(value, order, axis=1), np.nan)
    answered = np.flatnonzero(ranking[:, 0] >= 0)
    spent = float(cost[ranking[answered, 0]].sum())
    return Decision(
        ranking,
        values,
        ranking[:, 0] < 0,
        unknown,
        None if math.isnan(spent) else spent,
        float(p[answered, ranking[answered, 0]].sum()),
        at_most,
    )


def cost_quality_curve(
    p_TM: ArrayLike,
    y_TM: ArrayLike,
    cost_M: ArrayLike | Sequence[float | None],
    lambdas: Sequence[float],
) -> pl.DataFrame:
    """Cost and score of cost-aware routing, one row for each price weight.

    A model that has not answered a query can't be chosen for it, and queries that nobody with a
    known cost has answered are left out.

    Args:
        p_TM: predicted P(correct), [T, M].
        y_TM: scores, [T, M]; NaN where missing.
        cost_M: cost of one query, [M]; NaN or None where unknown.
        lambdas: price weights, 0 or more.

    Returns:
        price_weight, cost (mean per query), score (mean), n (queries), on_hull (whether the point
        is a corner of the non-decreasing concave hull: what a coin between two price weights can
        reach), in the order of ``lambdas``.

    Raises:
        PolicyError: as `choose`; or no query is left, or no price weight is given.
    """
    p, y = _probabilities("p_TM", p_TM), np.asarray(y_TM, dtype=np.float64)
    if p.shape != y.shape:
        raise PolicyError(f"y_TM has shape {y.shape}, p_TM {p.shape}")
    if not len(lambdas):
        raise PolicyError("no price weight is given: a curve needs one or more")
    cost = _costs(cost_M, p.shape[1])
    answered = ~np.isnan(y) & ~np.isnan(cost)
    kept = np.flatnonzero(answered.any(axis=1))
    if not len(kept):
        raise PolicyError("no query has an answer of a model with a known cost: nothing to draw")
    rows: list[dict[str, Any]] = []
    for weight in lambdas:
        decision = choose(
            p[kept],
            Policy("cost-aware", price_weight=float(weight)),
            cost_M=cost,
            allowed=answered[kept],
        )
        score = float(y[kept, decision.chosen_T].mean())
        mean_cost = float(cost[decision.chosen_T].mean())
        rows.append({"price_weight": float(weight), "cost": mean_cost, "score": score})
    curve = pl.DataFrame(rows).with_columns(n=pl.lit(len(kept), dtype=pl.Int64))
    corners = set(_hull(curve["cost"].to_list(), curve["score"].to_list()))
    return curve.with_columns(on_hull=pl.Series([i in corners for i in range(curve.height)]))


def hull_score(curve: pl.DataFrame, low: float | None = None, high: float | None = None) -> float:
    """Mean score along the hull of a `cost_quality_curve` between two costs.

    The area under the hull over its width (the AIQ of RouterBench, Hu et al. 2024): one number
    that compares two curves, if both are read between the same costs.

    Args:
        curve: what `cost_quality_curve` gave.
        low: lowest cost; None takes the cheapest corner's.
        high: highest cost; None takes the dearest corner's. Past it the hull is flat.

    Raises:
        PolicyError: ``low`` is below the cheapest corner, where nothing is known, or above
            ``high``.
    """
    hull = curve.filter("on_hull").sort("cost")
    x, y = hull["cost"].to_numpy(), hull["score"].to_numpy()
    low, high = float(x[0]) if low is None else low, float(x[-1]) if high is None else high
    if low < x[0] or low > high:
        raise PolicyError(f"costs {low} to {high}: the curve starts at {x[0]}; give a range in it")
    if low == high:
        return float(np.interp(low, x, y))
    at = np.unique(np.concatenate([[low, high], x[(x > low) & (x < high)]]))
    return float(np.trapezoid(np.interp(at, x, y), at) / (high - low))


def _hull(cost: list[float], score: list[float]) -> list[int]:
    """Corners of the non-decreasing concave hull of points, by the monotone chain."""
    corners: list[int] = []
    for i in sorted(range(len(cost)), key=lambda i: (cost[i], -score[i], i)):
        if corners and score[i] <= score[corners[-1]]:
            continue
        while len(corners) >= 2:
            a, b = corners[-2:]
            turn = (cost[b] - cost[a]) * (score[i] - score[a]) - (score[b] - score[a]) * (
                cost[i] - cost[a]
            )
            if turn < 0:
                break
            corners.pop()
        corners.append(i)
    return corners


def _with_known_cost(
    policy: Policy, open_TM: Bools, cost: Floats, *, given: bool
) -> tuple[Bools, tuple[int, ...]]:
    """Leave out models without a cost, and say which they are."""
    if not given:
        raise PolicyError(f"policy {policy.kind!r} looks at costs; give cost_M")
    wanted_M = open_TM.any(axis=0)
    unknown_M = wanted_M & np.isnan(cost)
    if wanted_M.any() and (unknown_M == wanted_M).all():
        raise PolicyError(
            f"the cost of all {int(unknown_M.sum())} allowed models is unknown: give prices, or "
            "use a policy without costs"
        )
    return open_TM & ~unknown_M, tuple(np.flatnonzero(unknown_M).tolist())


def _probabilities(name: str, values: ArrayLike) -> Floats:
    p = np.asarray(values, dtype=np.float64)
    if p.ndim != 2:
        raise PolicyError(f"{name} has shape {p.shape}; give one row a query, one column a model")
    bad = ~((p >= 0) & (p <= 1))
    if bad.any():
        row, column = np.argwhere(bad)[0].tolist()
        raise PolicyError(
            f"{name}: {p[row, column]} for model {column} on query {row} is not in [0, 1]"
        )
    return p


def _costs(values: ArrayLike | Sequence[float | None], n_models: int) -> Floats:
    """Costs as floats; None becomes NaN."""
    cost = np.asarray(values, dtype=np.float64)
    if cost.shape != (n_models,):
        raise PolicyError(f"cost_M has shape {cost.shape} for {n_models} models")
    bad = np.flatnonzero(~(np.isnan(cost) | ((cost >= 0) & np.isfinite(cost))))
    if len(bad):
        raise PolicyError(
            f"the cost of model {bad[0]} is {cost[bad[0]]}; give 0 or more, or NaN if unknown"
        )
    return cost
