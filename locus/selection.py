"""Which queries to ask a model.

Without a map: one fixed order of all queries, spread evenly over the tasks. Whoever is asked n of
them is asked the same first n, so that models are compared on common ground, and a larger budget
later only adds to what was asked before. With a map, a strategy of `locus.acquisition` chooses the
training queries (`MapChooser`), and the fixed order gives what the map's bank can't. Models that
are placed already can be asked more, where it is worth most (`MapChooser.more`).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from locus.acquisition import (
    Adaptive,
    Items,
    Purse,
    Random,
    Strategy,
    Stratified,
    allocate,
    choose,
    items_of,
)
from locus.embedding.posterior import LinearItems
from locus.ids import short_hash

SPREAD = "spread"
"""The fixed order, as it stands in settings and records."""

MAP_STRATEGIES = ("random", "stratified", "panel", "adaptive")
"""Strategies that choose by a map."""


@dataclass(frozen=True)
class Plan:
    """What to ask one model.

    Attributes:
        queries: query ids by task; empty when nothing is missing.
        wanted: queries that the budget allows, answered ones included.
        answered: those of them that are answered already.
        later: queries of the budget that are chosen once these are answered.
        chosen_by: training queries to ask, by who chose them: a strategy, or the fixed order.
    """

    queries: dict[str, list[str]]
    wanted: int
    answered: int
    later: int = 0
    chosen_by: dict[str, int] = field(default_factory=dict)

    @property
    def n_queries(self) -> int:
        """Queries to ask."""
        return sum(map(len, self.queries.values()))


def spread_order(queries: pl.DataFrame) -> pl.DataFrame:
    """Queries in the fixed order: by turns from each task, within a task by a hash of the id.

    Args:
        queries: query_id, task and any other columns; one split at a time, if turns are to be
            even within it.
    """
    hashes = [short_hash("order:" + q) for q in queries["query_id"]]
    return (
        queries.with_columns(_hash=pl.Series(hashes, dtype=pl.String))
        .sort("_hash")
        .with_columns(_turn=pl.int_range(pl.len()).over("task"))
        .sort("_turn", "_hash")
        .drop("_hash", "_turn")
    )


@dataclass(frozen=True)
class Known:
    """A placed model that may be asked more.

    Attributes:
        model_id: the model.
        scores: what it has answered, and its scores; NaN where unknown, or not to be asked.
        most: queries that it is asked at most.
        price: what one query costs; None makes the models be weighed by query alone.
        needs: what one query takes of each thing that is limited for all together.
    """

    model_id: str
    scores: Mapping[str, float]
    most: int = 128
    price: float | None = None
    needs: tuple[float, ...] = ()


class MapChooser:
    """Chooses among a map's bank by a strategy of `locus.acquisition`.

    Attributes:
        name: the strategy.
        batch: queries that it asks before it wants to see the answers; None if it never does.
    """

    def __init__(
        self,
        name: str,
        placement: LinearItems,
        ids: Sequence[str],
        task_of: Mapping[str, str],
        n_models: int | None,
        askable: Collection[str],
        *,
        seed: int = 0,
        batch: int = Adaptive.batch,
    ) -> None:
        """Prepare a choice for any number of models.

        Args:
            name: the strategy, one of `MAP_STRATEGIES`.
            placement: the map's placement, fitted.
            ids: its bank's queries, in its order.
            task_of: their tasks.
            n_models: models it was fitted on; None if nobody knows.
            askable: queries that may be asked; those that the bank doesn't know are left out.
            seed: of everything random.
            batch: queries that `adaptive` asks before it reads the answers.

        Raises:
            ValueError: no such strategy, a placement of another bank, or an empty batch.
        """
        if name not in MAP_STRATEGIES:
            raise ValueError(f"{name!r} does not choose by a map; {', '.join(MAP_STRATEGIES)} do")
        self.name = name
        self.batch = batch if name == "adaptive" else None
        self._ids = tuple(ids)
        self._column = {query: i for i, query in enumerate(self._ids)}
        open_to_ask = frozenset(askable)
        self._columns = np.array(
            [i for i, query in enumerate(self._ids) if query in open_to_ask], dtype=np.int64
        )
        self._seed = seed
        self._bank = items_of(placement, [task_of.get(q, "") for q in self._ids], n_models)
        # What can't be asked must not take a place in anybody's order.
        self._open = _some(self._bank, self._columns)
        self._panel = np.zeros(0, dtype=np.int64)
        self._adaptive = Adaptive(batch=batch)

    def choose(self, model_id: str, scores: Mapping[str, float], n: int) -> list[str]:
        """Choose at most n queries for one model, in asking order.

        Args:
            model_id: the model; what is random is its own.
            scores: what it has answered, or been asked, and its scores; NaN where unknown.
            n: how many; fewer only if no more can be asked.

        Raises:
            ValueError: a negative n.
        """
        done = np.array([self._ids[i] in scores for i in self._columns.tolist()], dtype=bool)
        seed = int(short_hash(f"acquisition:{self._seed}:{model_id}"), 16)
        if self.name == "adaptive":
            values_Q, allowed_Q = self._seen(scores)
            columns = choose(self._adaptive, self._bank, values_Q, n, seed, allowed_Q)
            return [self._ids[i] for i in columns.tolist()]
        if self.name == "panel":
            order = self._panel_of(n + int(done.sum()))
            columns = order[~done[order]][:n]
        else:
            strategy: Strategy = Random() if self.name == "random" else Stratified()
            columns = choose(strategy, self._open, np.full(len(done), np.nan), n, seed, ~done)
        return [self._ids[i] for i in self._columns[columns].tolist()]

    def more(
        self,
        models: Sequence[Known],
        budget: int,
        *,
        block: int = 8,
        least: float = 0.0,
        left: Sequence[float] = (),
    ) -> dict[str, list[str]]:
        """Spread a budget of more queries over placed models by what they are expected to tell.

        Worth is by how much a query lowers the mean predictive variance, per cost where all prices
        are known, else per query (`locus.acquisition.allocate`); of equals the first by id comes
        first. Which queries a model is asked for its share, the strategy chooses.

        Args:
            models: whom to ask.
            budget: queries in all.
            block: queries that a model is given at a time.
            least: what a query must be worth on average: the share of what is not known of a model
                without answers.
            left: how much there is of each thing that `Known.needs` counts.

        Returns:
            Queries by model, in asking order; only models that are asked any.

        Raises:
            ValueError: as `locus.acquisition.allocate`.
        """
        models = sorted(models, key=lambda one: one.model_id)
        seen = [self._seen(one.scores) for one in models]
        if not seen or budget == 0:
            return {}
        values_BQ = np.stack([values_Q for values_Q, _ in seen])
        allowed_BQ = np.stack([allowed_Q for _, allowed_Q in seen])
        prices = [one.price for one in models if one.price is not None]
        given_B = allocate(
            self._bank,
            values_BQ,
            budget,
            allowed_BQ,
            block=block,
            most=np.array([one.most for one in models], dtype=np.int64),
            least=least,
            price_B=np.array(prices) if len(prices) == len(models) else None,
            purse=Purse(np.array(left, dtype=float), np.array([one.needs for one in models])),
        )
        return {
            one.model_id: self.choose(one.model_id, one.scores, n)
            for one, n in zip(models, given_B.tolist(), strict=True)
            if n
        }

    def _seen(self, scores: Mapping[str, float]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """A model's scores on the whole bank, and which of its queries may still be asked.

        The belief about a model rests on every answer to the bank, askable or not.
        """
        values_Q = np.full(len(self._ids), np.nan)
        allowed_Q = np.zeros(len(self._ids), dtype=bool)
        allowed_Q[self._columns] = True
        for query, score in scores.items():
            if query in self._column:
                values_Q[self._column[query]] = score
                allowed_Q[self._column[query]] = False
        return values_Q, allowed_Q

    def _panel_of(self, n: int) -> NDArray[np.int64]:
        """The first n or more of the panel's order; the whole of it costs bank squared."""
        n = min(n, len(self._open))
        if len(self._panel) < n:
            # With no answers and nothing foregone or explored, adaptive picks are the panel's.
            prior = replace(self._adaptive, sharpness=0.0, explore=0.0)
            nobody_Q = np.full(len(self._open), np.nan)
            self._panel = choose(prior, self._open, nobody_Q, n, 0)
        return self._panel


def _some(items: Items, columns: NDArray[np.int64]) -> Items:
    """Some of the items; what is to be predicted stays the same."""
    return replace(
        items,
        mean_Q=items.mean_Q[columns],
        factors_Qk=items.factors_Qk[columns],
        noise_Q=items.noise_Q[columns],
        benchmark=tuple(items.benchmark[i] for i in columns.tolist()),
    )


def train_missing(queries: pl.DataFrame, answered: Collection[str], n_train: int) -> int:
    """Training queries that a model has left of its budget when a map's strategy chooses.

    Whatever training queries it has answered count, whoever chose them: a new map orders the bank
    anew and must not cost the models already placed another budget.

    Args:
        queries: the bank: query_id, task, split.
        answered: ids that the model has answered.
        n_train: its budget; no more than there are queries is ever missing.
    """
    train = queries.filter(split="train")["query_id"]
    done = train.is_in(pl.Series(list(answered), dtype=pl.String).implode()).sum()
    return max(0, min(n_train, len(train)) - int(done))


def plan_by_map(
    queries: pl.DataFrame,
    model_id: str,
    scores: Mapping[str, float],
    chooser: MapChooser,
    *,
    n_train: int,
    n_test: int | None = None,
) -> Plan:
    """Choose queries for one model that a map will place; its test queries are those of `plan`.

    Training queries are the chooser's, as far as its bank goes; then the fixed order's.

    Args:
        queries: the bank: query_id, task, split.
        model_id: the model.
        scores: what it has answered, or been asked, and its scores; NaN where unknown.
        chooser: of the same queries.
        n_train: training queries in all, answered ones included.
        n_test: test queries, answered ones included; None means all there are.

    Raises:
        ValueError: a negative budget.
    """
    tested = plan(queries, scores, n_train=0, n_test=n_test)
    if n_train < 0:
        raise ValueError(f"the budget of train queries is {n_train}; it can't be negative")
    missing = train_missing(queries, scores, n_train)
    now = min(missing, chooser.batch or missing)
    chosen = chooser.choose(model_id, scores, now)
    counts: dict[str, int] = {chooser.name: len(chosen)} if chosen else {}
    train = queries.filter(split="train").select("query_id", "task", "split")
    if len(chosen) < now:
        # Nothing is left in the bank, so there is nothing to wait for either.
        taken = pl.Series([*scores, *chosen], dtype=pl.String).implode()
        rest = spread_order(train.filter(~pl.col("query_id").is_in(taken)))
        fresh = rest["query_id"].head(missing - len(chosen)).to_list()
        counts |= {SPREAD: len(fresh)} if fresh else {}
        chosen, now = [*chosen, *fresh], missing
    asked = train.filter(pl.col("query_id").is_in(pl.Series(chosen, dtype=pl.String).implode()))
    wanted = min(n_train, train.height)
    return Plan(
        _by_task(asked, tested.queries),
        wanted + tested.wanted,
        wanted - missing + tested.answered,
        later=missing - now,
        chosen_by=counts,
    )


def _by_task(
    rows: pl.DataFrame, others: Mapping[str, Sequence[str]] | None = None
) -> dict[str, list[str]]:
    """Sorted query ids by task, tasks sorted, joined with those of ``others``."""
    found = {task: list(ids) for task, ids in (others or {}).items()}
    for task, query in rows.select("task", "query_id").iter_rows():
        found.setdefault(str(task), []).append(query)
    return {task: sorted(found[task]) for task in sorted(found)}


def plan(
    queries: pl.DataFrame,
    answered: Iterable[str],
    *,
    n_train: int | None,
    n_val: int | None = 0,
    n_test: int | None = None,
) -> Plan:
    """Choose queries for one model; None means all there are.

    Args:
        queries: the bank: query_id, task, split.
        answered: ids that the model has answered.
        n_train: training queries: the only ones its embedding is computed from.
        n_val: validation queries, needed of the models that an encoder is trained on.
        n_test: test queries, on which what is published is measured.

    Raises:
        ValueError: a negative budget.
    """
    budgets = {"train": n_train, "val": n_val, "test": n_test}
    for split, budget in budgets.items():
        if budget is not None and budget < 0:
            raise ValueError(f"the budget of {split} queries is {budget}; it can't be negative")
    bank = queries.select("query_id", "task", "split")
    wanted = pl.concat(
        [
            bank.clear()
            if budget == 0
            else spread_order(bank.filter(pl.col("split") == split)).head(
                bank.height if budget is None else budget
            )
            for split, budget in budgets.items()
        ]
    )
    done = pl.Series("query_id", list(answered), dtype=pl.String)
    missing = wanted.filter(~pl.col("query_id").is_in(done.implode()))
    n_train = missing.filter(split="train").height
    return Plan(
        _by_task(missing),
        wanted.height,
        wanted.height - missing.height,
        chosen_by={SPREAD: n_train} if n_train else {},
    )
