"""LOCUS as published: attention encoder over (query, score) pairs and correctness predictor."""

import numpy as np

from locus.bank import Array, Bank, Queries


class LocusPublished:
    """The published encoder and predictor under the published training settings.

    Source: arXiv 2601.21082, sections 3 and 4. Settings: `TrainingConfig.published`; the fixed
    set is everything in the bank, so that all labels that were paid for are read; selection is by
    validation BCE. Models with fewer than two scores do not train. A model without scores is
    placed at the mean of the training models' embeddings.

    Args:
        steps: most optimiser steps; None takes the published 2,500.
        device: torch device; None picks CUDA where there is one.
    """

    name = "LOCUS as published"
    needs_benchmark = False

    def __init__(self, steps: int | None = None, device: str | None = None) -> None:
        if steps is not None and steps < 1:
            raise ValueError(f"steps is {steps}: train for 1 step at least")
        self.steps = steps
        self.device = device

    def fit(self, bank: Bank, seed: int) -> None:
        """Train encoder and predictor; raises what `locus.embedding.training.train` raises."""
        from locus.embedding.config import TrainingConfig
        from locus.embedding.training import TrainingData, train

        rows = (~np.isnan(bank.values_MQ)).sum(1) >= 2
        values_MQ = bank.values_MQ[rows]
        changes = {} if self.steps is None else {"steps": self.steps}
        # The fixed set is drawn from all columns: a smaller one would leave paid labels unread
        # where models answered different queries.
        config = TrainingConfig.published(seed=seed, context_max=len(bank.queries), **changes)
        data = TrainingData(
            bank.queries.phi_Qp, values_MQ, bank.val_queries.phi_Qp, bank.val_values_MV[rows]
        )
        self._network = train(data, config, device=self.device).network
        self._phi_Qp = bank.queries.phi_Qp
        self._prior_d = self._embed(values_MQ).mean(0)

    def _embed(self, values_BQ: Array) -> Array:
        from locus.embedding.placement import embed

        return embed(self._network, self._phi_Qp, values_BQ)

    def vectors(self, placed: Array) -> Array:
        """Embeddings [B, d]."""
        return placed

    def place(self, values_BQ: Array) -> Array:
        """Embeddings [B, d]."""
        z_Bd = np.tile(self._prior_d, (len(values_BQ), 1))
        some = (~np.isnan(values_BQ)).any(1)
        z_Bd[some] = self._embed(values_BQ[some])
        return z_Bd

    def predict(self, placed: Array, targets: Queries) -> Array:
        """The predictor's probabilities [B, T]."""
        import torch

        device = next(self._network.parameters()).device
        with torch.no_grad():
            logits_BT = self._network.predictor(
                torch.from_numpy(placed).to(device),
                torch.from_numpy(np.ascontiguousarray(targets.phi_Qp)).to(device),
            )
        p_BT: Array = torch.sigmoid(logits_BT).cpu().numpy()
        return p_BT
