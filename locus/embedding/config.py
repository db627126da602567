"""Frozen settings of the encoder, the predictor and their training; saved beside the weights."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self


@dataclass(frozen=True)
class ArchitectureConfig:
    """Sizes of the network; the defaults are the published ones (arXiv 2601.21082).

    With 768-d query encodings they give 0.89 M parameters (encoder) and 0.12 M (predictor).

    Attributes:
        d_query: width of a query encoding.
        d_model: width of tokens and of the model embedding.
        n_latents: learned latents of each bottleneck attention block.
        n_heads: attention heads.
        d_feedforward: hidden width of the feed-forward layers.
        n_blocks: bottleneck attention blocks.
        d_hidden: hidden width of the predictor.
        dropout: dropout in the predictor, in training only.
    """

    d_query: int
    d_model: int = 128
    n_latents: int = 64
    n_heads: int = 4
    d_feedforward: int = 256
    n_blocks: int = 2
    d_hidden: int = 64
    dropout: float = 0.1

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """From what `to_dict` gave.

        Raises:
            TypeError: unknown or missing keys.
        """
        return cls(**values)


@dataclass(frozen=True)
class TrainingConfig:
    """How the two networks are trained together; optimiser settings are the published ones.

    Attributes:
        steps: most optimiser steps; training ends earlier when `patience` checks bring nothing.
        lr_encoder: AdamW learning rate of the encoder.
        lr_predictor: AdamW learning rate of the predictor.
        weight_decay: AdamW weight decay.
        clip: largest gradient norm.
        noise_start: standard deviation of Gaussian noise on query encodings at step 0.
        noise_end: the same after `noise_steps`, reached along a cosine.
        noise_steps: length of that cosine.
        subsets: "disjoint" draws, for every model and step, fresh context and target queries
            that do not overlap, so that the encoder is trained for what it is used for;
            "fixed" is the published default: one fixed set, the same on both sides.
        context_min: fewest context queries of a step (log-uniform up to what there is).
        context_max: most context queries of a step; also the size of the fixed set.
        targets: most target queries per model and step.
        models_per_step: most models in one batch; the published setting is all of them.
        check_every: steps between two checks on validation queries.
        patience: checks without a better validation loss before training ends.
        seed: seed of everything random.
    """

    steps: int = 600
    lr_encoder: float = 2e-4
    lr_predictor: float = 8e-4
    weight_decay: float = 0.05
    clip: float = 1.0
    noise_start: float = 0.10
    noise_end: float = 0.05
    noise_steps: int = 500
    subsets: Literal["disjoint", "fixed"] = "disjoint"
    context_min: int = 4
    context_max: int = 1024
    targets: int = 256
    models_per_step: int = 128
    check_every: int = 25
    patience: int = 8
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)
