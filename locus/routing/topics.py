"""Which learned topic of a snapshot a query is like, and how its models did there.

Shape letters: T queries, G topics, p width of an encoding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from locus.bank import Array
from locus.routing.buckets import bucket_names, cosines, read_centres
from locus.routing.routed import Choice, InTopic, Topic
from locus.routing.table import TOPIC


class Topics:
    """Topics of a published snapshot; see `read`.

    Args:
        centres_Gp: their centres, unit vectors.
        edge: cosine to the nearest centre below which a query is far from every topic.
        buckets: for each topic, in the order of the centres, its name and its entry in
            ``routing/table.json``.
    """

    def __init__(
        self, centres_Gp: Array, edge: float, buckets: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self._centres_Gp, self._edge = centres_Gp, edge
        self._topics = [
            (name, list(bucket["words"]), int(bucket["n_reference"]))
            for name, bucket in buckets.items()
        ]
        self._models = {
            name: {
                row["model_id"]: InTopic(
                    row["observed_accuracy"], row["n_observed"], row["lower_bound"]
                )
                for row in bucket["models"]
            }
            for name, bucket in buckets.items()
        }

    @classmethod
    def read(cls, routing: Path, table: Mapping[str, Any]) -> "Topics | None":
        """Read a snapshot's topics.

        Args:
            routing: the snapshot's folder ``routing``.
            table: content of its ``table.json``.

        Returns:
            The topics; None where the snapshot has none, or was published before a query could
            be far from all of them.
        """
        found = read_centres(routing)
        if found is None:
            return None
        centres_Gp, edge = found
        buckets = table["buckets"]
        others = [name for name, bucket in buckets.items() if bucket["kind"] != TOPIC]
        names = bucket_names(len(centres_Gp), others)
        # A topic without a reference query has no row in the table.
        kept = [g for g, name in enumerate(names) if name in buckets]
        return cls(centres_Gp[kept], edge, {names[g]: buckets[names[g]] for g in kept})

    def tell(
        self, phi_Tp: Array, choices: Sequence[Sequence[Choice]]
    ) -> tuple[list[Topic], list[list[Choice]]]:
        """The topic that each of T queries is most like, and its candidates with their part in it.

        Args:
            phi_Tp: encodings of the queries.
            choices: for each query its candidates.
        """
        topics = [self._nearest(cosine_G) for cosine_G in cosines(phi_Tp, self._centres_Gp)]
        return topics, [
            [replace(c, in_topic=self._there(topic, c.model_id)) for c in some]
            for topic, some in zip(topics, choices, strict=True)
        ]

    def _nearest(self, cosine_G: Array) -> Topic:
        nearest = int(cosine_G.argmax())
        cosine = float(cosine_G[nearest])
        return Topic(*self._topics[nearest], cosine, self._edge, cosine < self._edge)

    def _there(self, topic: Topic, model_id: str) -> InTopic | None:
        return None if topic.far else self._models[topic.name][model_id]
