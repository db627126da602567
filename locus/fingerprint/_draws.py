"""Pairs whose truth is known, to calibrate on."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locus.bank import Array
from locus.fingerprint._statistic import Floats, Ints, agreement, place_features

Place = Callable[[Array], tuple[ArrayLike, ArrayLike]]

# A score of 0.5 or more counts as right, as everywhere agreement is counted.
RIGHT = 0.5


class Draws:
    """Samples of pool models' scores in pairs, as two endpoints would have them."""

    def __init__(
        self,
        values_MQ: Array,
        away_MM: Floats,
        n: int,
        n_common: int,
        self_disagreement: float,
        rivals: int | None,
        seed: int,
    ) -> None:
        self.values = values_MQ
        self.asked = ~np.isnan(values_MQ)
        self.n, self.n_common, self.flip = n, n_common, self_disagreement
        self.rng = np.random.default_rng(seed)
        self.enough = np.flatnonzero(self.asked.sum(axis=1) >= 2 * n - n_common)
        self.rivals: dict[int, Ints] = {}
        for model in self.enough.tolist():
            others = self.enough[self.enough != model]
            if rivals is not None:
                others = others[np.argsort(away_MM[model, others], kind="stable")[:rivals]]
            self.rivals[model] = others

    def features(self, place: Place, rounds: int, near: float) -> tuple[Floats, NDArray[np.bool_]]:
        """Features of all pairs and which are of the same model."""
        found: list[Floats] = []
        same: list[bool] = []
        for _ in range(rounds):
            left, right, agree = [], [], []
            for model in self.enough.tolist():
                partners = [model]
                if len(self.rivals[model]):
                    partners.append(int(self.rng.choice(self.rivals[model])))
                for partner in partners:
                    pair = self._pair(model, partner)
                    if pair is None:
                        continue
                    left.append(pair[0])
                    right.append(pair[1])
                    agree.append(pair[2])
                    same.append(model == partner)
            if not left:
                continue
            one, other = place(np.stack(left)), place(np.stack(right))
            columns = [place_features(*one, *other)]
            if self.n_common:
                ratio = agreement(np.array(agree), self.n_common, near, self.flip)
                columns.append(ratio[:, None])
            found.append(np.concatenate(columns, axis=1))
        width = 3 if self.n_common else 2
        stacked = np.concatenate(found) if found else np.empty((0, width))
        return stacked, np.array(same, dtype=bool)

    def _pair(self, a: int, b: int) -> tuple[Array, Array, float] | None:
        """Scores of two endpoints, and on how many common queries they agree."""
        both = np.flatnonzero(self.asked[a] & self.asked[b])
        if len(both) < self.n_common:
            return None
        common = self.rng.permutation(both)[: self.n_common]
        own = self.n - self.n_common
        free_a, free_b = self.asked[a].copy(), self.asked[b].copy()
        free_a[common] = free_b[common] = False
        only_a = self.rng.permutation(np.flatnonzero(free_a))[:own]
        free_b[only_a] = False
        only_b = self.rng.permutation(np.flatnonzero(free_b))[:own]
        if len(only_a) < own or len(only_b) < own:
            return None
        left, right = (np.full(self.values.shape[1], np.nan, np.float32) for _ in range(2))
        left[only_a], left[common] = self.values[a, only_a], self.values[a, common]
        right[only_b], right[common] = self.values[b, only_b], self.values[b, common]
        if a == b and self.n_common:
            turned = common[self.rng.random(self.n_common) < self.flip]
            right[turned] = 1 - right[turned]
        agree = float(((left[common] >= RIGHT) == (right[common] >= RIGHT)).sum())
        return left, right, agree
