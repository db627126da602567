"""Attention blocks of the Set Transformer (Lee et al., 2019), as LOCUS uses them.

Shape letters: B models in the batch, N tokens of a model, L latents, d width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MAB(nn.Module):
    """Multihead attention block: queries attend to a set.

    Post-norm, as published: ``h = ReLU(LN(x + attention(x, y)))``, then ``LN(h + FF(h))``.
    """

    def __init__(self, d_model: int, n_heads: int, d_feedforward: int) -> None:
        super().__init__()
        if d_model % n_heads:
            raise ValueError(f"d_model {d_model} is not a multiple of n_heads {n_heads}")
        self.n_heads = n_heads
        self.query = nn.Linear(d_model, d_model)
        self.key = nn.Linear(d_model, d_model)
        self.value = nn.Linear(d_model, d_model)
        self.out = nn.Linear(d_model, d_model)
        self.norm_attention = nn.LayerNorm(d_model)
        self.feedforward = nn.Sequential(
            nn.Linear(d_model, d_feedforward), nn.ReLU(), nn.Linear(d_feedforward, d_model)
        )
        self.norm_out = nn.LayerNorm(d_model)

    def _heads(self, x_BNd: Tensor) -> Tensor:
        batch, n, d = x_BNd.shape
        return x_BNd.view(batch, n, self.n_heads, d // self.n_heads).transpose(1, 2)

    def forward(self, x_BNd: Tensor, y_BMd: Tensor, mask_BM: Tensor | None = None) -> Tensor:
        """Attend from ``x`` to ``y``.

        Args:
            x_BNd: what asks.
            y_BMd: the set that is asked.
            mask_BM: True where an element of ``y`` is real; None where all are. Each row needs
                one real element at least.

        Returns:
            [B, N, d].
        """
        mask = None if mask_BM is None else mask_BM[:, None, None, :]
        attended = F.scaled_dot_product_attention(
            self._heads(self.query(x_BNd)),
            self._heads(self.key(y_BMd)),
            self._heads(self.value(y_BMd)),
            attn_mask=mask,
        )
        attended_BNd = attended.transpose(1, 2).reshape(x_BNd.shape)
        h_BNd = torch.relu(self.norm_attention(x_BNd + self.out(attended_BNd)))
        result: Tensor = self.norm_out(h_BNd + self.feedforward(h_BNd))
        return result


class ISAB(nn.Module):
    """Induced set attention block: a set attends to itself through learned latents, O(N L)."""

    def __init__(self, d_model: int, n_heads: int, d_feedforward: int, n_latents: int) -> None:
        super().__init__()
        self.latents_Ld = nn.Parameter(torch.empty(n_latents, d_model))
        nn.init.xavier_uniform_(self.latents_Ld)
        self.gather = MAB(d_model, n_heads, d_feedforward)
        self.spread = MAB(d_model, n_heads, d_feedforward)

    def forward(self, x_BNd: Tensor, mask_BN: Tensor | None = None) -> Tensor:
        """[B, N, d] to [B, N, d]; rows where ``mask_BN`` is False come out meaningless."""
        latents_BLd = self.latents_Ld.expand(x_BNd.shape[0], -1, -1)
        summary_BLd = self.gather(latents_BLd, x_BNd, mask_BN)
        result: Tensor = self.spread(x_BNd, summary_BLd)
        return result


class PMA(nn.Module):
    """Pooling by multihead attention: one learned query reads the whole set."""

    def __init__(self, d_model: int, n_heads: int, d_feedforward: int) -> None:
        super().__init__()
        self.seed_1d = nn.Parameter(torch.empty(1, d_model))
        nn.init.xavier_uniform_(self.seed_1d)
        self.attend = MAB(d_model, n_heads, d_feedforward)

    def forward(self, x_BNd: Tensor, mask_BN: Tensor | None = None) -> Tensor:
        """[B, N, d] to [B, d]."""
        seed_B1d = self.seed_1d.expand(x_BNd.shape[0], -1, -1)
        pooled: Tensor = self.attend(seed_B1d, x_BNd, mask_BN)
        return pooled.squeeze(1)
