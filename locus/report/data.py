"""What the report is made of, checked once before anything is drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import polars as pl

from locus.report.cards import FACTS
from locus.report.curves import Curves
from locus.report.layouts import checked_layouts
from locus.report.since import Since
from locus.report.tidy import COUNT, REAL, TEXT, ReportDataError, tidy, visible
from locus.similarity import PAIR_SCHEMA

FRAMES: dict[str, dict[str, pl.DataType]] = {
    "models": {
        "model_id": TEXT,
        "org": TEXT,
        "family": TEXT,
        "params_b": REAL,
        "n_scores": COUNT,
        "accuracy": REAL,
        "x": REAL,
        "y": REAL,
        "cluster": COUNT,
    },
    "pairs": PAIR_SCHEMA,
    "neighbours": {
        "model_id": TEXT,
        "rank": COUNT,
        "neighbour_id": TEXT,
        "euclidean_distance": REAL,
        "observed_agreement": REAL,
        "n_common": COUNT,
        "agreement_low": REAL,
        "agreement_high": REAL,
    },
    "routing": {
        "bucket": TEXT,
        "model_id": TEXT,
        "rank": COUNT,
        "p_correct": REAL,
        "lower_bound": REAL,
        "n_observed": COUNT,
        "observed_accuracy": REAL,
    },
    "buckets": {
        "bucket": TEXT,
        "kind": TEXT,
        "words": TEXT,
        "best_for_the_money": TEXT,
    },
    "task_accuracy": {
        "model_id": TEXT,
        "task": TEXT,
        "n": COUNT,
        "accuracy": REAL,
        "low": REAL,
        "high": REAL,
    },
    "facts": FACTS,
}
"""Columns that each frame of `ReportData` must have; more are ignored, NULL means unknown."""

_REQUIRED_VALUES = {
    "models": "model_id",
    "buckets": "bucket",
    "routing": "bucket",
    "task_accuracy": "task",
    "facts": "model_id",
}

FIRST = "This is the first snapshot: there is none to compare it with."


@dataclass(frozen=True)
class ReportData:
    """Everything on the page. Shares are in [0, 1], parameters in billions, times in UTC.

    Attributes:
        title: heading of the page.
        snapshot_id: the published snapshot this page belongs to.
        created_at: when the snapshot was built; must carry a time zone.
        n_queries: distinct queries behind the scores.
        models: one row per model; ``x`` and ``y`` from `locus.similarity.project`, ``cluster`` from
            `locus.similarity.clusters`. A model without a position is listed but not on the map.
        pairs: as `locus.similarity.pairs` returns it. The heat map shows what is in here, so a
            frame thinned by ``top_k`` leaves gaps in it.
        neighbours: as `locus.similarity.nearest` returns it.
        buckets: the buckets in the order they are shown: what kind each is (``all``, ``task`` or
            ``topic``), the words that tell a topic from the others, and the model that is best for
            the money (NULL without prices). Buckets of ``routing`` that are not here come last.
        routing: ranked models per bucket of queries; the page shows ranks 1 to 3, and the best for
            the money whatever its rank; a model's card shows every rank.
        task_accuracy: accuracy per model and task with its interval.
        facts: what a model's card says besides, at most one row a model: revision, prices, measured
            cost and latency of a query, and the doubt about its place.
        routing_quality: method -> ``hit@1``, ``low``, ``high``, ``n`` on held-out queries, the
            published method first; the keys of `page.METHOD_NAMES` get a name in words.
        new_models: ids added since the last snapshot.
        since: what else changed since then; None where nothing was compared.
        not_compared: why not, in a sentence; shown where ``since`` is None.
        curves: what few models, a budget and money reach on held-out queries.
        layouts: other layouts of the map by name (``tsne``, ``umap``): model_id, x, y.
        lineage: what the numbers came from, such as checkpoint, encoder, git commit.
        limits: known limits, one sentence each.
    """

    title: str
    snapshot_id: str
    created_at: datetime
    n_queries: int
    models: pl.DataFrame
    pairs: pl.DataFrame
    neighbours: pl.DataFrame
    buckets: pl.DataFrame
    routing: pl.DataFrame
    task_accuracy: pl.DataFrame
    routing_quality: Mapping[str, Mapping[str, float | int | None]] = field(default_factory=dict)
    facts: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=FACTS))
    new_models: Sequence[str] = ()
    since: Since | None = None
    not_compared: str = FIRST
    curves: Curves = field(default_factory=Curves)
    layouts: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    lineage: Mapping[str, object] = field(default_factory=dict)
    limits: Sequence[str] = ()

    def checked(self) -> "ReportData":
        """A copy with frames cut down to `FRAMES`, cast and with nothing invisible in their text.

        Raises:
            ReportDataError: a column is missing or of another type, an id repeats, a frame names an
                unknown model, or the time has no zone.
        """
        if self.created_at.tzinfo is None:
            raise ReportDataError(f"created_at {self.created_at} has no time zone; pass UTC")
        frames = {
            name: tidy(getattr(self, name), schema, name, _REQUIRED_VALUES.get(name))
            for name, schema in FRAMES.items()
        }
        known = frames["models"]["model_id"]
        for name in ("models", "facts"):
            ids = frames[name]["model_id"]
            if ids.is_duplicated().any():
                twice = ids.filter(ids.is_duplicated())[0]
                raise ReportDataError(f"{name} lists {twice!r} twice; pass one row per model")
        for name, columns in (
            ("pairs", ("model_a", "model_b")),
            ("neighbours", ("model_id", "neighbour_id")),
            ("buckets", ("best_for_the_money",)),
            ("routing", ("model_id",)),
            ("task_accuracy", ("model_id",)),
            ("facts", ("model_id",)),
        ):
            for column in columns:
                stray = frames[name].filter(~pl.col(column).is_in(known.implode()))
                if stray.height:
                    raise ReportDataError(
                        f"{name}.{column} names {stray[column][0]!r}, which is not in models; "
                        "add it there or leave its rows out"
                    )
        new = [visible(model) for model in self.new_models]
        for method, quality in self.routing_quality.items():
            if missing := {"hit@1", "low", "high", "n"} - set(quality):
                raise ReportDataError(f"routing_quality[{method!r}] lacks {sorted(missing)}")
        return ReportData(
            title=visible(self.title),
            snapshot_id=visible(self.snapshot_id),
            created_at=self.created_at.astimezone(UTC),
            n_queries=self.n_queries,
            routing_quality={visible(name): row for name, row in self.routing_quality.items()},
            new_models=[model for model in new if model in set(known)],
            since=self.since and self.since.checked(),
            not_compared=visible(self.not_compared),
            curves=self.curves.checked(known),
            layouts=checked_layouts(self.layouts, known),
            lineage={visible(key): visible(str(value)) for key, value in self.lineage.items()},
            limits=[visible(limit) for limit in self.limits],
            **frames,
        )
