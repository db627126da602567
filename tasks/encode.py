"""Encode: queries without a vector get one; a query is never encoded twice."""

import logging

import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE

from locus.encoding import TextEncoder
from tasks.settings import Settings
from warehouse.store import Warehouse

log = logging.getLogger("locus.pipeline")

# Rows stored at a time: a killed run loses this many encodings at most.
_BLOCK = 1024


@task(name="encode", cache_policy=NO_CACHE)
def encode_queries(settings: Settings) -> int:
    """Encode what has no vector of the configured encoder yet.

    Returns:
        How many queries were encoded.

    Raises:
        EncoderError: the encoder can't be loaded.
    """
    identity = settings.encoder_identity
    with Warehouse.open(settings.warehouse) as warehouse:
        missing = warehouse.vectors.missing_encodings(identity)
    if missing.is_empty():
        return 0
    encoder = TextEncoder(settings.encoder, precision=settings.encoder_precision)
    for start in range(0, missing.height, _BLOCK):
        block = missing.slice(start, _BLOCK)
        vectors = encoder.encode(block["text"].to_list())
        frame = pl.DataFrame(
            {
                "query_id": block["query_id"],
                "encoder": identity,
                "vector": pl.Series(vectors.tolist(), dtype=pl.List(pl.Float32)),
            }
        )
        with Warehouse.open(settings.warehouse) as warehouse:
            warehouse.vectors.add_encodings(frame)
        log.info("encoded %d of %d queries", min(start + _BLOCK, missing.height), missing.height)
    return missing.height
