"""Find models like this: from wanted accuracies to a place on the map and who lives there.

Belongs here: synthesising the scores of a model that doesn't exist, and its neighbours. Does not
belong here: how a model is placed by its scores (`locus.embedding`).

Shape letters: Q bank queries, M models, d width of an embedding.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locus.bank import Array
from locus.embedding.calibration import sigmoid

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# A query that everybody or nobody has answered right is not taken for certain.
_EDGE = 0.02
# Halvings of the interval of the shift: from +-hundreds to below float precision.
_HALVINGS = 80


class ProfileError(ValueError):
    """A profile that can't be searched for; the message names what is wrong with it."""


@dataclass(frozen=True)
class Neighbours:
    """Models near a wanted profile.

    Attributes:
        models: indices, nearest first, int64 [k].
        distances: Euclidean, [k].
    """

    models: Ints
    distances: Floats


def synthesise(
    wanted: Mapping[str, float],
    benchmark: Sequence[str],
    ease_Q: ArrayLike,
    *,
    sharpness: float = 1.0,
) -> Array:
    """Scores of a model that has the wanted accuracies, easy queries first.

    On each benchmark a score is sigmoid(sharpness * logit(ease) + shift), with the shift, found by
    bisection, that makes the mean the wanted accuracy. At sharpness 1 that is the expected score of
    a model of one more or less ability in the Rasch model (Rasch 1960); the larger it is, the
    nearer to "the easiest right, the rest wrong". A place that is linear in the scores lies where
    such a model's answers would put it on average.

    Args:
        wanted: accuracy in [0, 1] by benchmark, at least one.
        benchmark: the benchmark of each bank query.
        ease_Q: mean score of the bank's models on each query; NaN where nobody has answered, which
            is taken for the mean of its benchmark (0.5 if that is unknown too).
        sharpness: how much ease decides, 0 or more; 0 gives every query the same score.

    Returns:
        float32 [1, Q]: NaN on benchmarks that are not named.

    Raises:
        ProfileError: an unknown benchmark, an accuracy outside [0, 1], nothing wanted, or ease or
            sharpness out of range.
    """
    ease = np.asarray(ease_Q, dtype=np.float64)
    if ease.shape != (len(benchmark),):
        raise ProfileError(f"ease_Q has shape {ease.shape} for {len(benchmark)} queries")
    if not (np.isnan(ease) | ((ease >= 0) & (ease <= 1))).all():
        raise ProfileError("ease_Q has numbers outside [0, 1]; give mean scores, NaN if unknown")
    if not (np.isfinite(sharpness) and sharpness >= 0):
        raise ProfileError(f"sharpness is {sharpness}; give a finite number of 0 or more")
    if not wanted:
        raise ProfileError("nothing is wanted: give an accuracy for one benchmark or more")
    labels = np.array(list(benchmark), dtype=object)
    known = sorted(set(benchmark))
    values_1Q = np.full((1, len(labels)), np.nan, dtype=np.float32)
    for name, accuracy in wanted.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise ProfileError(f"benchmark {name!r} is not in the bank; {hint}")
        if not 0 <= accuracy <= 1:
            raise ProfileError(
                f"the wanted accuracy on {name!r} is {accuracy}; give a share in [0, 1]"
            )
        at = np.flatnonzero(labels == name)
        values_1Q[0, at] = _scores(ease[at], accuracy, sharpness)
    return values_1Q


def _scores(ease_q: Floats, accuracy: float, sharpness: float) -> Floats:
    """Scores on the queries of one benchmark whose mean is the accuracy."""
    if accuracy in (0, 1):
        return np.full(len(ease_q), float(accuracy))
    typical = float(np.nanmean(ease_q)) if not np.isnan(ease_q).all() else 0.5
    p = np.clip(np.where(np.isnan(ease_q), typical, ease_q), _EDGE, 1 - _EDGE)
    x = sharpness * np.log(p / (1 - p))
    # At the ends every single score is on the other side of the wanted mean.
    centre = np.log(accuracy / (1 - accuracy))
    low, high = centre - x.max(), centre - x.min()
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if sigmoid(x + middle).mean() < accuracy:
            low = middle
        else:
            high = middle
    return sigmoid(x + (low + high) / 2)


def find(
    place: Callable[[Array], ArrayLike],
    vectors_Md: ArrayLike,
    values_1Q: Array,
    k: int = 10,
    exclude: Sequence[int] = (),
) -> Neighbours:
    """Place synthesised scores and take the models nearest to them.

    Args:
        place: from scores [B, Q] to embeddings [B, d], the way the map's models were placed.
        vectors_Md: embeddings of the map's models.
        values_1Q: what `synthesise` gave, or any one model's scores.
        k: neighbours wanted; fewer come back if there are fewer models. Ties go to the lower index.
        exclude: indices of models that are not to be found.

    Raises:
        ProfileError: scores of none or several models, a place of another width than the map's or
            that is not finite, or k below 1.
    """
    vectors = np.asarray(vectors_Md, dtype=np.float64)
    if values_1Q.ndim != 2 or len(values_1Q) != 1:
        raise ProfileError(f"scores of shape {values_1Q.shape}; give those of one model, [1, Q]")
    if k < 1:
        raise ProfileError(f"k is {k}; ask for at least one neighbour")
    z_1d = np.asarray(place(values_1Q), dtype=np.float64)
    if vectors.ndim != 2 or z_1d.shape != (1, vectors.shape[1]):
        raise ProfileError(
            f"the place has shape {z_1d.shape}, the map's vectors {vectors.shape}: place by the "
            "method that made the map"
        )
    if not np.isfinite(z_1d).all():
        raise ProfileError("the place is not finite: the method could not place these scores")
    distance_M = np.linalg.norm(vectors - z_1d, axis=1)
    order = np.argsort(distance_M, kind="stable")
    order = order[~np.isin(order, list(exclude))][:k].astype(np.int64)
    return Neighbours(order, distance_M[order])
