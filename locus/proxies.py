"""Who answers when a model is down, and what that costs.

Belongs here: nearest neighbours and stand-ins per bucket of queries, and how much of routing is
left with them. Does not belong here: where distances and predictions come from, how stand-ins are
published (`locus.routing.table`).

Shape letters: M models, T queries, G buckets, k stand-ins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locus.similarity import predicted_disagreement

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class ProxyInputError(ValueError):
    """Input that no stand-in can be found from; the message names what is wrong."""


@dataclass(frozen=True)
class StandIns:
    """The best stand-ins of each model in each bucket.

    Attributes:
        buckets: G names.
        models_GMk: indices of models, best first, int64; never the model itself.
        worth_GMk: what ranked them: expected agreement with the model, or expected score; NaN where
            the bucket has no prediction and the nearest neighbour stands in.
    """

    buckets: tuple[str, ...]
    models_GMk: Ints
    worth_GMk: Floats

    def for_queries(self, bucket_T: Sequence[str]) -> Ints:
        """Stand-ins of each model on each query, [T, M, k].

        Raises:
            ProxyInputError: a bucket that there is nothing for.
        """
        at = {name: i for i, name in enumerate(self.buckets)}
        for name in bucket_T:
            if name not in at:
                raise ProxyInputError(
                    f"bucket {name!r} is unknown; there are {', '.join(self.buckets)}"
                )
        chains: Ints = self.models_GMk[[at[name] for name in bucket_T]]
        return chains


@dataclass(frozen=True)
class ProxyRouting:
    """Routing when models are down, on queries that both the chosen and its stand-in answered.

    Attributes:
        hit1: mean score of the router's choice with every model up.
        hit1_proxied: mean score when stand-ins answer for models that are down.
        kept: the second over the first; None where the first is 0.
        hit1_rerouted: mean score of the best model that is up by p, the fair bar, since a router
            that still runs would do that; None if every model is down.
        replaced: share of queries that a stand-in answered.
        n: queries.
    """

    hit1: float
    hit1_proxied: float
    kept: float | None
    hit1_rerouted: float | None
    replaced: float
    n: int


def nearest_neighbours(distances_MM: ArrayLike, k: int = 1) -> Ints:
    """The k nearest other models of each, nearest first, [M, k]; ties go to the lower index.

    Raises:
        ProxyInputError: distances are not a square of finite numbers, or k is not 1 to M - 1.
    """
    d = _distances(distances_MM)
    _check_k(k, len(d))
    away = d.copy()
    np.fill_diagonal(away, np.inf)
    near: Ints = np.argsort(away, axis=1, kind="stable")[:, :k].astype(np.int64)
    return near


def stand_ins(
    p_TM: ArrayLike,
    bucket_T: Sequence[str],
    distances_MM: ArrayLike,
    k: int = 1,
    *,
    by: Literal["agreement", "quality"] = "agreement",
    buckets: Sequence[str] | None = None,
) -> StandIns:
    """The k best stand-ins for each bucket and model.

    ``agreement`` ranks by expected agreement on the bucket's queries, 1 minus
    `locus.similarity.predicted_disagreement`. It leans to the strong: who is mostly right is
    expected to agree most with who is always right. ``quality`` ranks by expected score on the
    bucket: who answers best in its place, the same order for all models.
    Ties go to the nearer model, then to the lower index.

    Args:
        p_TM: predicted P(correct), [T, M]; NaN where there is no prediction.
        bucket_T: the bucket of each query.
        distances_MM: distances in the embedding.
        k: stand-ins wanted, at most M - 1.
        by: what makes a good stand-in.
        buckets: buckets wanted; None takes those of ``bucket_T``, sorted. One without a query, or
            with a query without a prediction for a model, falls back on nearest neighbours for the
            models concerned.

    Raises:
        ProxyInputError: shapes differ, or k or ``by`` is out of range.
    """
    p, d = np.asarray(p_TM, dtype=np.float64), _distances(distances_MM)
    n_models = len(d)
    if p.shape != (len(bucket_T), n_models):
        raise ProxyInputError(
            f"p_TM has shape {p.shape} for {len(bucket_T)} queries and {n_models} models"
        )
    _check_k(k, n_models)
    if by not in ("agreement", "quality"):
        raise ProxyInputError(f"by is {by!r}; use 'agreement' or 'quality'")
    names = tuple(sorted(set(bucket_T))) if buckets is None else tuple(buckets)
    labels = np.array(list(bucket_T), dtype=object)
    models_GMk = np.empty((len(names), n_models, k), dtype=np.int64)
    worth_GMk = np.empty((len(names), n_models, k))
    away = d.copy()
    np.fill_diagonal(away, np.inf)
    for g, name in enumerate(names):
        worth_MM = _worth(p[labels == name], n_models, by)
        # No prediction ranks below every prediction; the model itself below all.
        key = np.where(np.isnan(worth_MM), -1.0, worth_MM)
        np.fill_diagonal(key, -2.0)
        order = np.lexsort((away, -key), axis=1)[:, :k]
        models_GMk[g] = order
        worth_GMk[g] = np.take_along_axis(worth_MM, order, axis=1)
    return StandIns(names, models_GMk, worth_GMk)


def _worth(p: Floats, n_models: int, by: str) -> Floats:
    """What each column's model is worth in the place of each row's, [M, M]; NaN where unknown."""
    worth_MM = np.full((n_models, n_models), np.nan)
    known = np.flatnonzero(~np.isnan(p).any(axis=0)) if len(p) else np.array([], dtype=np.int64)
    if not len(known):
        return worth_MM
    inner = p[:, known]
    if by == "quality":
        worth_MM[:, known] = inner.mean(axis=0)
    else:
        worth_MM[np.ix_(known, known)] = 1 - predicted_disagreement(inner)
    return worth_MM


def routing_with_proxies(
    p_TM: ArrayLike,
    y_TM: ArrayLike,
    proxies: ArrayLike,
    down: ArrayLike | None = None,
) -> ProxyRouting:
    """How much of routing is kept when the stand-ins of models that are down answer.

    The router still picks by p over all models that answered the query; who is picked and is down
    is replaced by the first of its stand-ins that is up.

    Args:
        p_TM: predicted P(correct), [T, M].
        y_TM: scores, [T, M]; NaN where missing.
        proxies: stand-ins of each model, best first, [M, k], or for each query, [T, M, k].
        down: bool mask [M] of models that are down. None is the published experiment: the first
            stand-in answers in place of every model, at once.

    Raises:
        ProxyInputError: shapes differ, a stand-in is unknown or the model itself, nobody is up to
            stand in, or no query has the answers that it takes.
    """
    p, y = np.asarray(p_TM, dtype=np.float64), np.asarray(y_TM, dtype=np.float64)
    if p.ndim != 2 or p.shape != y.shape or p.size == 0 or np.isnan(p).any():
        raise ProxyInputError(f"p_TM of shape {p.shape} must be known and match y_TM, {y.shape}")
    n_queries, n_models = p.shape
    chains = _chains(proxies, n_queries, n_models)
    down_M = np.ones(n_models, dtype=bool) if down is None else np.asarray(down)
    if down_M.dtype != np.bool_ or down_M.shape != (n_models,):
        raise ProxyInputError(f"down must be a bool mask of {n_models} models")
    asked = ~np.isnan(y)
    rows = np.arange(n_queries)
    picked_T = np.where(asked, p, -np.inf).argmax(axis=1)
    chain_Tk = chains[rows, picked_T]
    # In the published experiment a stand-in answers although its own seat is taken by another.
    up_Tk = np.ones(chain_Tk.shape, dtype=bool) if down is None else ~down_M[chain_Tk]
    replaced_T = down_M[picked_T]
    stuck = np.flatnonzero(replaced_T & ~up_Tk.any(axis=1) & asked.any(axis=1))
    if len(stuck):
        raise ProxyInputError(
            f"model {picked_T[stuck[0]]} is down, and so are all its {chain_Tk.shape[1]} "
            "stand-ins: pass longer chains"
        )
    answers_T = np.where(replaced_T, chain_Tk[rows, up_Tk.argmax(axis=1)], picked_T)
    kept_T = asked.any(axis=1) & asked[rows, answers_T]
    if down is not None and not down_M.all():
        kept_T &= asked[:, ~down_M].any(axis=1)
    if not kept_T.any():
        raise ProxyInputError("no query was answered by both a model and its stand-in")
    full, proxied = (float(y[rows, who][kept_T].mean()) for who in (picked_T, answers_T))
    rerouted: float | None = None
    if not down_M.all():
        other_T = np.where(asked & ~down_M, p, -np.inf).argmax(axis=1)
        rerouted = float(y[rows, other_T][kept_T].mean())
    return ProxyRouting(
        full,
        proxied,
        proxied / full if full > 0 else None,
        rerouted,
        float(replaced_T[kept_T].mean()),
        int(kept_T.sum()),
    )


def _chains(proxies: ArrayLike, n_queries: int, n_models: int) -> Ints:
    """Stand-ins as [T, M, k]."""
    chains = np.asarray(proxies)
    if chains.ndim == 1:
        chains = chains[:, None]
    shape = chains.shape
    if shape[:-1] not in ((n_models,), (n_queries, n_models)) or shape[-1] == 0:
        raise ProxyInputError(
            f"proxies of shape {shape}; give [{n_models}, k] or [{n_queries}, {n_models}, k]"
        )
    if (
        not np.issubdtype(chains.dtype, np.integer)
        or not ((chains >= 0) & (chains < n_models)).all()
    ):
        raise ProxyInputError(f"a stand-in is none of the models 0 to {n_models - 1}")
    if (chains == np.arange(n_models)[:, None]).any():
        raise ProxyInputError("a model is its own stand-in; leave it out of its chain")
    return np.broadcast_to(chains, (n_queries, n_models, shape[-1])).astype(np.int64)


def _distances(distances_MM: ArrayLike) -> Floats:
    d = np.asarray(distances_MM, dtype=np.float64)
    if d.ndim != 2 or d.shape[0] != d.shape[1] or not np.isfinite(d).all():
        raise ProxyInputError(f"distances of shape {d.shape} must be a square of finite numbers")
    return d


def _check_k(k: int, n_models: int) -> None:
    if not 1 <= k < n_models:
        raise ProxyInputError(f"k is {k}; a model has {max(n_models - 1, 0)} others to stand in")
