"""Placing models: one forward pass of the encoder, in padded batches."""

import numpy as np
import torch
from numpy.typing import NDArray

from locus.batches import of_like_length
from locus.embedding.network import Locus
from locus.embedding.sets import whole_sets

# Tokens of one batch. At width 128, 2^10 of them are 0.5 MB a layer, which a core's cache holds and
# memory is found for without asking the system (docs/log.md); elsewhere 2^18 are 128 MB.
_TOKENS_CPU = 1 << 10
_TOKENS = 1 << 18


def embed(
    network: Locus, phi_Qp: NDArray[np.float32], values_MQ: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Embed every model from all its scores.

    Models are batched with others of like set size, so that little is padded; the result does
    not depend on the batching.

    Args:
        network: a trained network (used in eval mode).
        phi_Qp: query encodings.
        values_MQ: scores, NaN where missing.

    Returns:
        float32 [M, d], rows as in ``values_MQ``.

    Raises:
        ValueError: a model without any score.
    """
    device = next(network.parameters()).device
    sizes = (~np.isnan(values_MQ)).sum(axis=1)
    if len(sizes) and sizes.min() == 0:
        empty = np.flatnonzero(sizes == 0).tolist()
        raise ValueError(f"models at rows {empty} have no scores: they can't be placed")
    asked = np.flatnonzero((~np.isnan(values_MQ)).any(axis=0))
    values_MQ = values_MQ[:, asked]
    phi = torch.from_numpy(phi_Qp[asked]).to(device)
    most = _TOKENS_CPU if device.type == "cpu" else _TOKENS
    result = np.zeros((len(values_MQ), network.config.d_model), dtype=np.float32)
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            read = network.encoder.read(phi)
            for rows in of_like_length(sizes, most):
                sets = whole_sets(values_MQ, rows.tolist()).to(device)
                result[rows] = network.encoder.place(read, sets).cpu().numpy()
    finally:
        network.train(was_training)
    return result
