"""Scores to measure on where no real ones lie at hand, and maps without the time to learn them.

Made-up leaderboards have what makes real ones costly or cheap: items from easy to hard, factors
behind the answers, families of models that answer alike, benchmarks, and a few holes.

Shape letters: M models, Q queries, p width of an encoding, s surface features, k factors.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from locus.bank import Array, Queries
from locus.embedding.calibration import Calibration
from locus.embedding.factors import FactorPlacement
from locus.embedding.items import Floats, Items
from locus.embedding.maps import FactorMap
from locus.embedding.posterior import posterior
from locus.embedding.textmap import TextMap, one_hot
from locus.encoding.surface import SURFACE

D_QUERY = 384
_BENCHMARKS = 6
_FACTORS = 16
_OFFSET = 0.1
# Answers of a re-tune that are its own; about half of the models of a leaderboard are re-tunes.
_OWN_SHARE = 0.15
_HOLES = 0.036
_PRIOR = np.array([0.05, 0.1, 0.15, 0.15, 0.1, 0.05, 0.05, 0.35])
_ROWS = 512
_TEXTS = 1000


@dataclass(frozen=True)
class World:
    """A made-up leaderboard.

    Attributes:
        values_MQ: scores 0 and 1, NaN in holes.
        queries: encodings, benchmarks, surface features.
        loadings_Qk: of each query on the factors, in logits.
        hard_Q: how hard each query is, in logits.
    """

    values_MQ: Array
    queries: Queries
    loadings_Qk: Floats
    hard_Q: Floats

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Query ids, in alphabetical order."""
        return tuple(f"q{i:06d}" for i in range(len(self.queries)))

    @cached_property
    def x_Qf(self) -> Array:
        """Features as the pipeline stores them: the encoding, then the surface features."""
        assert self.queries.surface_Qs is not None  # noqa: S101  `made` gives them
        return np.concatenate([self.queries.phi_Qp, self.queries.surface_Qs], axis=1)


def made(n_models: int, n_queries: int, seed: int = 0, holes: float = _HOLES) -> World:
    """Make one; half of the models are re-tunes of others, in families of about ten."""
    rng = np.random.default_rng(seed)
    of = rng.integers(0, _BENCHMARKS, n_queries)
    centres = rng.normal(size=(_BENCHMARKS, D_QUERY))
    phi = centres[of] + 1.5 * rng.normal(size=(n_queries, D_QUERY))
    phi /= np.linalg.norm(phi, axis=1, keepdims=True)
    surface = rng.normal(size=(n_queries, len(SURFACE))) + 0.3 * of[:, None]
    queries = Queries(
        phi.astype(np.float32), tuple(f"benchmark {i}" for i in of), surface.astype(np.float32)
    )
    # The first factor is how good a model is; the others tell less and less.
    strength_k = 1.2 * 0.75 ** np.arange(_FACTORS)
    loadings = strength_k * rng.normal(size=(n_queries, _FACTORS))
    loadings[:, 0] = np.abs(loadings[:, 0])
    hard = rng.normal(0, 1.2, n_queries) + 0.5 * centres[of, 0]
    skill = rng.normal(size=(n_models, _FACTORS))
    base = rng.integers(0, max(n_models // 20, 1), n_models)
    retune = (rng.random(n_models) < 0.5) & (np.arange(n_models) > base)
    values = np.empty((n_models, n_queries), dtype=np.float32)
    loadings_kQ, hard32 = loadings.T.astype(np.float32), hard.astype(np.float32)
    for start in range(0, n_models, _ROWS):
        rows = slice(start, min(start + _ROWS, n_models))
        chance = 1 / (1 + np.exp(hard32 - skill[rows].astype(np.float32) @ loadings_kQ))
        values[rows] = rng.random(chance.shape, dtype=np.float32) < chance
    for row in np.flatnonzero(retune):
        theirs = rng.random(n_queries, dtype=np.float32) >= _OWN_SHARE
        values[row, theirs] = values[base[row], theirs]
    for scores_Q in values:
        scores_Q[rng.random(n_queries, dtype=np.float32) < holes] = np.nan
    return World(values, queries, loadings, hard)


def map_of(world: World, n_models: int | None = None) -> FactorMap:
    """The map of its first models (all by default), from what the world was made with.

    Nothing is learned; placing by it costs what placing by a learned map of that size costs.
    """
    trained_MQ = world.values_MQ[:n_models]
    chance = 1 / (1 + np.exp(world.hard_Q))
    slope = chance * (1 - chance)
    member = one_hot(world.queries)
    offsets = _OFFSET * member
    features = np.concatenate([slope[:, None] * world.loadings_Qk, offsets], axis=1)
    placement = FactorPlacement()
    placement.items = Items(chance, features, slope + 1e-3)
    placement.with_offset = np.arange(member.shape[1])
    some = np.arange(min(len(world.queries), _TEXTS))
    placement.text, _ = TextMap.fit(
        world.queries.take(some),
        np.concatenate([chance[:, None], features[:, :_FACTORS]], axis=1)[some],
        np.ones(len(some)),
    )
    placement.basis_kd = np.eye(features.shape[1])
    placement.calibration = placement.bank_calibration = Calibration(0.0, 1.0)
    placement.kinship_prior_c = _PRIOR
    placement.relatives_MQ = np.empty(trained_MQ.shape, dtype=np.float32)
    placement.relatives_Mk = np.empty((len(trained_MQ), features.shape[1]))
    for start in range(0, len(trained_MQ), _ROWS):
        rows = slice(start, start + _ROWS)
        values = trained_MQ[rows].astype(np.float64)
        mean_Bk, _, own_BQ = posterior(values, placement.items)
        placement.relatives_MQ[rows] = np.where(np.isnan(values), own_BQ, values)
        placement.relatives_Mk[rows] = mean_Bk
    return FactorMap(placement, world.ids)
