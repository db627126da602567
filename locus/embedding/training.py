"""Training of encoder and predictor together, kept by validation loss.

Optimiser, noise and clipping follow the published settings (arXiv 2601.21082, section 4); which
subsets are drawn is `TrainingConfig.subsets`. Only scores on training queries reach the encoder;
validation queries decide when to stop; test queries never come here.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from locus.embedding.config import ArchitectureConfig, TrainingConfig
from locus.embedding.network import Locus, ScoreSets
from locus.embedding.sets import pick, shuffled_queries, whole_sets

log = logging.getLogger(__name__)

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class TrainingData:
    """What a training run reads.

    Attributes:
        phi_Qp: encodings of training queries, float32 [Q, p].
        values_MQ: their scores, NaN where missing.
        val_phi_Vp: encodings of validation queries.
        val_values_MV: their scores.
    """

    phi_Qp: NDArray[np.float32]
    values_MQ: NDArray[np.float32]
    val_phi_Vp: NDArray[np.float32]
    val_values_MV: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Refuse shapes that don't fit, and data that nothing can be learned from."""
        if self.values_MQ.shape[1] != len(self.phi_Qp):
            raise ValueError(f"{self.values_MQ.shape} scores for {len(self.phi_Qp)} encodings")
        if self.val_values_MV.shape != (len(self.values_MQ), len(self.val_phi_Vp)):
            raise ValueError("validation scores don't fit the models or the encodings")
        counts = (~np.isnan(self.values_MQ)).sum(axis=1)
        if len(counts) < 2 or counts.min() < 2:
            raise ValueError(
                "training needs two models at least, each with two scored training queries; "
                f"there are {len(counts)} models, the poorest with {counts.min(initial=0)}"
            )
        if np.isnan(self.val_values_MV).all():
            raise ValueError("training needs scores on validation queries, and there are none")


@dataclass(frozen=True)
class TrainingResult:
    """A trained network and how it got there.

    Attributes:
        network: weights of the step with the best validation loss, in eval mode.
        best_step: that step.
        val_bce: its binary cross-entropy on validation queries, in nats.
        val_accuracy: its share of validation scores on the right side of 0.5.
        steps: optimiser steps taken.
        seconds: wall time.
    """

    network: Locus
    best_step: int
    val_bce: float
    val_accuracy: float
    steps: int
    seconds: float

    def metrics(self) -> dict[str, float | int]:
        """Numbers for the record, as plain values."""
        return {
            "best_step": self.best_step,
            "val_bce": self.val_bce,
            "val_accuracy": self.val_accuracy,
            "steps": self.steps,
            "seconds": round(self.seconds, 2),
        }


def noise_std(step: int, config: TrainingConfig) -> float:
    """Noise on query encodings: from `noise_start` to `noise_end` along half a cosine."""
    share = min(step / max(config.noise_steps, 1), 1.0)
    span = config.noise_start - config.noise_end
    return config.noise_end + span * 0.5 * (1 + math.cos(math.pi * share))


class _Drawer:
    """Draws each step's context and targets."""

    def __init__(self, values_MQ: Tensor, config: TrainingConfig, generator: torch.Generator):
        self.values_MQ = values_MQ
        self.known_MQ = ~torch.isnan(values_MQ)
        self.config = config
        self.generator = generator
        self.fixed = self._whole(self._fixed_columns()) if config.subsets == "fixed" else None

    def _fixed_columns(self) -> Tensor:
        n_queries = self.values_MQ.shape[1]
        order = torch.randperm(n_queries, generator=self.generator)
        return order[: self.config.context_max].sort().values

    def _whole(self, columns: Tensor) -> ScoreSets:
        values = torch.full_like(self.values_MQ, torch.nan)
        values[:, columns] = self.values_MQ[:, columns]
        rows = torch.nonzero((~torch.isnan(values)).any(1)).flatten().tolist()
        return whole_sets(values.numpy(), rows)

    def draw(self) -> tuple[ScoreSets, ScoreSets]:
        """Context and targets of one step, for the same models in the same order."""
        if self.fixed is not None:
            return self.fixed, self.fixed
        c, g = self.config, self.generator
        rows = torch.randperm(len(self.values_MQ), generator=g)[: c.models_per_step]
        values, known = self.values_MQ[rows], self.known_MQ[rows]
        order = shuffled_queries(known, g)
        n_known = known.sum(1)
        # Log-uniform sizes; every model keeps one query at least for each side.
        largest = (n_known - 1).clamp(max=c.context_max)
        smallest = torch.minimum(torch.full_like(largest, c.context_min), largest)
        span = torch.log(largest.float()) - torch.log(smallest.float())
        # One draw for the batch keeps padding small; the span still differs per model.
        share = torch.rand((), generator=g)
        size = torch.exp(torch.log(smallest.float()) + share * span).round().long()
        size = torch.minimum(torch.maximum(size, smallest), largest)
        stop = torch.minimum(n_known, size + c.targets)
        return (
            pick(values, order, torch.zeros_like(size), size),
            pick(values, order, size, stop),
        )


def masked_bce(logits_BT: Tensor, targets: ScoreSets) -> Tensor:
    """Mean binary cross-entropy over real entries, in nats; scores may be graded."""
    loss = F.binary_cross_entropy_with_logits(logits_BT, targets.score_BN, reduction="none")
    return loss[targets.mask_BN].mean()


def _validate(network: Locus, data: TrainingData, device: torch.device) -> tuple[float, float]:
    """(BCE, accuracy) on validation queries, models placed from all their training scores."""
    from locus.embedding.placement import embed

    network.eval()
    z_Md = embed(network, data.phi_Qp, data.values_MQ)
    with torch.no_grad():
        logits = network.predictor(
            torch.from_numpy(z_Md).to(device), torch.from_numpy(data.val_phi_Vp).to(device)
        ).cpu()
    known = ~torch.from_numpy(np.isnan(data.val_values_MV))
    y, logit = torch.from_numpy(data.val_values_MV)[known], logits[known]
    bce = float(F.binary_cross_entropy_with_logits(logit, y))
    return bce, float(((logit > 0) == (y > 0.5)).float().mean())


def train(
    data: TrainingData,
    config: TrainingConfig | None = None,
    architecture: ArchitectureConfig | None = None,
    device: str | None = None,
    on_progress: Progress | None = None,
) -> TrainingResult:
    """Train encoder and predictor; the same seed on the same machine gives the same weights.

    Args:
        data: scores and encodings.
        config: how to train.
        architecture: sizes; None takes the published ones for the encodings' width.
        device: torch device; None picks CUDA where there is one.
        on_progress: called after each check with (step, steps at most, validation BCE).

    Raises:
        FloatingPointError: the loss stopped being finite; names the step.
    """
    config = config or TrainingConfig()
    architecture = architecture or ArchitectureConfig(d_query=data.phi_Qp.shape[1])
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):
        # Initialisation and dropout use the global generator: seed it here, restore it after.
        torch.manual_seed(config.seed)
        network, best = _run(data, config, architecture, where, generator, on_progress)
    best_step, bce, accuracy, steps = best
    seconds = time.perf_counter() - started
    return TrainingResult(network, best_step, bce, accuracy, steps, seconds)


def _run(
    data: TrainingData,
    config: TrainingConfig,
    architecture: ArchitectureConfig,
    device: torch.device,
    generator: torch.Generator,
    on_progress: Progress | None,
) -> tuple[Locus, tuple[int, float, float, int]]:
    network = Locus(architecture).to(device)
    optimiser = torch.optim.AdamW(
        [
            {"params": network.encoder.parameters(), "lr": config.lr_encoder},
            {"params": network.predictor.parameters(), "lr": config.lr_predictor},
        ],
        weight_decay=config.weight_decay,
    )
    drawer = _Drawer(torch.from_numpy(data.values_MQ), config, generator)
    phi_Qp = torch.from_numpy(data.phi_Qp)
    best = (0, math.inf, 0.0)
    kept = {k: v.detach().clone() for k, v in network.state_dict().items()}
    step = 0
    for step in range(1, config.steps + 1):
        network.train()
        context, targets = drawer.draw()
        noise = torch.randn(phi_Qp.shape, generator=generator) * noise_std(step - 1, config)
        noisy_Qp = (phi_Qp + noise).to(device)
        targets = targets.to(device)
        logits_BT = network(noisy_Qp, context.to(device), targets.index_BN)
        loss = masked_bce(logits_BT, targets)
        if not bool(torch.isfinite(loss)):
            raise FloatingPointError(f"training loss is {loss.item()} at step {step}")
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip)
        optimiser.step()
        if step % config.check_every == 0 or step == config.steps:
            bce, accuracy = _validate(network, data, device)
            if bce < best[1]:
                best = (step, bce, accuracy)
                kept = {k: v.detach().clone() for k, v in network.state_dict().items()}
            if on_progress:
                on_progress(step, config.steps, bce)
            if step - best[0] >= config.patience * config.check_every:
                break
    network.load_state_dict(kept)
    network.eval()
    log.info("trained %d steps, best at %d: validation BCE %.4f", step, best[0], best[1])
    return network, (*best, step)
