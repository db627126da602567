"""The model encoder F and the correctness predictor G (arXiv 2601.21082, section 3).

Shape letters: B models, N tokens per model (padded), Q distinct queries, T target queries,
p width of a query encoding, d width of tokens and embeddings.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from locus.embedding.attention import ISAB, PMA
from locus.embedding.config import ArchitectureConfig


@dataclass(frozen=True)
class ScoreSets:
    """A padded batch of evaluation sets.

    Attributes:
        index_BN: row of each scored query in the matrix of query encodings (int64).
        score_BN: its score in [0, 1] (float32).
        mask_BN: True where the entry is real, False where it is padding.
    """

    index_BN: Tensor
    score_BN: Tensor
    mask_BN: Tensor

    def __post_init__(self) -> None:
        """Refuse a model without a single score: it has no place on the map."""
        if not bool(self.mask_BN.any(dim=1).all()):
            empty = torch.nonzero(~self.mask_BN.any(dim=1)).flatten().tolist()
            raise ValueError(f"models at rows {empty} of the batch have no scores at all")

    def to(self, device: torch.device | str) -> "ScoreSets":
        """The same batch on a device."""
        return ScoreSets(
            self.index_BN.to(device), self.score_BN.to(device), self.mask_BN.to(device)
        )


def rows_of(matrix_Qd: Tensor, index_BN: Tensor) -> Tensor:
    """Rows of a matrix, [B, N, d].

    Not by indexing: on the CPU its gradient adds up in the order in which threads come by, so
    that one seed would give different weights, and slowly at that.
    """
    return F.embedding(index_BN, matrix_Qd)


class ModelEncoder(nn.Module):
    """F: a set of (query encoding, score) pairs -> embedding in R^d, one forward pass.

    The published token is one linear layer over ``[phi ; y ; phi * (2y - 1)]``. It is linear in
    phi once y is given, and in y. So its weights are kept in three parts, and phi is projected once
    per distinct query, not once per model and query; so is what the first block makes of tokens
    before one of them looks at another. The function is the same.
    """

    def __init__(self, config: ArchitectureConfig) -> None:
        super().__init__()
        d, p = config.d_model, config.d_query
        # One layer in the published form, so that initialisation is that of Linear(2p + 1, d).
        whole = nn.Linear(2 * p + 1, d)
        self.token_query_pd = nn.Parameter(whole.weight[:, :p].T.clone())
        self.token_score_d = nn.Parameter(whole.weight[:, p].clone())
        self.token_signed_pd = nn.Parameter(whole.weight[:, p + 1 :].T.clone())
        self.token_bias_d = nn.Parameter(whole.bias.clone())
        self.blocks = nn.ModuleList(
            ISAB(d, config.n_heads, config.d_feedforward, config.n_latents)
            for _ in range(config.n_blocks)
        )
        self.pool = PMA(d, config.n_heads, config.d_feedforward)
        self.out = nn.Linear(d, d)

    def tokens(self, phi_Qp: Tensor) -> Tensor:
        """Tokens [Q, 2, d] of every query answered wrongly (score 0) and rightly (1)."""
        plain_Qd = phi_Qp @ self.token_query_pd + self.token_bias_d
        signed_Qd = phi_Qp @ self.token_signed_pd
        right_Qd = plain_Qd + signed_Qd + self.token_score_d
        return torch.stack([plain_Qd - signed_Qd, right_Qd], dim=1)

    def read(self, phi_Qp: Tensor) -> Tensor:
        """All that does not depend on a model: tokens, and what the first block projects of them.

        Returns:
            [2Q, 4d], rows of a query's wrong and right answer one after the other.
        """
        token_Xd = self.tokens(phi_Qp).flatten(0, 1)
        return torch.cat([token_Xd, *self._first().project(token_Xd)], dim=1)

    def _first(self) -> ISAB:
        return cast(ISAB, self.blocks[0])

    def forward(self, phi_Qp: Tensor, sets: ScoreSets) -> Tensor:
        """Embed each model of the batch.

        Args:
            phi_Qp: encodings of the distinct queries, float32 [Q, p].
            sets: which of them each model answered, and how well.

        Returns:
            Embeddings z [B, d].
        """
        return self.place(self.read(phi_Qp), sets)

    def place(self, read_Xe: Tensor, sets: ScoreSets) -> Tensor:
        """As `forward`, of what `read` gives, which many batches may share."""
        wrong_BN, score_BN = 2 * sets.index_BN, sets.score_BN
        right_BN = score_BN == 1
        if bool((right_BN | (score_BN == 0)).all()):
            part_BNe = rows_of(read_Xe, wrong_BN + right_BN)
        else:
            # Linear in a graded score.
            part_BNe = torch.lerp(
                rows_of(read_Xe, wrong_BN), rows_of(read_Xe, wrong_BN + 1), score_BN[:, :, None]
            )
        mask = None if bool(sets.mask_BN.all()) else sets.mask_BN
        x_BNd, key_BNd, value_BNd, query_BNd = part_BNe.chunk(4, dim=-1)
        x_BNd = self._first().induce(x_BNd, (key_BNd, value_BNd, query_BNd), mask)
        for block in self.blocks[1:]:
            x_BNd = block(x_BNd, mask)
        z_Bd: Tensor = self.out(self.pool(x_BNd, mask))
        return z_Bd


class CorrectnessPredictor(nn.Module):
    """G: (embedding, query encoding) -> logit of P(the model answers the query correctly)."""

    def __init__(self, config: ArchitectureConfig) -> None:
        super().__init__()
        d, h = config.d_model, config.d_hidden
        self.query = nn.Linear(config.d_query, d)
        self.hidden = nn.Linear(3 * d, h)
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(h, 1)

    def forward(self, z_Bd: Tensor, phi_Tp: Tensor, index_BT: Tensor | None = None) -> Tensor:
        """Logits for each model and target query.

        The layer over ``[z ; u ; z*u]`` is applied part by part: ``z`` and ``u`` are projected
        once per model and per query, only the product is per pair. The function is the same.

        Args:
            z_Bd: model embeddings.
            phi_Tp: query encodings.
            index_BT: rows of ``phi`` to score for each model; None scores every query.

        Returns:
            [B, T].
        """
        d = z_Bd.shape[1]
        u_Td = self.query(phi_Tp)
        w_hd = self.hidden.weight
        from_z_Bh = z_Bd @ w_hd[:, :d].T + self.hidden.bias
        from_u_Th = u_Td @ w_hd[:, d : 2 * d].T
        w_zu_hd = w_hd[:, 2 * d :]
        if index_BT is None:
            product_BTh = u_Td @ (z_Bd[:, None] * w_zu_hd).transpose(1, 2)
            hidden_BTh = from_z_Bh[:, None] + from_u_Th[None] + product_BTh
        else:
            u_BTd = rows_of(u_Td, index_BT)
            product_BTh = (z_Bd[:, None] * u_BTd) @ w_zu_hd.T
            hidden_BTh = from_z_Bh[:, None] + rows_of(from_u_Th, index_BT) + product_BTh
        logits: Tensor = self.out(self.dropout(torch.relu(hidden_BTh))).squeeze(-1)
        return logits


class Locus(nn.Module):
    """Encoder and predictor, trained together and stored in one checkpoint."""

    def __init__(self, config: ArchitectureConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ModelEncoder(config)
        self.predictor = CorrectnessPredictor(config)

    def forward(self, phi_Qp: Tensor, context: ScoreSets, target_BT: Tensor) -> Tensor:
        """Logits [B, T] of target queries, given each model's context scores."""
        logits: Tensor = self.predictor(self.encoder(phi_Qp, context), phi_Qp, target_BT)
        return logits
