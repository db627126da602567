"""How alike models are: in the embedding, and in what they answer right and wrong.

Belongs here: distances between embeddings, observed agreement with its interval, neighbours,
the order of a dendrogram, clusters, and the flat projection of the map. Does not belong here: how
embeddings come about (`locus.embedding`), how any of it looks (`locus.report`), where it is stored.

Shape suffixes: B models, N queries, d width of an embedding, P pairs. Missing stays missing: two
models without a common query have an agreement of NULL, never of 0.
"""

from locus.similarity._base import SimilarityInputError, wilson
from locus.similarity._geometry import (
    Dendrogram,
    clusters,
    dendrogram_order,
    group_tree,
    project,
    usual_groups,
)
from locus.similarity._layouts import Layout, missing_package
from locus.similarity._pairs import (
    PAIR_SCHEMA,
    DistanceAgreement,
    distance_agreement_correlation,
    distance_matrix,
    nearest,
    pairs,
)
from locus.similarity._predicted import (
    DisagreementMap,
    ObservedDisagreement,
    calibrated_disagreement,
    observed_disagreement,
    predicted_disagreement,
)

__all__ = [
    "PAIR_SCHEMA",
    "Dendrogram",
    "DisagreementMap",
    "DistanceAgreement",
    "Layout",
    "ObservedDisagreement",
    "SimilarityInputError",
    "calibrated_disagreement",
    "clusters",
    "dendrogram_order",
    "distance_agreement_correlation",
    "distance_matrix",
    "group_tree",
    "missing_package",
    "nearest",
    "observed_disagreement",
    "pairs",
    "predicted_disagreement",
    "project",
    "usual_groups",
    "wilson",
]
