"""Embed: make a map if there is none, then place every model whose scores changed."""

import logging
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE

from locus.bank import Array, Bank, Queries
from locus.embedding import checkpoint
from locus.embedding.factors import FactorPlacement
from locus.embedding.maps import AttentionMap, FactorMap, ModelMap, queries_of
from locus.encoding.surface import SURFACE
from locus.matrix import ScoreMatrix
from locus.peers.trivial import bce
from locus.shadow import LEAST_MODELS, LearnedFrom
from tasks.changed import DIGESTS, current_digests
from tasks.features import query_features
from tasks.lineage import git_sha, versions
from tasks.settings import Settings, TrainingSettings
from warehouse.store import Warehouse

log = logging.getLogger("locus.pipeline")

# Scores that are read and placed at a time.
_SCORES_AT_ONCE = 1 << 22
# Placing so few takes a fraction of a second: less than opening the warehouse once more would.
_SCORES_WHILE_OPEN = 1 << 16
_CHANGED = pl.Schema(
    {
        "model_id": pl.String,
        "revision": pl.String,
        "n_scores": pl.Int64,
        "scores_digest": pl.String,
    }
)
_PLACED = "SELECT model_id, scores_digest FROM model_embedding WHERE checkpoint_id = ?"


class NoEncoderError(RuntimeError):
    """A model can't be placed before an encoder was trained; the message says how to get one."""


class NotEnoughScoresError(RuntimeError):
    """There are too few scores to train on; the message says what is missing and what to do."""


@dataclass(frozen=True)
class Training:
    """Scores and features that a map is learned from.

    Attributes:
        train: scores on training queries.
        val: scores of the same models on validation queries: they measure and calibrate.
        train_x: features of the training queries.
        val_x: features of the validation queries.
        task_of: tasks of all queries.
        digest: of all scores on training and validation queries.
    """

    train: ScoreMatrix
    val: ScoreMatrix
    train_x: Array
    val_x: Array
    task_of: dict[str, str]
    digest: str

    def without(self, models: Collection[str]) -> "Training":
        """The same without some models, and without training queries that only they answered."""
        rest = [model for model in self.train.models if model not in models]
        train, val = self.train.select(rest), self.val.select(rest)
        asked = np.flatnonzero(train.known_MQ.any(axis=0))
        train = train.select(queries=[train.queries[i] for i in asked])
        return replace(self, train=train, val=val, train_x=self.train_x[asked])

    def learned_from(self) -> LearnedFrom:
        """What a map learned from it knows."""
        n_Q = self.train.known_MQ.sum(axis=0)
        tasks = Counter(
            self.task_of[query]
            for query, n in zip(self.train.queries, n_Q, strict=True)
            if n >= LEAST_MODELS
        )
        return LearnedFrom(self.digest, self.train.models, dict(sorted(tasks.items())))


@dataclass(frozen=True)
class Learned:
    """A map that was just learned.

    Attributes:
        map: the map.
        config: what it was learned with.
        metrics: what it reached on validation scores.
    """

    map: ModelMap
    config: dict[str, Any]
    metrics: dict[str, Any]


def has_map(settings: Settings) -> bool:
    """Whether a map was ever learned: until then models are asked enough to learn one from."""
    with Warehouse.open(settings.warehouse) as warehouse:
        return warehouse.checkpoints.active() is not None


@task(name="train", cache_policy=NO_CACHE)
def train_if_needed(settings: Settings, may_train: bool = True) -> tuple[str, bool]:
    """The active checkpoint; makes the first one from all scores of train and val queries.

    Returns:
        (checkpoint id, whether it was made just now).

    Raises:
        NoEncoderError: there is none, and none may be made now.
        NotEnoughScoresError: fewer than two models, or no scored validation queries.
    """
    identity = settings.encoder_identity
    with Warehouse.open(settings.warehouse) as warehouse:
        active = warehouse.checkpoints.active()
        if active is not None and active["encoder"] == identity:
            return str(active["checkpoint_id"]), False
        if not may_train:
            raise NoEncoderError(
                f"there is no map for {identity!r} yet, so nobody can be placed: "
                "run `locus run nightly` first, it makes one"
            )
        data = read_training(warehouse, identity)
    learned = learn(data, settings.training)
    before = str(active["checkpoint_id"]) if active else None
    row = save_map(settings, identity, data, learned, active=before)
    checkpoint_id = str(row["checkpoint_id"])
    why = f"there was no map for {identity}"
    with Warehouse.open(settings.warehouse) as warehouse, warehouse.transaction():
        warehouse.checkpoints.add(row, activate=False)
        warehouse.checkpoints.decide("first", checkpoint_id, True, why, git_sha=git_sha())
    return checkpoint_id, True


def learn(data: Training, settings: TrainingSettings) -> Learned:
    """Learn a map by the method that is set."""
    log.info(
        "learning a map (%s) from %d models, %d queries, %d scores", settings.method,
        len(data.train.models), len(data.train.queries), data.train.n_scores,
    )  # fmt: skip
    started = time.perf_counter()
    learned = _LEARN[settings.method](data, settings)
    learned.metrics["seconds"] = round(time.perf_counter() - started, 2)
    return learned


def save_map(
    settings: Settings,
    identity: str,
    data: Training,
    learned: Learned,
    *,
    active: str | None = None,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Write a map's checkpoint; nothing knows of it yet.

    Args:
        settings: the pipeline's settings.
        identity: of the sentence encoder.
        data: what it was learned from.
        learned: the map.
        active: checkpoint that is active now.
        folder: where checkpoints lie; that of the settings by default.

    Returns:
        Its row, as `warehouse.checkpoints.Checkpoints.add` takes it.
    """
    facts = {
        "training": learned.config,
        "metrics": learned.metrics,
        "versions": versions(),
        "learned_from": data.learned_from().to_dict(),
    }
    parent = folder or settings.checkpoints
    return {
        "checkpoint_id": checkpoint.save(learned.map, identity, facts, parent),
        "parent": active,
        "created_at": datetime.now(UTC),
        "encoder": identity,
        "config": {
            "method": settings.training.method,
            "training": learned.config,
            "scores_digest": data.digest,
        },
        "metrics": learned.metrics,
        "n_models": len(data.train.models),
        "n_queries": len(data.train.queries),
        "n_scores": data.train.n_scores,
        "git_sha": git_sha(),
    }


def read_training(warehouse: Warehouse, identity: str) -> Training:
    """What a map can be learned from now.

    Raises:
        NotEnoughScoresError: fewer than two models, or no scored validation queries.
    """
    train = warehouse.scores.training_scores(splits=["train"])
    val = warehouse.scores.training_scores(splits=["val"])
    counts = train.group_by("model_id").len().filter(pl.col("len") >= 2)
    models = sorted(counts["model_id"])
    if len(models) < 2 or val.filter(pl.col("model_id").is_in(models)).is_empty():
        raise NotEnoughScoresError(
            f"a map can't be learned from {len(models)} models and {val.height} "
            "validation scores: it needs two models with scores at least; evaluate more "
            "(`locus models add`, `locus run nightly`) or import a matrix (`locus import`)"
        )
    train_ids, train_x = query_features(warehouse, identity, train["query_id"].unique().to_list())
    val_ids, val_x = query_features(warehouse, identity, val["query_id"].unique().to_list())
    tasks = warehouse.catalogue.queries(columns=["query_id", "task"])
    return Training(
        ScoreMatrix.from_frame(train, models, train_ids),
        ScoreMatrix.from_frame(val, models, val_ids),
        train_x,
        val_x,
        dict(tasks.iter_rows()),
        warehouse.checkpoints.training_digest() or "",
    )


def _learn_factors(data: Training, settings: TrainingSettings) -> Learned:
    """Closed-form placement; validation scores measure it and teach nothing."""

    def queries(ids: Sequence[str], x_Qf: Array) -> Queries:
        return queries_of(x_Qf, [data.task_of[query] for query in ids])

    bank = Bank(
        queries(data.train.queries, data.train_x),
        data.train.values_MQ,
        queries(data.val.queries, data.val_x),
        data.val.values_MQ,
    )
    placement = FactorPlacement()
    placement.fit(bank, settings.seed)
    p_MV = placement.predict(placement.place(bank.values_MQ), bank.val_queries)
    known = ~np.isnan(bank.val_values_MV)
    right = (p_MV > 0.5) == (bank.val_values_MV > 0.5)
    metrics = {
        "val_bce": bce(p_MV, bank.val_values_MV),
        "val_accuracy": float(right[known].mean()),
        "factors": int(placement.factors_Qk.shape[1] - len(placement.with_offset)),
    }
    config = {**placement.config.to_dict(), "seed": settings.seed}
    return Learned(FactorMap(placement, data.train.queries), config, metrics)


def _learn_attention(data: Training, settings: TrainingSettings) -> Learned:
    """LOCUS' encoder and predictor, trained by gradient descent."""
    from locus.embedding.config import TrainingConfig
    from locus.embedding.training import TrainingData, train

    config = TrainingConfig(
        steps=settings.steps,
        context_max=settings.context_max,
        patience=settings.patience,
        seed=settings.seed,
    )

    def tell(step: int, of: int, bce: float) -> None:
        log.info("training: step %d of at most %d, validation BCE %.4f", step, of, bce)

    p = data.train_x.shape[1] - len(SURFACE)
    result = train(
        TrainingData(
            np.ascontiguousarray(data.train_x[:, :p]),
            data.train.values_MQ,
            np.ascontiguousarray(data.val_x[:, :p]),
            data.val.values_MQ,
        ),
        config,
        on_progress=tell,
    )
    return Learned(AttentionMap(result.network), config.to_dict(), dict(result.metrics()))


_LEARN = {"factors": _learn_factors, "attention": _learn_attention}


@task(name="embed", cache_policy=NO_CACHE)
def embed_models(settings: Settings, checkpoint_id: str) -> list[str]:
    """Place every model whose training scores changed since it was last placed.

    Returns:
        Ids of the models placed.

    Raises:
        CheckpointError: the checkpoint can't be trusted, or is of another sentence encoder.
    """
    identity = settings.encoder_identity
    with Warehouse.open(settings.warehouse) as warehouse:
        digests = current_digests(warehouse, settings.home / DIGESTS)
        before = set(warehouse.rows(_PLACED, [checkpoint_id]))
        new = [one for one in digests if (one.model_id, one.digest) not in before]
        if not new:
            return []
        changed = pl.DataFrame(new, schema=_CHANGED, orient="row")
        if few := changed["n_scores"].sum() <= _SCORES_WHILE_OPEN:
            loaded = checkpoint.load(settings.checkpoints / checkpoint_id, identity)
            placed = _placed(loaded.map, changed, *_read(warehouse, identity, loaded.map, changed))
            warehouse.vectors.replace_embeddings(checkpoint_id, placed)
    if not few:
        loaded = checkpoint.load(settings.checkpoints / checkpoint_id, identity)
        for block in _blocks(changed):
            _place(settings, checkpoint_id, identity, loaded.map, block)
    log.info("placed %d models", changed.height)
    return changed["model_id"].to_list()


def _blocks(changed: pl.DataFrame) -> list[pl.DataFrame]:
    """Models in blocks of about `_SCORES_AT_ONCE` scores, so that memory has a limit."""
    block = changed["n_scores"].cum_sum() // _SCORES_AT_ONCE
    return changed.with_columns(block=block).partition_by(
        "block", maintain_order=True, include_key=False
    )


def _read(
    warehouse: Warehouse, identity: str, model_map: ModelMap, block: pl.DataFrame
) -> tuple[ScoreMatrix, Array]:
    """Some models' training scores, and the features of the queries."""
    models = block["model_id"].to_list()
    scores = warehouse.scores.training_scores(splits=["train"], models=models)
    queries = sorted(scores["query_id"].unique())
    if isinstance(model_map, FactorMap) and set(model_map.ids).issuperset(queries):
        # It has learned all these queries: only of others it asks what their texts tell.
        x_Qf = np.zeros((len(queries), 0), dtype=np.float32)
    else:
        queries, x_Qf = query_features(warehouse, identity, queries)
    return ScoreMatrix.from_frame(scores, models, queries), x_Qf


def _place(
    settings: Settings,
    checkpoint_id: str,
    identity: str,
    model_map: ModelMap,
    block: pl.DataFrame,
) -> None:
    """Place some models and store where they are, all of them or none."""
    with Warehouse.open(settings.warehouse) as warehouse:
        read = _read(warehouse, identity, model_map, block)
    frame = _placed(model_map, block, *read)
    with Warehouse.open(settings.warehouse) as warehouse:
        warehouse.vectors.replace_embeddings(checkpoint_id, frame)


def _placed(
    model_map: ModelMap, block: pl.DataFrame, matrix: ScoreMatrix, x_Qf: Array
) -> pl.DataFrame:
    """Where some models are (`warehouse.contracts.EmbeddingFrame`)."""
    placed = model_map.embed(matrix.queries, x_Qf, matrix.values_MQ)
    frame = block.select("model_id", "revision", "n_scores", "scores_digest").with_columns(
        vector=_lists(placed.z_Md)
    )
    if placed.uncertainty_M is not None and placed.covariance_Mu is not None:
        frame = frame.with_columns(
            uncertainty=pl.Series(placed.uncertainty_M),
            covariance=_lists(placed.covariance_Mu),
        )
    return frame


def _lists(rows_Md: Array) -> pl.Series:
    """Rows of a matrix as lists; not through Python's numbers, which take ten times the memory."""
    return pl.Series(np.ascontiguousarray(rows_Md, dtype=np.float32)).cast(pl.List(pl.Float32))
