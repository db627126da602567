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
    """How the two networks are trained together; `published` gives the paper's settings.

    Attributes:
        steps: most optimiser steps; training ends earlier when `patience` checks bring nothing.
        lr_encoder: AdamW learning rate of the encoder.
        lr_predictor: AdamW learning rate of the predictor.
        weight_decay: AdamW weight decay.
        clip: largest gradient norm.
        noise_start: standard deviation of Gaussian noise on query encodings at step 0. A unit
            vector of 384 numbers has 0.05 in each: the published 0.1 drowns it.
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

    steps: int = 1000
    lr_encoder: float = 5e-4
    lr_predictor: float = 1e-3
    weight_decay: float = 0.05
    clip: float = 1.0
    noise_start: float = 0.01
    noise_end: float = 0.01
    noise_steps: int = 500
    subsets: Literal["disjoint", "fixed"] = "disjoint"
    context_min: int = 16
    context_max: int = 128
    targets: int = 128
    models_per_step: int = 128
    check_every: int = 50
    patience: int = 6
    seed: int = 0

    @classmethod
    def published(cls, **changes: Any) -> Self:
        """The published settings (arXiv 2601.21082, section 4), with ``changes``."""
        settings = {
            "steps": 2500,
            "lr_encoder": 2e-4,
            "lr_predictor": 8e-4,
            "noise_start": 0.10,
            "noise_end": 0.05,
            "subsets": "fixed",
            "context_max": 1024,
            "models_per_step": 1 << 30,
            "check_every": 25,
            "patience": 100,
        }
        return cls(**{**settings, **changes})

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)
