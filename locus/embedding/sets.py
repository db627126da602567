"""From a score matrix to padded batches of evaluation sets, whole or drawn at random."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from locus.embedding.network import ScoreSets


def whole_sets(values_MQ: NDArray[np.float32], rows: Sequence[int]) -> ScoreSets:
    """All scores of some models, as one padded batch.

    Raises:
        ValueError: a model without any score.
    """
    known = [np.flatnonzero(~np.isnan(values_MQ[row])) for row in rows]
    width = max((len(k) for k in known), default=0)
    index = np.zeros((len(rows), width), dtype=np.int64)
    score = np.zeros((len(rows), width), dtype=np.float32)
    mask = np.zeros((len(rows), width), dtype=bool)
    for i, (row, columns) in enumerate(zip(rows, known, strict=True)):
        index[i, : len(columns)] = columns
        score[i, : len(columns)] = values_MQ[row, columns]
        mask[i, : len(columns)] = True
    return ScoreSets(torch.from_numpy(index), torch.from_numpy(score), torch.from_numpy(mask))


def shuffled_queries(known_MQ: Tensor, generator: torch.Generator) -> Tensor:
    """For each model a random order of the queries with those that it has answered first.

    Returns:
        int64 [M, Q].
    """
    draw = torch.rand(known_MQ.shape, generator=generator)
    # Unanswered queries sort behind every answered one.
    return torch.argsort(torch.where(known_MQ, draw, draw + 2.0), dim=1)


def pick(values_MQ: Tensor, order_MQ: Tensor, start: Tensor, stop: Tensor) -> ScoreSets:
    """Entries ``start..stop`` of each model's order, as one padded batch.

    Args:
        values_MQ: scores.
        order_MQ: for each model an order of its queries.
        start: int64 [M], first entry of each model.
        stop: int64 [M], one past the last; ``stop > start`` for every model.
    """
    width = int((stop - start).max())
    offset_MN = start[:, None] + torch.arange(width)[None]
    mask_MN = offset_MN < stop[:, None]
    offset_MN = offset_MN.clamp(max=order_MQ.shape[1] - 1)
    index_MN = torch.where(mask_MN, order_MQ.gather(1, offset_MN), 0)
    score_MN = torch.where(mask_MN, values_MQ.gather(1, index_MN), 0.0)
    return ScoreSets(index_MN, score_MN, mask_MN)
