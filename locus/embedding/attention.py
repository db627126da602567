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
            nn.Linear(d_model, d_feedforward),
            nn.ReLU(inplace=True),
            nn.Linear(d_feedforward, d_model),
        )
        self.norm_out = nn.LayerNorm(d_model)

    def _heads(self, x_BNd: Tensor) -> Tensor:
        batch, n, d = x_BNd.shape
        return x_BNd.view(batch, n, self.n_heads, d // self.n_heads).transpose(1, 2)

    def forward(
        self,
        x_BNd: Tensor,
        query_BNd: Tensor,
        key_BMd: Tensor,
        value_BMd: Tensor,
        mask_BM: Tensor | None = None,
    ) -> Tensor:
        """Attend from ``x`` to a set ``y``.

        Args:
            x_BNd: what asks.
            query_BNd: ``query(x)``. Projections come from outside, so that one may serve many.
            key_BMd: ``key(y)``.
            value_BMd: ``value(y)``.
            mask_BM: True where an element of ``y`` is real; None where all are. Each row needs
                one real element at least.

        Returns:
            [B, N, d].
        """
        mask = None if mask_BM is None else mask_BM[:, None, None, :]
        attended = F.scaled_dot_product_attention(
            self._heads(query_BNd), self._heads(key_BMd), self._heads(value_BMd), attn_mask=mask
        )
        return self.finish(x_BNd, attended.transpose(1, 2).reshape(x_BNd.shape))

    def finish(self, x_BNd: Tensor, attended_BNd: Tensor) -> Tensor:
        """What follows attention; overwrites on the way what no gradient needs."""
        h_BNd = self.norm_attention(self.out(attended_BNd).add_(x_BNd)).relu_()
        result: Tensor = self.norm_out(self.feedforward(h_BNd).add_(h_BNd))
        return result


class ISAB(nn.Module):
    """Induced set attention block: a set attends to itself through learned latents, O(N L)."""

    def __init__(self, d_model: int, n_heads: int, d_feedforward: int, n_latents: int) -> None:
        super().__init__()
        self.latents_Ld = nn.Parameter(torch.empty(n_latents, d_model))
        nn.init.xavier_uniform_(self.latents_Ld)
        self.gather = MAB(d_model, n_heads, d_feedforward)
        self.spread = MAB(d_model, n_heads, d_feedforward)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What both of its attentions read of a set's elements: key, value and query."""
        return self.gather.key(x), self.gather.value(x), self.spread.query(x)

    def forward(self, x_BNd: Tensor, mask_BN: Tensor | None = None) -> Tensor:
        """[B, N, d] to [B, N, d]; rows where ``mask_BN`` is False come out meaningless."""
        return self.induce(x_BNd, self.project(x_BNd), mask_BN)

    def induce(
        self,
        x_BNd: Tensor,
        projected: tuple[Tensor, Tensor, Tensor],
        mask_BN: Tensor | None = None,
    ) -> Tensor:
        """As `forward`, where what `project` gives is at hand."""
        key_BNd, value_BNd, query_BNd = projected
        shape = (x_BNd.shape[0], -1, -1)
        summary_BLd = self.gather(
            self.latents_Ld.expand(shape),
            self.gather.query(self.latents_Ld).expand(shape),
            key_BNd,
            value_BNd,
            mask_BN,
        )
        result: Tensor = self.spread(
            x_BNd, query_BNd, self.spread.key(summary_BLd), self.spread.value(summary_BLd)
        )
        return result


class PMA(nn.Module):
    """Pooling by multihead attention: one learned query reads the whole set."""

    def __init__(self, d_model: int, n_heads: int, d_feedforward: int) -> None:
        super().__init__()
        self.seed_1d = nn.Parameter(torch.empty(1, d_model))
        nn.init.xavier_uniform_(self.seed_1d)
        self.attend = MAB(d_model, n_heads, d_feedforward)

    def forward(self, x_BNd: Tensor, mask_BN: Tensor | None = None) -> Tensor:
        """[B, N, d] to [B, d].

        A single query makes projecting the set needless: what it asks is taken back through the
        keys' weights (their bias is the same for all and falls out), and elements are averaged
        before they become values. The function is the same.
        """
        block = self.attend
        d, heads = self.seed_1d.shape[1], block.n_heads
        width = d // heads
        asked_Hw = block.query(self.seed_1d).view(heads, width) * width**-0.5
        asked_Hd = torch.einsum("hw,hwd->hd", asked_Hw, block.key.weight.view(heads, width, d))
        match_BHN = (x_BNd @ asked_Hd.T).transpose(1, 2)
        if mask_BN is not None:
            match_BHN = match_BHN.masked_fill(~mask_BN[:, None, :], -torch.inf)
        mean_BHd = match_BHN.softmax(dim=-1) @ x_BNd
        value_hwd = block.value.weight.view(heads, width, d)
        read_BHw = torch.einsum("bhd,hwd->bhw", mean_BHd, value_hwd) + block.value.bias.view(
            heads, width
        )
        read_B1d = read_BHw.reshape(-1, 1, d)
        return block.finish(self.seed_1d.expand(read_B1d.shape), read_B1d).squeeze(1)
