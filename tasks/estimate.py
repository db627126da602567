"""Estimate: what asking a plan will take, from what was measured or else from lengths of texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from locus.budget import Estimate
from locus.evaluation.backends import SERVICES
from locus.prices import price_on
from tasks.plan import PlannedModel
from warehouse.store import Warehouse

# Where nothing was measured: English has about four characters a token, and a generated answer is
# taken to be of this many tokens.
CHARACTERS_PER_TOKEN = 4.0
TOKENS_OUT = 64.0
_GENERATES = "generate_until"


@dataclass(frozen=True)
class Expected:
    """What asking one model is expected to take.

    Attributes:
        queries: queries.
        tokens_in: tokens read.
        tokens_out: tokens written.
        usd: US dollars; None where there is no price.
        seconds: wall time without loading the model; None where nothing is known.
        measured: whether it comes from this model's own answers.
    """

    queries: int
    tokens_in: float
    tokens_out: float
    usd: float | None
    seconds: float | None
    measured: bool

    def __add__(self, other: "Expected") -> "Expected":
        return Expected(
            self.queries + other.queries,
            self.tokens_in + other.tokens_in,
            self.tokens_out + other.tokens_out,
            _both(self.usd, other.usd),
            _both(self.seconds, other.seconds),
            self.measured and other.measured,
        )

    def each(self) -> Estimate:
        """The same for one query, on average."""
        n = max(1, self.queries)
        return Estimate(
            tokens=(self.tokens_in + self.tokens_out) / n,
            usd=None if self.usd is None else self.usd / n,
            seconds=None if self.seconds is None else self.seconds / n,
            measured=self.measured,
        )


def expect(warehouse: Warehouse, planned: Sequence[PlannedModel]) -> dict[str, Expected]:
    """What each plan is expected to take, by model.

    Tokens of a task are what this model has taken for it; else what it takes for any task; else
    what all models take for that task; else what the lengths of the texts say.
    """
    usage = warehouse.scores.usage()
    lengths = warehouse.catalogue.text_lengths()
    kinds = dict(warehouse.catalogue.tasks("lm-eval").select("task", "output_type").iter_rows())
    return {p.model.spec.id: _expected(p, usage, lengths, kinds) for p in planned}


def _expected(
    planned: PlannedModel,
    usage: pl.DataFrame,
    lengths: Mapping[str, float],
    kinds: Mapping[str, str | None],
) -> Expected:
    spec = planned.model.spec
    own = usage.filter(model_id=spec.id)
    read = written = latency_ms = 0.0
    for task, ids in planned.plan.queries.items():
        known = next(
            (
                found
                for found in (own.filter(task=task), own, usage.filter(task=task))
                if len(found)
            ),
            None,
        )
        if known is None:
            each_in = lengths.get(task, 0.0) / CHARACTERS_PER_TOKEN
            each_out = TOKENS_OUT if kinds.get(task) == _GENERATES else 0.0
        else:
            each_in, each_out = _mean(known, "tokens_in"), _mean(known, "tokens_out")
        read += len(ids) * each_in
        written += len(ids) * each_out
        if len(own):
            timed = own.filter(task=task)
            latency_ms += len(ids) * _mean(timed if len(timed) else own, "latency_ms")
    # A service is asked several queries at a time, each with a latency of its own.
    at_once = float(spec.args.get("num_concurrent", 4)) if spec.backend in SERVICES else 1.0
    price = price_on(spec.price_list(), datetime.now(UTC).date())
    return Expected(
        queries=planned.plan.n_queries,
        tokens_in=read,
        tokens_out=written,
        usd=None if price is None else price.of(read, written),
        seconds=latency_ms / 1000 / at_once if len(own) else None,
        measured=bool(len(own)),
    )


def _mean(usage: pl.DataFrame, column: str) -> float:
    """Mean over queries of some rows, each the mean of n of them."""
    n = usage["n"].cast(pl.Float64).to_list()
    means = usage[column].fill_null(0.0).cast(pl.Float64).to_list()
    return float(sum(w * mean for w, mean in zip(n, means, strict=True)) / sum(n))


def _both(mine: float | None, other: float | None) -> float | None:
    """The sum; None if either is unknown."""
    return None if mine is None or other is None else mine + other
