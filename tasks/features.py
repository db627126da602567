"""Query features: the stored encoding of each query, and the surface features of its text."""

from collections.abc import Sequence

import numpy as np

from locus.bank import Array
from locus.encoding.surface import SURFACE, surface
from warehouse.store import Warehouse


def query_features(
    warehouse: Warehouse, identity: str, ids: Sequence[str]
) -> tuple[list[str], Array]:
    """Features of queries that have an encoding.

    Args:
        warehouse: open.
        identity: of the sentence encoder.
        ids: queries wanted.

    Returns:
        Ids in alphabetical order, and their features as float32 [N, p + 5]: the encoding, then
        what `locus.encoding.surface` reads from the text.
    """
    found, phi_Np = warehouse.vectors.encodings(identity, ids)
    if not found:
        return [], np.zeros((0, len(SURFACE)), dtype=np.float32)
    of = dict(warehouse.catalogue.queries(ids=found, columns=["query_id", "text"]).iter_rows())
    return found, np.concatenate([phi_Np, surface([of[query] for query in found])], axis=1)
