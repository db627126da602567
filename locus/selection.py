"""Which queries to ask a model.

One fixed order of all queries, spread evenly over the tasks: whoever is asked n of them is asked
the same first n, so that models are compared on common ground, and a larger budget later only
adds to what was asked before.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from locus.ids import short_hash


@dataclass(frozen=True)
class Plan:
    """What to ask one model.

    Attributes:
        queries: query ids by task; empty when nothing is missing.
        wanted: queries that the budget allows, answered ones included.
        answered: those of them that are answered already.
    """

    queries: dict[str, list[str]]
    wanted: int
    answered: int

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
            spread_order(bank.filter(pl.col("split") == split)).head(
                bank.height if budget is None else budget
            )
            for split, budget in budgets.items()
        ]
    )
    done = pl.Series("query_id", list(answered), dtype=pl.String)
    missing = wanted.filter(~pl.col("query_id").is_in(done.implode()))
    by_task = {
        str(task): rows["query_id"].sort().to_list()
        for (task,), rows in missing.sort("task").group_by("task", maintain_order=True)
    }
    return Plan(by_task, wanted.height, wanted.height - missing.height)
