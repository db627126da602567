"""What the report is made of, checked once before anything is drawn."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import polars as pl

from locus.similarity import PAIR_SCHEMA

_TEXT, _REAL, _COUNT = pl.String(), pl.Float64(), pl.Int64()

FRAMES: dict[str, dict[str, pl.DataType]] = {
    "models": {
        "model_id": _TEXT,
        "org": _TEXT,
        "family": _TEXT,
        "params_b": _REAL,
        "n_scores": _COUNT,
        "accuracy": _REAL,
        "x": _REAL,
        "y": _REAL,
        "cluster": _COUNT,
    },
    "pairs": PAIR_SCHEMA,
    "neighbours": {
        "model_id": _TEXT,
        "rank": _COUNT,
        "neighbour_id": _TEXT,
        "euclidean_distance": _REAL,
        "observed_agreement": _REAL,
        "n_common": _COUNT,
        "agreement_low": _REAL,
        "agreement_high": _REAL,
    },
    "routing": {
        "bucket": _TEXT,
        "model_id": _TEXT,
        "rank": _COUNT,
        "p_correct": _REAL,
        "lower_bound": _REAL,
        "n_observed": _COUNT,
        "observed_accuracy": _REAL,
    },
    "task_accuracy": {
        "model_id": _TEXT,
        "task": _TEXT,
        "n": _COUNT,
        "accuracy": _REAL,
        "low": _REAL,
        "high": _REAL,
    },
}
"""Columns that each frame of `ReportData` must have; more are ignored, NULL means unknown."""

_REQUIRED_VALUES = {"models": "model_id", "routing": "bucket", "task_accuracy": "task"}


# Control characters and those that turn the direction of text around: invisible, they can make
# "evil/<U+202E>gnp.exe" read as "evil/exe.png".
_INVISIBLE = "[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"


def visible(text: str) -> str:
    """``text`` with control and direction characters written out, as in ``⟨U+202E⟩``."""
    return re.sub(_INVISIBLE, lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


class ReportDataError(ValueError):
    """Data that can't be shown truthfully; the message names the frame and the next step."""


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
        routing: ranked models per bucket of queries; the page shows ranks 1 to 3.
        task_accuracy: accuracy per model and task with its interval.
        routing_quality: method -> ``hit@1``, ``low``, ``high``, ``n`` on held-out queries, the
            published method first. the keys of
            `page.METHOD_NAMES` get a name in words.
        new_models: ids added since the last snapshot.
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
    routing: pl.DataFrame
    task_accuracy: pl.DataFrame
    routing_quality: Mapping[str, Mapping[str, float | int | None]] = field(default_factory=dict)
    new_models: Sequence[str] = ()
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
        frames = {name: self._frame(name) for name in FRAMES}
        known = frames["models"]["model_id"]
        if known.is_duplicated().any():
            twice = known.filter(known.is_duplicated())[0]
            raise ReportDataError(f"models lists {twice!r} twice; pass one row per model")
        for name, columns in (
            ("pairs", ("model_a", "model_b")),
            ("neighbours", ("model_id", "neighbour_id")),
            ("routing", ("model_id",)),
            ("task_accuracy", ("model_id",)),
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
            lineage={visible(key): visible(str(value)) for key, value in self.lineage.items()},
            limits=[visible(limit) for limit in self.limits],
            **frames,
        )

    def _frame(self, name: str) -> pl.DataFrame:
        """One frame with exactly the columns of `FRAMES`; NaN and infinity become NULL."""
        frame: pl.DataFrame = getattr(self, name)
        schema = FRAMES[name]
        if missing := [column for column in schema if column not in frame.columns]:
            raise ReportDataError(f"the frame {name} lacks the column(s) {missing}; add them")
        try:
            cast = frame.select(pl.col(column).cast(kind) for column, kind in schema.items())
        except pl.exceptions.PolarsError as error:
            raise ReportDataError(
                f"the frame {name} has a column of a wrong type: {error}"
            ) from error
        key = _REQUIRED_VALUES.get(name)
        if key and cast[key].null_count():
            raise ReportDataError(f"{name}.{key} has empty values; name every row")
        reals = [column for column, kind in schema.items() if kind == _REAL]
        for column in (column for column, kind in schema.items() if kind == _TEXT):
            hidden = cast[column].filter(cast[column].str.contains(_INVISIBLE)).unique()
            if len(hidden):
                shown = {text: visible(text) for text in hidden}
                cast = cast.with_columns(pl.col(column).replace(shown))
        return cast.with_columns(
            pl.when(pl.col(column).is_finite()).then(pl.col(column)) for column in reals
        )
