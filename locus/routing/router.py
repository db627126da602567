"""Routing a query never seen, from a published snapshot alone."""

from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from locus.bank import Array
from locus.encoding import TextEncoder, encoder_identity, precision_of
from locus.encoding.surface import SURFACE, surface
from locus.names import hint
from locus.routing.explain import likeness, reason
from locus.routing.policy import Bools, Decision, Floats, Ints, Policy, choose, pick
from locus.routing.pool import Pool, places, prices
from locus.routing.predictor import Predictor
from locus.routing.routed import Away, Choice, InTopic, Routed, Selected, Topic
from locus.routing.topics import Topics

__all__ = [
    "Away",
    "Choice",
    "InTopic",
    "Routed",
    "Router",
    "RoutingError",
    "Selected",
    "Topic",
    "prices",
]

_BEST = Policy()
# Chances ranked at a time: in float64 256 KB, which stay in a core's cache.
_CHANCES = 1 << 15


class RoutingError(RuntimeError):
    """A query that can't be routed; the message says why and what to do."""


class Router:
    """Ranks a published pool for queries it has never seen; see `Router.load`.

    A router is only read once it is made: threads may share it.
    """

    def __init__(
        self,
        snapshot_id: str,
        predictor: Predictor,
        models: pl.DataFrame,
        encoder: TextEncoder | None,
        stand_ins: dict[str, list[str]],
        topics: Topics | None = None,
    ) -> None:
        self.snapshot_id = snapshot_id
        self.models: list[str] = models["model_id"].to_list()
        self._at = {name: i for i, name in enumerate(self.models)}
        self._z_Md, covariance_Mu = places(models)
        self._prices_in = models["price_in_usd_per_mtok"].to_list()
        self._prices_M = prices(models)
        self._pool = predictor.prepare(self._z_Md, covariance_Mu)
        self._encoder = encoder
        self._stand_ins = stand_ins
        self._topics = topics

    @classmethod
    def load(cls, published: Path, encoder: str | None = None) -> "Router":
        """Load the current snapshot.

        Args:
            published: the published folder, the one with ``current.json``.
            encoder: sentence encoder to use; None takes the one that is named in the manifest. It
                computes in the precision that the predictor was trained with.

        Raises:
            SnapshotError: nothing is published.
            PredictorError: the predictor is unreadable or fails its own test vectors.
            RoutingError: the sentence encoder is not the one that the predictor was trained with.
        """
        pool = Pool.read(published)
        name = encoder or pool.encoder_name
        precision = precision_of(pool.predictor.encoder)
        if (found := encoder_identity(name, precision)) != pool.predictor.encoder:
            raise RoutingError(
                f"snapshot {pool.snapshot_id} was made with the sentence encoder "
                f"{pool.predictor.encoder!r}, and {name!r} is {found!r}: install "
                "the same one, or publish anew"
            )
        return cls._of(pool, TextEncoder(name, precision=precision))

    @classmethod
    def load_encoded(cls, published: Path) -> "Router":
        """Load the current snapshot for a program that brings its own encodings.

        It does all but read texts. That encodings are those of the predictor's encoder
        (`locus.encoding.encoder_identity`) is up to the program.

        Raises:
            SnapshotError: nothing is published.
            PredictorError: the predictor is unreadable or fails its own test vectors.
        """
        return cls._of(Pool.read(published), None)

    @classmethod
    def _of(cls, pool: Pool, encoder: TextEncoder | None) -> "Router":
        return cls(
            pool.snapshot_id, pool.predictor, pool.models, encoder, pool.stand_ins, pool.topics
        )

    def encode(self, texts: Sequence[str]) -> Array:
        """Features of T queries, float32 [T, f]: sentence encoding, then surface features.

        Raises:
            RoutingError: an empty query, or a router without a sentence encoder.
        """
        if not all(text.strip() for text in texts):
            raise RoutingError("a query is empty: give the text that the model will be asked")
        if self._encoder is None:
            raise RoutingError(
                "this router was loaded without a sentence encoder: use `Router.load`, or give "
                "encodings to `decide_encoded` or `select`"
            )
        return np.concatenate([self._encoder.encode(texts), surface(texts)], axis=1)

    def select(
        self,
        x_Tf: Array,
        policy: Policy = _BEST,
        *,
        exclude: Sequence[str] = (),
        only: Sequence[str] = (),
        unavailable: Sequence[str] = (),
        confidence: float = 0.95,
    ) -> Selected:
        """First choices alone, as arrays: what `decide` puts first, at full speed.

        Args:
            x_Tf: features of T queries, as `encode` gives them.
            policy: how to choose; see `decide`, as for the rest.
            exclude: models that may not answer.
            only: the only models that may answer; none named means all.
            unavailable: models that are down; here the same as ``exclude``.
            confidence: of the lower bound, one-sided.

        Raises:
            RoutingError: features of another shape, or as `decide`.
            PolicyError: see `locus.routing.policy`.
        """
        quantile = _quantile(confidence)
        x_Tf = self._features(x_Tf)
        up_M = None
        if exclude or only or unavailable:
            up_M = self._who(exclude, only, unavailable)[1]
        read_Tx = self._pool.read(x_Tf)
        n = len(read_Tx)
        chosen_T = np.full(n, -1, dtype=np.int64)
        p_T = np.full(n, np.nan, dtype=np.float32)
        doubt_T: NDArray[np.float32] | None = None
        # A budget is for all queries together; every other policy looks at one query at a time.
        block = n or 1
        if policy.kind != "budget":
            block = max(16, _CHANCES // len(self.models))
        cost_M = self._prices_M if policy.asks_cost else None
        for start in range(0, n, block):
            part_Bx = read_Tx[start : start + block]
            p_BM = self._pool.chances(part_Bx)
            lower_BM = self._lower(p_BM, part_Bx, quantile) if policy.asks_lower else None
            if policy.asks_lower and lower_BM is None:
                raise self._no_bounds()
            first_B = pick(p_BM, policy, cost_M=cost_M, lower_TM=lower_BM, allowed=up_M)
            chosen_T[start : start + block] = first_B
            p_T[start : start + block] = p_BM[np.arange(len(first_B)), first_B]
            doubt_B = self._pool.doubts(part_Bx, first_B)
            if doubt_B is not None:
                doubt_T = np.empty(n, dtype=np.float32) if doubt_T is None else doubt_T
                doubt_T[start : start + block] = doubt_B
        # For nobody the last model was looked up above.
        p_T[chosen_T < 0] = np.nan
        if doubt_T is None:
            return Selected(chosen_T, p_T, None)
        lower_T = np.clip(p_T - quantile * doubt_T, 0, 1).astype(np.float32)
        return Selected(chosen_T, p_T, lower_T)

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
            explain=False,
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
        explain: bool = True,
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
            explain: whether to give reasons, and the topic that each query is like.

        Raises:
            RoutingError: an empty query, an unknown model, nobody left, or a policy that asks for
                lower bounds where the map knows none.
            PolicyError: see `locus.routing.policy`.
        """
        # What is wrong with the question is said before texts are encoded, which takes longest.
        _quantile(confidence)
        self._who(exclude, only, unavailable)
        return self.decide_encoded(
            self.encode(texts), k, exclude, policy,
            only=only, unavailable=unavailable, confidence=confidence, explain=explain,
        )  # fmt: skip

    def decide_encoded(
        self,
        x_Tf: Array,
        k: int = 3,
        exclude: Sequence[str] = (),
        policy: Policy = _BEST,
        *,
        only: Sequence[str] = (),
        unavailable: Sequence[str] = (),
        confidence: float = 0.95,
        explain: bool = True,
    ) -> Routed:
        """As `decide`, for queries whose features [T, f] are at hand (`encode`).

        Raises:
            RoutingError: features of another shape, or as `decide`.
            PolicyError: see `locus.routing.policy`.
        """
        quantile = _quantile(confidence)
        wanted_M, up_M = self._who(exclude, only, unavailable)
        x_Tf = self._features(x_Tf)
        read_Tx = self._pool.read(x_Tf)
        p_TM = self._pool.chances(read_Tx).astype(np.float64)
        lower_TM = self._lower(p_TM, read_Tx, quantile)
        if policy.asks_lower and lower_TM is None:
            raise self._no_bounds()
        # Without a policy on prices, ties go to the lower index, as they always did.
        cost_M = self._prices_M if policy.asks_cost else None
        decision = choose(p_TM, policy, cost_M=cost_M, lower_TM=lower_TM, allowed=up_M)
        whole = decision
        if unavailable:
            whole = choose(p_TM, policy, cost_M=cost_M, lower_TM=lower_TM, allowed=wanted_M)
        # The chosen one counts under every policy, whether or not it asks for prices.
        first = decision.chosen_T[decision.chosen_T >= 0]
        cost = float(self._prices_M[first].sum())
        hidden = {*exclude, *unavailable}
        choices = [
            self._choices(decision.ranking_TM[t], p_TM[t], lower_TM, t, k, hidden)
            for t in range(len(p_TM))
        ]
        reasons: list[str] = [""] * len(choices)
        topics: list[Topic | None] = [None] * len(choices)
        if explain:
            reasons = [
                reason(policy, decision, t, self.models, p_TM[t], self._prices_M, lower_TM)
                for t in range(len(p_TM))
            ]
            if self._topics is not None:
                found, choices = self._topics.tell(x_Tf[:, : self._pool.d_query], choices)
                topics = [*found]
                reasons = [
                    f"{why}; {likeness(topic, some)}"
                    for why, topic, some in zip(reasons, found, choices, strict=True)
                ]
        return Routed(
            choices,
            reasons,
            [self._away(m, up_M, whole) for m in dict.fromkeys(unavailable)],
            [self.models[i] for i in decision.unknown_cost],
            None if np.isnan(cost) else cost,
            decision.expected,
            topics,
        )

    def _features(self, x_Tf: Array) -> Array:
        x_Tf = np.asarray(x_Tf, dtype=np.float32)
        width = self._pool.d_query + len(SURFACE)
        if x_Tf.ndim != 2 or x_Tf.shape[1] != width:
            raise RoutingError(
                f"features have the shape {list(x_Tf.shape)}; snapshot {self.snapshot_id} reads "
                f"[queries, {width}], as `Router.encode` gives: an encoding of "
                f"{self._pool.d_query} numbers, then {len(SURFACE)} of the surface"
            )
        return x_Tf

    def _who(
        self, exclude: Sequence[str], only: Sequence[str], unavailable: Sequence[str]
    ) -> tuple[Bools, Bools]:
        """Models that may answer, and those of them that are up, bool [M]."""
        wanted_M = np.full(len(self.models), not only)
        wanted_M[self._positions(only)] = True
        wanted_M[self._positions(exclude)] = False
        if not wanted_M.any():
            raise RoutingError("every model of the pool is excluded: nobody is left to answer")
        up_M = wanted_M.copy()
        up_M[self._positions(unavailable)] = False
        if not up_M.any():
            raise RoutingError("every model that may answer is unavailable: nobody is left")
        return wanted_M, up_M

    def _positions(self, names: Sequence[str]) -> list[int]:
        for name in names:
            if name not in self._at:
                raise RoutingError(
                    f"{name!r} is not in snapshot {self.snapshot_id}: "
                    + hint(name, self.models, "`locus models list` shows them")
                )
        return [self._at[name] for name in names]

    def _no_bounds(self) -> RoutingError:
        return RoutingError(
            f"the map of snapshot {self.snapshot_id} doesn't know how sure its places are, so "
            "there are no lower bounds: use another policy, or make the map with the method "
            "'factors'"
        )

    def _lower(
        self, p_TM: NDArray[np.floating[Any]], read_Tx: Array, quantile: float
    ) -> Floats | None:
        deviation_TM = self._pool.doubts(read_Tx)
        if deviation_TM is None:
            return None
        return np.asarray(np.clip(p_TM - quantile * deviation_TM, 0, 1), dtype=np.float64)

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

    def _away(self, name: str, up_M: Bools, whole: Decision) -> Away:
        at = self._at[name]
        distance_M = np.linalg.norm(self._z_Md - self._z_Md[at], axis=1)
        near = [i for i in np.argsort(distance_M, kind="stable").tolist() if up_M[i]]
        return Away(
            name,
            np.flatnonzero(whole.chosen_T == at).tolist(),
            [self.models[i] for i in near[:3]],
        )


def _quantile(confidence: float) -> float:
    if not 0.5 <= confidence < 1:
        raise RoutingError(f"the confidence is {confidence}: give 0.5 up to below 1")
    return NormalDist().inv_cdf(confidence)
