"""Strategies: given the answers so far, which queries to ask next, in which order.

Shape letters: B models, Q bank queries, n queries to choose.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from locus.acquisition.beliefs import Lookahead, Values, noise_for
from locus.acquisition.items import Floats, Items
from locus.embedding.posterior import weights_of

Columns = NDArray[np.int64]
Mask = NDArray[np.bool_]

MODELS_AT_ONCE = 64
"""Bounds memory: two arrays of models x queries x factors."""


class Strategy(Protocol):
    """A way to choose.

    Attributes:
        name: as it stands in tables.
        batch: queries to ask before it wants to see the answers; None if it never reads them.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def batch(self) -> int | None: ...  # noqa: D102

    def choose_many(
        self,
        items: Items,
        values_BQ: Values,
        n: int,
        seeds: Sequence[int],
        allowed_BQ: Mask | None = None,
    ) -> Columns:
        """Choose for several models at once; each row is what it would be alone.

        Args:
            items: the bank.
            values_BQ: scores so far, NaN where not asked.
            n: queries to choose per model.
            seeds: one per model.
            allowed_BQ: queries that may be asked; all by default.

        Returns:
            Columns in asking order [B, n], never one that is answered or not allowed; -1 where
            nothing is left to ask.

        Raises:
            ValueError: shapes that don't fit, or a negative n.
        """
        ...


def choose(
    strategy: Strategy,
    items: Items,
    values_Q: Values,
    n: int,
    seed: int,
    allowed_Q: Mask | None = None,
) -> Columns:
    """Choose for one model: at most n columns in asking order; see `Strategy.choose_many`."""
    allowed = None if allowed_Q is None else allowed_Q[None]
    chosen = strategy.choose_many(items, values_Q[None], n, [seed], allowed)[0]
    return np.asarray(chosen[chosen >= 0])


@dataclass(frozen=True)
class Random:
    """A random order of each model's own."""

    name: str = "random"
    batch: None = None

    def choose_many(
        self,
        items: Items,
        values_BQ: Values,
        n: int,
        seeds: Sequence[int],
        allowed_BQ: Mask | None = None,
    ) -> Columns:
        """See `Strategy`."""
        open_BQ = open_queries(items, values_BQ, n, seeds, allowed_BQ)
        orders = [np.random.default_rng(seed).permutation(len(items)) for seed in seeds]
        return _first_open(orders, open_BQ, n)


@dataclass(frozen=True)
class Stratified:
    """Each benchmark in proportion to its size at every point of the order; random inside."""

    name: str = "stratified"
    batch: None = None

    def choose_many(
        self,
        items: Items,
        values_BQ: Values,
        n: int,
        seeds: Sequence[int],
        allowed_BQ: Mask | None = None,
    ) -> Columns:
        """See `Strategy`."""
        open_BQ = open_queries(items, values_BQ, n, seeds, allowed_BQ)
        return _first_open([_stratified(items.benchmark, seed) for seed in seeds], open_BQ, n)


@dataclass(frozen=True)
class Panel:
    """One order for everybody, so that models are compared on common ground; see `panel_order`."""

    name: str = "panel"
    batch: None = None

    def choose_many(
        self,
        items: Items,
        values_BQ: Values,
        n: int,
        seeds: Sequence[int],
        allowed_BQ: Mask | None = None,
    ) -> Columns:
        """See `Strategy`; the seeds change nothing."""
        open_BQ = open_queries(items, values_BQ, n, seeds, allowed_BQ)
        return _first_open([panel_order(items)] * len(seeds), open_BQ, n)


@dataclass(frozen=True)
class Adaptive:
    """The queries that lower the variance over the targets most, given the model's answers.

    Attributes:
        sharpness: how far a foregone answer counts as uninformative, see `beliefs.noise_for`.
        explore: share of queries drawn at random, so that a wrong belief about items shows.
        batch: queries asked before the answers are read.
        name: as it stands in tables.
    """

    sharpness: float = 0.25
    explore: float = 0.0625
    batch: int = 8
    name: str = "adaptive"

    def __post_init__(self) -> None:
        """Refuse a share outside 0..1 and an empty batch."""
        if not 0 <= self.explore <= 1 or self.batch < 1 or self.sharpness < 0:
            raise ValueError(
                f"{self}: explore must lie within 0..1, batch be 1 or more, sharpness 0 or more"
            )

    def choose_many(
        self,
        items: Items,
        values_BQ: Values,
        n: int,
        seeds: Sequence[int],
        allowed_BQ: Mask | None = None,
    ) -> Columns:
        """See `Strategy`. The n queries are chosen as one batch, without reading answers between.

        Whether a pick explores depends on how many answers there are, so that small batches keep
        the share as well.
        """
        open_BQ = open_queries(items, values_BQ, n, seeds, allowed_BQ)
        answered_B = (~np.isnan(values_BQ)).sum(axis=1)
        steps_Bn = answered_B[:, None] + np.arange(n)
        explores_Bn = np.floor((steps_Bn + 1) * self.explore) > np.floor(steps_Bn * self.explore)
        rngs = [
            np.random.default_rng([seed, int(count)])
            for seed, count in zip(seeds, answered_B, strict=True)
        ]
        chosen = np.full((len(seeds), n), -1, dtype=np.int64)
        for start in range(0, len(seeds), MODELS_AT_ONCE):
            part = slice(start, start + MODELS_AT_ONCE)
            chosen[part], _ = greedy(
                items,
                values_BQ[part],
                open_BQ[part],
                n,
                self.sharpness,
                explores_Bn[part],
                rngs[part],
            )
        return chosen


def panel_order(items: Items) -> Columns:
    """All queries in the order that lowers the variance over the targets fastest, prior to answers.

    Greedy, so panels are nested: the first 32 are the panel of 32. The same for everybody and
    without any randomness.
    """
    nobody = np.full((1, len(items)), np.nan)
    chosen, _ = greedy(items, nobody, np.isnan(nobody), len(items), 0.0)
    return np.asarray(chosen[0])


def greedy(
    items: Items,
    values_BQ: Values,
    open_BQ: Mask,
    n: int,
    sharpness: float,
    explores_Bn: Mask | None = None,
    rngs: Sequence[np.random.Generator] = (),
) -> tuple[Columns, Floats]:
    """Pick n queries per model, each time the one of largest gain given those before it.

    Returns:
        Columns [B, n], -1 where nothing is left, and the gain of each pick [B, n].
    """
    mean_Bk, cov_Bkk = weights_of(values_BQ, items)
    ahead = Lookahead(items, cov_Bkk, noise_for(items, mean_Bk, sharpness))
    left_BQ = open_BQ.copy()
    rows = np.arange(len(left_BQ))
    chosen = np.full((len(rows), n), -1, dtype=np.int64)
    gained = np.zeros((len(rows), n))
    for step in range(n):
        gains_BQ = ahead.gains()
        picks_B = np.where(left_BQ, gains_BQ, -np.inf).argmax(axis=1)
        if explores_Bn is not None:
            for row in np.flatnonzero(explores_Bn[:, step] & left_BQ.any(axis=1)).tolist():
                picks_B[row] = rngs[row].choice(np.flatnonzero(left_BQ[row]))
        picks_B = np.where(left_BQ.any(axis=1), picks_B, -1)
        asked = picks_B >= 0
        if not asked.any():
            break
        chosen[:, step] = picks_B
        gained[asked, step] = gains_BQ[rows[asked], picks_B[asked]]
        left_BQ[rows[asked], picks_B[asked]] = False
        ahead.ask(picks_B)
    return chosen, gained


def open_queries(
    items: Items, values_BQ: Values, n: int, seeds: Sequence[int], allowed_BQ: Mask | None
) -> Mask:
    """Queries that are not answered and may be asked, [B, Q].

    Raises:
        ValueError: shapes that don't fit, or a negative n.
    """
    if values_BQ.shape != (len(seeds), len(items)):
        raise ValueError(
            f"answers {values_BQ.shape} for {len(seeds)} models and {len(items)} queries"
        )
    if n < 0:
        raise ValueError(f"{n} queries can't be chosen; ask for 0 or more")
    if allowed_BQ is not None and allowed_BQ.shape != values_BQ.shape:
        raise ValueError(f"a mask {allowed_BQ.shape} for answers {values_BQ.shape}")
    unanswered = np.isnan(values_BQ)
    return unanswered if allowed_BQ is None else unanswered & allowed_BQ


def _first_open(orders: Sequence[Columns], open_BQ: Mask, n: int) -> Columns:
    """The first n open queries of each model's order, [B, n], -1 behind the last."""
    chosen = np.full((len(orders), n), -1, dtype=np.int64)
    for row, order in enumerate(orders):
        found = order[open_BQ[row, order]][:n]
        chosen[row, : len(found)] = found
    return chosen


def _stratified(benchmark: tuple[str, ...], seed: int) -> Columns:
    """Query j of a benchmark's n, in random order, comes at (j + u) / n, u one random number."""
    rng = np.random.default_rng(seed)
    labels = np.array(benchmark)
    place = np.empty(len(labels))
    for name in sorted(set(benchmark)):
        members = rng.permutation(np.flatnonzero(labels == name))
        place[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.asarray(place.argsort(kind="stable"), dtype=np.int64)
