"""Clusters of models, in the order of their tree; the report shows the same groups."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from locus.decisions.published import DecisionError, Floats, Ints, PublishedMap
from locus.similarity import clusters, group_tree, usual_groups


@dataclass(frozen=True)
class Cluster:
    """A group of models that answer alike.

    Attributes:
        cluster: its number, from 1 for the largest, as the report's groups are numbered.
        size: models in it.
        centre: the member with the least mean distance to the others.
        p_correct: mean predicted P(correct) of its members over all reference queries.
        best_task: where its members are furthest ahead of (or least behind) the whole pool.
        lead: by how much, in mean predicted P(correct).
        members: nearest to the centre first.
    """

    cluster: int
    size: int
    centre: str
    p_correct: float | None
    best_task: str | None
    lead: float | None
    members: list[str]


def find_clusters(published: PublishedMap, k: int | None = None) -> list[Cluster]:
    """Ward's clusters of places, in the order of their tree: neighbours are related.

    Args:
        published: the map.
        k: clusters wanted; None takes `usual_groups`.

    Raises:
        DecisionError: k is out of range.
    """
    n = published.models.height
    k = min(usual_groups(n), n) if k is None else k
    if not 1 <= k <= n:
        raise DecisionError(f"{k} clusters of {n} models: ask for 1 to {n}")
    tree = group_tree(published.z_Md)
    label_M = clusters(tree.linkage, k)
    # Each cluster is a stretch of the leaves, so its first leaf gives its place.
    labels = list(dict.fromkeys(label_M[tree.order].tolist()))
    d, skill = published.distances(), _task_means(published)
    return [
        _cluster(published, label + 1, np.flatnonzero(label_M == label), d, skill)
        for label in labels
    ]


def _task_means(published: PublishedMap) -> dict[str, Floats]:
    """Mean predicted P(correct) of each model on each task."""
    tasks = published.task_T
    return {
        task: published.p_TM[tasks == task].mean(axis=0) for task in sorted(set(tasks.tolist()))
    }


def _cluster(
    published: PublishedMap, number: int, members: Ints, d: Floats, skill: dict[str, Floats]
) -> Cluster:
    inner = d[np.ix_(members, members)]
    centre = int(inner.mean(axis=1).argmin())
    ordered = members[np.argsort(inner[centre], kind="stable")]
    leads = {task: float(p[members].mean() - p.mean()) for task, p in skill.items()}
    best = max(leads, key=lambda task: leads[task]) if leads else None
    return Cluster(
        number,
        len(members),
        published.name([int(members[centre])])[0],
        float(published.p_TM[:, members].mean()) if len(published.p_TM) else None,
        best,
        None if best is None else leads[best],
        published.name(ordered),
    )


def as_frame(found: list[Cluster], most: int | None = None) -> pl.DataFrame:
    """One row a cluster.

    Args:
        found: the clusters.
        most: how many members beside the centre ``others`` names before it counts the rest; None
            gives the list ``members`` instead.
    """
    if most is None:
        return pl.DataFrame([vars(c) for c in found], infer_schema_length=None)

    def others(cluster: Cluster) -> str:
        named, rest = cluster.members[1 : most + 1], cluster.size - 1 - most
        return ", ".join(named) + (f" and {rest} more" if rest > 0 else "")

    rows = [{**vars(c), "others": others(c)} for c in found]
    return pl.DataFrame(rows, infer_schema_length=None).drop("members")


def members_frame(published: PublishedMap, cluster: Cluster) -> pl.DataFrame:
    """Members of one cluster: model_id, distance to its centre, observed accuracy, n_scores."""
    rows = [published.index(model) for model in cluster.members]
    apart = published.distances_to(published.index(cluster.centre))
    return pl.DataFrame(
        {
            "model_id": cluster.members,
            "distance_to_centre": apart[rows],
            "observed_accuracy": pl.Series(published.accuracy()[rows]).fill_nan(None),
            "n_scores": published.models["n_scores"].gather(rows),
        }
    )
