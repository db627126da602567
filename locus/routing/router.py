"""Routing a query never seen, from a published snapshot alone."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl

from locus import snapshots
from locus.bank import Array
from locus.encoding import TextEncoder, encoder_identity
from locus.encoding.surface import surface
from locus.names import hint
from locus.routing import predictor as predictors
from locus.routing.explain import reason
from locus.routing.policy import Decision, Floats, Ints, Policy, choose
from locus.routing.predictor import Predictor

_BEST = Policy()


class RoutingError(RuntimeError):
    """A query that can't be routed; the message says why and what to do."""


@dataclass(frozen=True)
class Choice:
    """One candidate for a query.

    Attributes:
        rank: 1 is best.
        model_id: the model.
        p_correct: predicted probability that it answers correctly.
        price_in_usd_per_mtok: its price for a million tokens read; None where unknown.
        stand_ins: who answers in its place, nearest first.
        lower_bound: p_correct less what the doubt about the model's place may take from it (normal
            approximation, clipped to [0, 1]); None where the map knows no doubt.
        price_usd_per_mtok: what policies count: a million tokens read, plus a million written
            where that price is known; None where unknown.
    """

    rank: int
    model_id: str
    p_correct: float
    price_in_usd_per_mtok: float | None
    stand_ins: list[str]
    lower_bound: float | None = None
    price_usd_per_mtok: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Away:
    """A model that can't be asked now.

    Attributes:
        model_id: the model.
        would_answer: positions of the queries that it would have been chosen for.
        stand_ins: models that may answer, nearest to it first.
    """

    model_id: str
    would_answer: list[int]
    stand_ins: list[str]


@dataclass(frozen=True)
class Routed:
    """What `Router.decide` found, for T queries.

    Attributes:
        choices: for each query the candidates, best first; empty where nobody answers.
        reasons: for each query why the first one was chosen, or why nobody answers.
        away: one for each unavailable model.
        unknown_price: models left out because the policy asks for a price and theirs is unknown.
        cost: price of the first choices together; None where one is unknown.
        expected: right answers expected of the first choices together.
    """

    choices: list[list[Choice]]
    reasons: list[str]
    away: list[Away]
    unknown_price: list[str]
    cost: float | None
    expected: float


class Router:
    """Ranks a published pool for queries it has never seen; see `Router.load`."""

    def __init__(
        self,
        snapshot_id: str,
        predictor: Predictor,
        models: pl.DataFrame,
        encoder: TextEncoder,
        stand_ins: dict[str, list[str]],
    ) -> None:
        self.snapshot_id = snapshot_id
        self.models: list[str] = models["model_id"].to_list()
        self._z_Md = np.asarray(models["vector"].to_list(), dtype=np.float32)
        self._covariance_Mu: Array | None = None
        if "covariance" in models.columns and not models["covariance"].null_count():
            self._covariance_Mu = np.asarray(models["covariance"].to_list(), dtype=np.float32)
        self._prices_in = models["price_in_usd_per_mtok"].to_list()
        self._prices_M = prices(models)
        self._predictor = predictor
        self._pool = predictor.prepare(self._z_Md)
        self._encoder = encoder
        self._stand_ins = stand_ins

    @classmethod
    def load(cls, published: Path, encoder: str | None = None) -> "Router":
        """Load the current snapshot.

        Args:
            published: the published folder, the one with ``current.json``.
            encoder: sentence encoder to use; None takes the one that is named in the manifest.

        Raises:
            SnapshotError: nothing is published.
            PredictorError: the predictor is unreadable or fails its own test vectors.
            RoutingError: the sentence encoder is not the one that the predictor was trained with.
        """
        snapshot = snapshots.current(published)
        predictor = predictors.read(snapshot.folder / "routing" / "predictor")
        name = encoder or snapshot.manifest["lineage"]["encoder_name"]
        if encoder_identity(name) != predictor.encoder:
            raise RoutingError(
                f"snapshot {snapshot.snapshot_id} was made with the sentence encoder "
                f"{predictor.encoder!r}, and {name!r} is {encoder_identity(name)!r}: install the "
                "same one, or publish anew"
            )
        models = pl.read_parquet(snapshot.folder / "similarity" / "embeddings.parquet")
        table = json.loads((snapshot.folder / "routing" / "table.json").read_text("utf-8"))
        return cls(snapshot.snapshot_id, predictor, models, TextEncoder(name), table["stand_ins"])

    def route(
        self,
        texts: Sequence[str],
        k: int = 3,
        exclude: Sequence[str] = (),
        policy: Policy = _BEST,
        *,
        only: Sequence[str] = (),
        unavailable: Sequence[str] = (),
        confidence: float = 0.95,
    ) -> list[list[Choice]]:
        """Rank the pool for each query; see `decide`.

        Returns:
            For each query the best k candidates, best first; none where the policy abstains.
        """
        return self.decide(
            texts,
            k,
            exclude,
            policy,
            only=only,
            unavailable=unavailable,
            confidence=confidence,
        ).choices

    def decide(
        self,
        texts: Sequence[str],
        k: int = 3,
        exclude: Sequence[str] = (),
        policy: Policy = _BEST,
        *,
        only: Sequence[str] = (),
        unavailable: Sequence[str] = (),
        confidence: float = 0.95,
    ) -> Routed:
        """Rank the pool for each query by a policy, and say why.

        Args:
            texts: T queries.
            k: candidates to return.
            exclude: models that may not answer, and are not named as stand-ins either.
            policy: how to choose; its costs are prices in USD per million tokens.
            only: the only models that may answer; none named means all.
            unavailable: models that are down: as ``exclude``, and it is said who steps in.
            confidence: of the lower bound, one-sided, from 0.5 up to below 1.

        Raises:
            RoutingError: an empty query, an unknown model, nobody left, or a policy that asks for
                lower bounds where the map knows none.
            PolicyError: see `locus.routing.policy`.
        """
        if not all(text.strip() for text in texts):
            raise RoutingError("a query is empty: give the text that the model will be asked")
        if not 0.5 <= confidence < 1:
            raise RoutingError(f"the confidence is {confidence}: give 0.5 up to below 1")
        for name in [*exclude, *only, *unavailable]:
            self._check(name)
        away = set(unavailable)
        wanted = [m for m in self.models if (not only or m in set(only)) and m not in set(exclude)]
        if not wanted:
            raise RoutingError("every model of the pool is excluded: nobody is left to answer")
        if not set(wanted) - away:
            raise RoutingError("every model that may answer is unavailable: nobody is left")
        x_Tf = np.concatenate([self._encoder.encode(texts), surface(texts)], axis=1)
        p_TM = self._pool.probabilities(x_Tf).astype(np.float64)
        lower_TM = self._lower(p_TM, x_Tf, confidence)
        if policy.asks_lower and lower_TM is None:
            raise RoutingError(
                f"the map of snapshot {self.snapshot_id} doesn't know how sure its places are, so "
                "there are no lower bounds: use another policy, or make the map with the method "
                "'factors'"
            )
        up_M = np.array([m in set(wanted) - away for m in self.models])
        # Without a policy on prices, ties go to the lower index, as they always did.
        cost_M = self._prices_M if policy.asks_cost else None
        decision = choose(p_TM, policy, cost_M=cost_M, lower_TM=lower_TM, allowed=up_M)
        whole = decision
        if away:
            all_up_M = np.array([m in set(wanted) for m in self.models])
            whole = choose(p_TM, policy, cost_M=cost_M, lower_TM=lower_TM, allowed=all_up_M)
        # The chosen one counts under every policy, whether or not it asks for prices.
        first = decision.chosen_T[decision.chosen_T >= 0]
        cost = float(self._prices_M[first].sum())
        hidden = set(exclude) | away
        return Routed(
            [
                self._choices(decision.ranking_TM[t], p_TM[t], lower_TM, t, k, hidden)
                for t in range(len(texts))
            ],
            [
                reason(policy, decision, t, self.models, p_TM[t], self._prices_M, lower_TM)
                for t in range(len(texts))
            ],
            [self._away(m, up_M, whole) for m in dict.fromkeys(unavailable)],
            [self.models[i] for i in decision.unknown_cost],
            None if np.isnan(cost) else cost,
            decision.expected,
        )

    def _check(self, name: str) -> None:
        if name not in self.models:
            raise RoutingError(
                f"{name!r} is not in snapshot {self.snapshot_id}: "
                + hint(name, self.models, "`locus models list` shows them")
            )

    def _lower(self, p_TM: Floats, x_Tf: Array, confidence: float) -> Floats | None:
        deviation_TM = self._predictor.deviations(self._covariance_Mu, x_Tf)
        if deviation_TM is None:
            return None
        quantile = NormalDist().inv_cdf(confidence)
        return np.asarray(np.clip(p_TM - quantile * deviation_TM, 0, 1))

    def _choices(
        self,
        ranking_M: Ints,
        p_M: Floats,
        lower_TM: Floats | None,
        row: int,
        k: int,
        hidden: set[str],
    ) -> list[Choice]:
        return [
            Choice(
                rank,
                self.models[at],
                float(p_M[at]),
                self._prices_in[at],
                [m for m in self._stand_ins.get(self.models[at], []) if m not in hidden],
                None if lower_TM is None else float(lower_TM[row, at]),
                None if np.isnan(self._prices_M[at]) else float(self._prices_M[at]),
            )
            for rank, at in enumerate(ranking_M[ranking_M >= 0][:k].tolist(), start=1)
        ]

    def _away(self, name: str, up_M: np.ndarray[Any, np.dtype[np.bool_]], whole: Decision) -> Away:
        at = self.models.index(name)
        distance_M = np.linalg.norm(self._z_Md - self._z_Md[at], axis=1)
        near = [i for i in np.argsort(distance_M, kind="stable").tolist() if up_M[i]]
        return Away(
            name,
            np.flatnonzero(whole.chosen_T == at).tolist(),
            [self.models[i] for i in near[:3]],
        )


def prices(models: pl.DataFrame) -> Floats:
    """One price a model, [M]: USD for a million tokens read, plus a million written if known.

    NaN where the price of reading is unknown.
    """
    read, written = (
        models[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        for name in ("price_in_usd_per_mtok", "price_out_usd_per_mtok")
    )
    return np.asarray(read + np.nan_to_num(written, nan=0.0))
