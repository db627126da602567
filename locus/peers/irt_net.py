"""IRT-Net: item response theory with the items' parameters read from their text."""

import torch
from torch import Tensor, nn

from locus.peers.embedllm import FreeVectors


class _Experts(nn.Module):
    """Mixture of experts: softmax gate over small networks, then heads for alpha and -beta."""

    def __init__(self, d_query: int, width: int, n_experts: int, d_hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(d_query, n_experts)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(d_query, d_hidden), nn.ReLU(), nn.Linear(d_hidden, d_hidden))
            for _ in range(n_experts)
        )
        self.heads = nn.Linear(d_hidden, width + 1)

    def forward(self, phi_Qp: Tensor) -> Tensor:
        """[Q, p] to [Q, width + 1]."""
        share_Q1E = torch.softmax(self.gate(phi_Qp), dim=1).unsqueeze(1)
        hidden_QhE = torch.stack([expert(phi_Qp) for expert in self.experts], dim=2)
        items: Tensor = self.heads(torch.relu((hidden_QhE * share_Q1E).sum(2)))
        return items


class IRTNet(FreeVectors):
    """logit = alpha(q) . theta - beta(q), alpha and beta from a mixture-of-experts text tower.

    Source: multidimensional item response theory (Reckase, 2009) with a text tower, as IRT-Net of
    the LOCUS comparison (arXiv 2601.21082, section 4). Settings: theta of width 32, 4 experts of
    hidden width 64, noise 0.02 (ours: the published ones were not at hand); the rest as in
    `FreeVectors`.
    """

    name = "IRT-Net"
    width = 32
    noise = 0.02

    def tower(self, d_query: int) -> nn.Module:
        """The mixture of experts."""
        return _Experts(d_query, self.width, n_experts=4, d_hidden=64)
