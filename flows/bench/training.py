"""Training: a map learned from a pool's scores, beside LOCUS trained as published.

Both sides are timed until their predictions on validation queries are equally good: the target is
the worse of the two best validation BCEs, which both reach. The published side is trained through
this project's own form of the network, which is faster than the plain one; where it is stopped
before it ends, it might have become better later, and needed longer: the ratio is a lower bound
then. Its validation BCE is of its best step; the closed form's calibration has read validation
scores too.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from flows.bench.rows import Row, Say, Side, Size
from flows.bench.world import made
from locus.bank import Bank, Queries
from locus.embedding.config import TrainingConfig
from locus.embedding.factors import FactorPlacement
from locus.embedding.training import TrainingData, train
from locus.encoding.text import DEFAULT_ENCODER
from locus.peers.trivial import bce

_ROOT = Path(__file__).resolve().parents[2]
_CAP_S = {Size.QUICK: 5.0, Size.FULL: 150.0}
_LOOK_EVERY = 10
_VALIDATION = 129


@dataclass(frozen=True)
class Learned:
    """How a way to learn went.

    Attributes:
        label: the way.
        path: (seconds, validation BCE) whenever it was looked at.
        capped: whether it was stopped by the clock.
    """

    label: str
    path: tuple[tuple[float, float], ...]
    capped: bool = False

    @property
    def best(self) -> float:
        """The best validation BCE on the way."""
        return min(loss for _, loss in self.path)

    def reached(self, target: float) -> float:
        """Seconds until a validation BCE was reached."""
        return next(seconds for seconds, loss in self.path if loss <= target)


def rows(size: Size, folder: Path, say: Say) -> Iterator[Row]:
    """The pool of 112 with 256 and with 850 training queries, each way to learn."""
    for bank, source in _banks(size, folder, say):
        n_models, n_queries = bank.values_MQ.shape
        what = f"learn a map, {n_models} x {n_queries}, {source}"
        cap = _CAP_S[size]
        say(f"{what}: LOCUS as published, {cap:.0f} s at most")
        peer = _attention(bank, TrainingConfig.published(context_max=n_queries), "published", cap)
        say(f"{what}: closed form")
        yield _row(what, _closed_form(bank), peer)
        say(f"{what}: our attention training")
        config = TrainingConfig()
        yield _row(what, _attention(bank, config, "attention, our settings", cap / 2), peer)


def _row(what: str, ours: Learned, peer: Learned) -> Row:
    target = max(ours.best, peer.best)
    return Row(
        what,
        Side(ours.label, (ours.reached(target),)),
        Side(peer.label, (peer.reached(target),)),
        "20 times as fast",
        {
            "validation BCE that both reach": target,
            "best, ours": ours.best,
            "best, published": peer.best,
            "published trained for, s": peer.path[-1][0],
            "capped": peer.capped,
        },
    )


def _closed_form(bank: Bank) -> Learned:
    """As a night learns it: items, relatives, text map, calibration by cross-fitting."""
    started = time.perf_counter()
    placement = FactorPlacement()
    placement.fit(bank, 0)
    p_MV = placement.predict(placement.place(bank.values_MQ), bank.val_queries)
    seconds = time.perf_counter() - started
    return Learned("closed form", ((seconds, bce(p_MV, bank.val_values_MV)),))


class _CapError(Exception):
    """The time is up."""


def _attention(bank: Bank, config: TrainingConfig, label: str, cap_s: float) -> Learned:
    data = TrainingData(
        bank.queries.phi_Qp, bank.values_MQ, bank.val_queries.phi_Qp, bank.val_values_MV
    )
    path: list[tuple[float, float]] = []
    started = time.perf_counter()

    def look(step: int, of: int, loss: float) -> None:
        path.append((time.perf_counter() - started, loss))
        if path[-1][0] > cap_s:
            raise _CapError

    # Both are looked at as often, and end after as many steps without a better one as set.
    patience = config.patience * config.check_every // _LOOK_EVERY
    config = replace(config, check_every=_LOOK_EVERY, patience=patience)
    try:
        train(data, config, on_progress=look)
    except _CapError:
        return Learned(label, tuple(path), capped=True)
    return Learned(label, tuple(path))


def _banks(size: Size, folder: Path, say: Say) -> Iterator[tuple[Bank, str]]:
    """Banks to learn from, and what they are."""
    if size is Size.QUICK:
        yield _made(24, 48), "made up"
        return
    real = Path(os.environ.get("LOCUS_DATA", _ROOT.parent / "shared" / "data")) / "oll-v1"
    if not real.is_dir():
        say(f"{real} is not there: scores are made up")
        for n_queries in (256, 850):
            yield _made(112, n_queries), "made up"
        return
    from locus.benchmark.data import load

    say(f"reading {real} and encoding its texts")
    data = load(real, DEFAULT_ENCODER, folder)
    for n_queries in (256, 850):
        some = np.sort(np.random.default_rng(0).permutation(data.n_train)[:n_queries])
        bank = Bank(
            data.queries["train"].take(some),
            data.pool.scores["train"][:, some],
            data.queries["val"],
            data.pool.scores["val"],
        )
        yield bank, "Open LLM Leaderboard"


def _made(n_models: int, n_queries: int) -> Bank:
    world = made(n_models, n_queries + _VALIDATION)
    every: Queries = world.queries
    learn, look = np.arange(n_queries), np.arange(n_queries, len(every))
    return Bank(
        every.take(learn), world.values_MQ[:, learn], every.take(look), world.values_MQ[:, look]
    )
