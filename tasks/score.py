"""Score: the predictor over the whole pool and the reference queries."""

import logging

import numpy as np
import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE

from locus.encoding import encoder_identity
from locus.routing.predictor import Predictor
from locus.selection import spread_order
from tasks.settings import Settings
from warehouse.store import Warehouse

log = logging.getLogger("locus.pipeline")


def load_predictor(settings: Settings, checkpoint_id: str) -> Predictor:
    """The predictor of a checkpoint, for numpy.

    Raises:
        CheckpointError: the checkpoint can't be trusted.
    """
    from locus.embedding import checkpoint

    loaded = checkpoint.load(settings.checkpoints / checkpoint_id)
    weights = {k: v.numpy() for k, v in loaded.network.predictor.state_dict().items()}
    return Predictor(weights, loaded.encoder)


@task(name="score", cache_policy=NO_CACHE)
def score_pool(settings: Settings, checkpoint_id: str) -> int:
    """Predict every placed model on every reference query and file the predictions.

    Returns:
        How many predictions there are.
    """
    identity = encoder_identity(settings.encoder)
    with Warehouse.open(settings.warehouse) as warehouse:
        embeddings = warehouse.vectors.embeddings(checkpoint_id).sort("model_id")
        bank = warehouse.catalogue.queries(columns=["query_id", "task"])
        reference = spread_order(bank).head(settings.reference_queries)
        queries, phi_Tp = warehouse.vectors.encodings(identity, reference["query_id"].to_list())
    z_Md = np.asarray(embeddings["vector"].to_list(), dtype=np.float32)
    p_TM = load_predictor(settings, checkpoint_id).probabilities(z_Md, phi_Tp)
    frame = pl.DataFrame(
        {
            "model_id": np.tile(embeddings["model_id"].to_numpy(), len(queries)),
            "query_id": np.repeat(np.asarray(queries), embeddings.height),
            "p_correct": p_TM.ravel().astype(np.float64),
        }
    )
    with Warehouse.open(settings.warehouse) as warehouse:
        warehouse.vectors.replace_predictions(checkpoint_id, frame)
    log.info("predicted %d models on %d queries", embeddings.height, len(queries))
    return frame.height
