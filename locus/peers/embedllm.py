"""EmbedLLM: a free vector per model, multiplied with a projection of the query's text.

`FreeVectors` holds what it shares with IRT-Net: any item tower that gives each query a vector and
an offset. Shape letters as in `locus.bank`, and d for the width of a model's vector.
"""

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from locus.bank import Array, Bank, Queries


class FreeVectors(ABC):
    """logit = theta_m . a(q) + b(q), theta free per model, a and b read from the encoding.

    All scores in one batch; AdamW, lr 3e-3, weight decay 0.01; Gaussian noise of std `noise` on
    encodings; the step with the best validation BCE is kept. A new model's theta is fitted with
    the tower frozen, as the most likely one under a Gaussian prior with mean and covariance of
    the training models' vectors (so it lies in their span); without scores it stays at their
    mean. A prior with the variances alone forgets which coordinates go together; with 232 of
    them and fewer training models it placed worse (validation BCE .63 against .61).

    Args:
        steps: most optimiser steps of training (checked every 10, 15 checks of patience).
        place_steps: optimiser steps of a placement.
    """

    name: str
    needs_benchmark = False
    width: int
    noise: float

    def __init__(self, steps: int = 1000, place_steps: int = 200) -> None:
        if min(steps, place_steps) < 1:
            raise ValueError(f"steps are {steps} and {place_steps}: take 1 at least of each")
        self.steps = steps
        self.place_steps = place_steps

    @abstractmethod
    def tower(self, d_query: int) -> nn.Module:
        """A fresh item tower: [Q, p] to a [Q, d + 1], the last column being b."""

    def fit(self, bank: Bank, seed: int) -> None:
        """Train vectors and tower together.

        Raises:
            ValueError: no validation scores.
            FloatingPointError: the loss stopped being finite; names the step.
        """
        if np.isnan(bank.val_values_MV).all():
            raise ValueError("there are no validation scores to stop by: put some into the bank")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._tower = self.tower(bank.queries.phi_Qp.shape[1])
            self._train(bank, torch.randn(len(bank.values_MQ), self.width) * 0.1)

    def _train(self, bank: Bank, theta_Md: Tensor) -> None:
        theta_Md.requires_grad_()
        parameters = [theta_Md, *self._tower.parameters()]
        optimiser = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=0.01)
        phi, values = torch.from_numpy(bank.queries.phi_Qp), torch.from_numpy(bank.values_MQ)
        val_phi = torch.from_numpy(bank.val_queries.phi_Qp)
        val_values = torch.from_numpy(bank.val_values_MV)
        best, since, kept = math.inf, 0, [p.detach().clone() for p in parameters]
        for step in range(1, self.steps + 1):
            logits = _logits(theta_Md, self._tower(phi + self.noise * torch.randn(phi.shape)))
            loss = _losses(logits, values).sum() / (~torch.isnan(values)).sum().clamp(min=1)
            if not bool(torch.isfinite(loss)):
                raise FloatingPointError(f"{self.name}: training loss is not finite at {step}")
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            if step % 10 and step != self.steps:
                continue
            with torch.no_grad():
                now = float(_losses(_logits(theta_Md, self._tower(val_phi)), val_values).sum())
            since += 1
            if now < best:
                best, since, kept = now, 0, [p.detach().clone() for p in parameters]
            if since >= 15:
                break
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)
            self._mean_d = theta_Md.mean(0)
            # With c ~ N(0, 1), c @ spread has the covariance of the training vectors.
            self._spread_Md = (theta_Md - self._mean_d) / math.sqrt(max(len(theta_Md), 1))
            self._items_Qe = self._tower(phi)

    def place(self, values_BQ: Array) -> Array:
        """Vectors [B, d], each fitted on its own: Adam moves every coordinate by itself."""
        values = torch.from_numpy(np.ascontiguousarray(values_BQ))
        c_BM = torch.zeros(len(values), len(self._spread_Md), requires_grad=True)
        optimiser = torch.optim.Adam([c_BM], lr=0.05)
        for _ in range(self.place_steps):
            logits = _logits(self._mean_d + c_BM @ self._spread_Md, self._items_Qe)
            loss = _losses(logits, values).sum() + 0.5 * (c_BM**2).sum()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        with torch.no_grad():
            theta: Array = (self._mean_d + c_BM @ self._spread_Md).numpy()
        return theta

    def predict(self, placed: Array, targets: Queries) -> Array:
        """Probabilities [B, T]."""
        with torch.no_grad():
            items_Te = self._tower(torch.from_numpy(np.ascontiguousarray(targets.phi_Qp)))
            p: Array = torch.sigmoid(_logits(torch.from_numpy(placed), items_Te)).numpy()
        return p


def _logits(theta_Bd: Tensor, items_Qe: Tensor) -> Tensor:
    return theta_Bd @ items_Qe[:, :-1].T + items_Qe[:, -1]


def _losses(logits_BQ: Tensor, values_BQ: Tensor) -> Tensor:
    """Binary cross-entropy of each entry, 0 where there is no score."""
    known = ~torch.isnan(values_BQ)
    loss = F.binary_cross_entropy_with_logits(
        logits_BQ, torch.nan_to_num(values_BQ), reduction="none"
    )
    return torch.where(known, loss, torch.zeros_like(loss))


class _Projection(nn.Module):
    """w . (theta * (P phi + c)) + b, as the item side: [w * (P phi + c) ; b]."""

    def __init__(self, d_query: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(d_query, width)
        self.classify = nn.Linear(width, 1)

    def forward(self, phi_Qp: Tensor) -> Tensor:
        """[Q, p] to [Q, width + 1]."""
        items_Qd = self.project(phi_Qp) * self.classify.weight
        return torch.cat([items_Qd, self.classify.bias.expand(len(phi_Qp), 1)], dim=1)


class EmbedLLM(FreeVectors):
    """Free 232-d vector per model, times projected text, elementwise, then linear to a logit.

    Source: "EmbedLLM: Learning Compact Representations of Large Language Models" (Zhuang et al.,
    2025). Settings: width 232, noise 0.05; the rest as in `FreeVectors`. As published a new model
    needs a new training run; here its vector is fitted with the rest frozen.
    """

    name = "EmbedLLM"
    width = 232
    noise = 0.05

    def tower(self, d_query: int) -> nn.Module:
        """One projection, weighed per coordinate; the offset is the same for all queries."""
        return _Projection(d_query, self.width)
