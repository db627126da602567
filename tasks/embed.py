"""Embed: train an encoder if there is none, then place every model whose scores changed."""

import logging
from datetime import UTC, datetime

import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE

from locus.encoding import encoder_identity
from locus.matrix import ScoreMatrix
from tasks.lineage import git_sha, versions
from tasks.settings import Settings
from warehouse.store import Warehouse

log = logging.getLogger("locus.pipeline")


class NoEncoderError(RuntimeError):
    """A model can't be placed before an encoder was trained; the message says how to get one."""


class NotEnoughScoresError(RuntimeError):
    """There are too few scores to train on; the message says what is missing and what to do."""


@task(name="train", cache_policy=NO_CACHE)
def train_if_needed(settings: Settings, may_train: bool = True) -> tuple[str, bool]:
    """The active checkpoint; trains the first one on all scores of train and val queries.

    Returns:
        (checkpoint id, whether it was trained just now).

    Raises:
        NoEncoderError: there is none, and none may be trained now.
        NotEnoughScoresError: fewer than two models, or no scored validation queries.
    """
    identity = encoder_identity(settings.encoder)
    with Warehouse.open(settings.warehouse) as warehouse:
        active = warehouse.checkpoints.active()
        if active is not None and active["encoder"] == identity:
            return str(active["checkpoint_id"]), False
        if not may_train:
            raise NoEncoderError(
                f"there is no encoder for {identity!r} yet, so nobody can be placed: "
                "run `locus run nightly` first, it trains one"
            )
        train_frame = warehouse.scores.training_scores(splits=["train"])
        val_frame = warehouse.scores.training_scores(splits=["val"])
        counts = train_frame.group_by("model_id").len().filter(pl.col("len") >= 2)
        models = sorted(counts["model_id"])
        if len(models) < 2 or val_frame.filter(pl.col("model_id").is_in(models)).is_empty():
            raise NotEnoughScoresError(
                f"an encoder can't be trained on {len(models)} models and {val_frame.height} "
                "validation scores: it needs two models with scores at least; evaluate more "
                "(`locus models add`, `locus run nightly`) or import a matrix (`locus import`)"
            )
        train_queries, train_phi = warehouse.vectors.encodings(
            identity, train_frame["query_id"].unique().to_list()
        )
        val_queries, val_phi = warehouse.vectors.encodings(
            identity, val_frame["query_id"].unique().to_list()
        )
    from locus.embedding import checkpoint
    from locus.embedding.config import TrainingConfig
    from locus.embedding.training import TrainingData, train

    fit = ScoreMatrix.from_frame(train_frame, models, train_queries)
    val = ScoreMatrix.from_frame(val_frame, models, val_queries)
    config = TrainingConfig(
        steps=settings.training.steps,
        context_max=settings.training.context_max,
        patience=settings.training.patience,
        seed=settings.training.seed,
    )
    log.info(
        "training on %d models, %d queries, %d scores",
        len(models), len(train_queries), fit.n_scores,
    )  # fmt: skip

    def tell(step: int, of: int, bce: float) -> None:
        log.info("training: step %d of at most %d, validation BCE %.4f", step, of, bce)

    result = train(
        TrainingData(train_phi, fit.values_MQ, val_phi, val.values_MQ), config, on_progress=tell
    )
    facts = {"training": config.to_dict(), "metrics": result.metrics(), "versions": versions()}
    checkpoint_id = checkpoint.save(result.network, identity, facts, settings.checkpoints)
    with Warehouse.open(settings.warehouse) as warehouse:
        warehouse.checkpoints.add(
            {
                "checkpoint_id": checkpoint_id,
                "parent": active["checkpoint_id"] if active else None,
                "created_at": datetime.now(UTC),
                "encoder": identity,
                "config": {
                    "architecture": result.network.config.to_dict(),
                    "training": config.to_dict(),
                },
                "metrics": result.metrics(),
                "n_models": len(models),
                "n_queries": len(train_queries),
                "n_scores": fit.n_scores,
                "git_sha": git_sha(),
            }
        )
    return checkpoint_id, True


@task(name="embed", cache_policy=NO_CACHE)
def embed_models(settings: Settings, checkpoint_id: str) -> list[str]:
    """Place every model whose training scores changed since it was last placed.

    Returns:
        Ids of the models placed.
    """
    with Warehouse.open(settings.warehouse) as warehouse:
        digests = warehouse.scores.scores_digest().rename({"digest": "scores_digest"})
        before = warehouse.vectors.embeddings(checkpoint_id).select("model_id", "scores_digest")
        changed = digests.join(before, on=["model_id", "scores_digest"], how="anti")
        changed = changed.sort("model_id")
        if changed.is_empty():
            return []
        models = changed["model_id"].to_list()
        scores = warehouse.scores.training_scores(splits=["train"], models=models)
        queries, phi = warehouse.vectors.encodings(
            encoder_identity(settings.encoder), scores["query_id"].unique().to_list()
        )
    from locus.embedding import checkpoint
    from locus.embedding.placement import embed

    matrix = ScoreMatrix.from_frame(scores, models, queries)
    network = checkpoint.load(settings.checkpoints / checkpoint_id).network
    z_Md = embed(network, phi, matrix.values_MQ)
    with Warehouse.open(settings.warehouse) as warehouse:
        warehouse.vectors.replace_embeddings(
            checkpoint_id,
            changed.select(
                "model_id",
                "revision",
                pl.Series("vector", z_Md.tolist(), dtype=pl.List(pl.Float32)),
                "n_scores",
                "scores_digest",
            ),
        )
    log.info("placed %d models", len(models))
    return models
