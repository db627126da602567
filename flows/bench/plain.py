"""LOCUS as the paper writes it down: what our faster forms of the same function are beside.

Every token is a linear layer over the whole ``[phi ; y ; phi * (2y - 1)]``, attention is torch's
own module, the predictor reads ``[z ; u ; z * u]`` of every pair (arXiv 2601.21082, section 3). It
takes a network's weights, so both sides must give the same vectors.

Shape letters: N scored queries of a model, p width of an encoding, d of an embedding, B models, T
target queries.
"""

import numpy as np
import torch
from torch import Tensor, nn

from locus.bank import Array
from locus.embedding.attention import ISAB, MAB
from locus.embedding.network import Locus, ModelEncoder


class PlainEncoder(nn.Module):
    """The model encoder, one model at a time."""

    def __init__(self, encoder: ModelEncoder) -> None:
        super().__init__()
        p, d = encoder.token_query_pd.shape
        self.token = nn.Linear(2 * p + 1, d)
        weights = (
            encoder.token_query_pd.T,
            encoder.token_score_d[:, None],
            encoder.token_signed_pd.T,
        )
        with torch.no_grad():
            self.token.weight.copy_(torch.cat(weights, dim=1))
            self.token.bias.copy_(encoder.token_bias_d)
        self.blocks = nn.ModuleList(
            _Induced(block) for block in encoder.blocks if isinstance(block, ISAB)
        )
        self.seed_1d = encoder.pool.seed_1d
        self.pool = _Attend(encoder.pool.attend)
        self.out = encoder.out

    def forward(self, phi_Np: Tensor, y_N: Tensor) -> Tensor:
        """The embedding [d] of a model that scored ``y`` on queries ``phi``."""
        y_N1 = y_N[:, None]
        x_1Nd = self.token(torch.cat([phi_Np, y_N1, phi_Np * (2 * y_N1 - 1)], dim=1))[None]
        for block in self.blocks:
            x_1Nd = block(x_1Nd)
        z_d: Tensor = self.out(self.pool(self.seed_1d[None], x_1Nd))[0, 0]
        return z_d


class _Attend(nn.Module):
    """A multihead attention block."""

    def __init__(self, block: MAB) -> None:
        super().__init__()
        d = block.query.in_features
        self.attention = nn.MultiheadAttention(d, block.n_heads, batch_first=True)
        parts = (block.query, block.key, block.value)
        with torch.no_grad():
            self.attention.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
            self.attention.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
            self.attention.out_proj.weight.copy_(block.out.weight)
            self.attention.out_proj.bias.copy_(block.out.bias)
        self.norm_attention, self.norm_out = block.norm_attention, block.norm_out
        self.feedforward = block.feedforward

    def forward(self, x_1Nd: Tensor, y_1Md: Tensor) -> Tensor:
        attended, _ = self.attention(x_1Nd, y_1Md, y_1Md, need_weights=False)
        h = torch.relu(self.norm_attention(x_1Nd + attended))
        result: Tensor = self.norm_out(h + self.feedforward(h))
        return result


class _Induced(nn.Module):
    """An induced set attention block."""

    def __init__(self, block: ISAB) -> None:
        super().__init__()
        self.latents_Ld = block.latents_Ld
        self.gather, self.spread = _Attend(block.gather), _Attend(block.spread)

    def forward(self, x_1Nd: Tensor) -> Tensor:
        result: Tensor = self.spread(x_1Nd, self.gather(self.latents_Ld[None], x_1Nd))
        return result


def embed_one_by_one(network: Locus, phi_Qp: Array, values_MQ: Array) -> Array:
    """Embeddings [M, d], a forward pass a model over all its scores."""
    encoder = PlainEncoder(network.encoder).eval()
    phi = torch.from_numpy(phi_Qp)
    placed = []
    with torch.no_grad():
        for values in values_MQ:
            asked = np.flatnonzero(~np.isnan(values))
            placed.append(encoder(phi[asked], torch.from_numpy(values[asked])).numpy())
    return np.stack(placed)
