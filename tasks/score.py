"""Score: the predictor over the whole pool and the reference queries."""

import logging

import numpy as np
import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE

from locus.bank import Array
from locus.embedding import checkpoint
from locus.routing.predictor import Predictor
from locus.selection import spread_order
from tasks.features import query_features
from tasks.settings import Settings
from warehouse.store import Warehouse

log = logging.getLogger("locus.pipeline")


def load_predictor(settings: Settings, checkpoint_id: str) -> Predictor:
    """The predictor of a checkpoint.

    Raises:
        CheckpointError: the checkpoint can't be trusted.
    """
    loaded = checkpoint.load(settings.checkpoints / checkpoint_id)
    return loaded.map.predictor(loaded.encoder)


def covariances(embeddings: pl.DataFrame) -> Array | None:
    """Packed covariances of embeddings, [M, u]; None where a method knows none."""
    if embeddings.is_empty() or embeddings["covariance"].null_count():
        return None
    return np.asarray(embeddings["covariance"].to_list(), dtype=np.float32)


@task(name="score", cache_policy=NO_CACHE)
def score_pool(settings: Settings, checkpoint_id: str) -> int:
    """Predict every placed model on every reference query and file the predictions.

    Returns:
        How many predictions there are.
    """
    identity = settings.encoder_identity
    with Warehouse.open(settings.warehouse) as warehouse:
        embeddings = warehouse.vectors.embeddings(checkpoint_id).sort("model_id")
        bank = warehouse.catalogue.queries(columns=["query_id", "task"])
        reference = spread_order(bank).head(settings.reference_queries)
        queries, x_Tf = query_features(warehouse, identity, reference["query_id"].to_list())
    z_Md = np.asarray(embeddings["vector"].to_list(), dtype=np.float32)
    predictor = load_predictor(settings, checkpoint_id)
    p_TM = predictor.probabilities(z_Md, x_Tf)
    deviation_TM = predictor.deviations(covariances(embeddings), x_Tf)
    frame = pl.DataFrame(
        {
            "model_id": np.tile(embeddings["model_id"].to_numpy(), len(queries)),
            "query_id": np.repeat(np.asarray(queries), embeddings.height),
            "p_correct": p_TM.ravel().astype(np.float64),
        }
    )
    if deviation_TM is not None:
        frame = frame.with_columns(deviation=pl.Series(deviation_TM.ravel()))
    with Warehouse.open(settings.warehouse) as warehouse:
        warehouse.vectors.replace_predictions(checkpoint_id, frame)
    log.info("predicted %d models on %d queries", embeddings.height, len(queries))
    return frame.height
