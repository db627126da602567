"""A home filled with made answers to made queries, which bring their own encodings."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import polars as pl

from locus.bank import Array
from tasks.embed import embed_models, train_if_needed
from tasks.importing import import_folder
from tasks.score import score_pool
from tasks.settings import Settings
from warehouse.store import Warehouse

# A hub id is its own identity, so its vectors can be filed without any encoder.
ENCODER = "some/encoder"


@dataclass(frozen=True)
class MadeQueries:
    """Queries by number.

    Attributes:
        tasks: the task of each.
        splits: its split.
        phi_Qp: its encoding.
    """

    tasks: Sequence[str]
    splits: Sequence[str]
    phi_Qp: Array


@dataclass(frozen=True)
class AnsweredHome:
    """A home, filled step by step.

    Attributes:
        home: the folder.
        queries: what can be answered in it.
        reference_queries: as in the settings.
    """

    home: Path
    queries: ClassVar[MadeQueries]
    reference_queries: ClassVar[int]

    @property
    def settings(self) -> Settings:
        return Settings(home=self.home, encoder=ENCODER, reference_queries=self.reference_queries)

    def file(self, numbers: Sequence[int], y_Q: Mapping[str, Array]) -> None:
        """Import answers to some queries, and file the encodings of these.

        Args:
            numbers: which queries.
            y_Q: by model, its answers to all queries there are.
        """
        made = self.queries
        folder = self.home.parent / f"matrix-{time.monotonic_ns()}"
        folder.mkdir(parents=True)
        pl.DataFrame({"model_id": list(y_Q)}).write_parquet(folder / "models.parquet")
        pl.DataFrame(
            {
                "query_id": [f"q{q}" for q in numbers],
                "benchmark": [made.tasks[q] for q in numbers],
                "text": [f"Question {q} of {made.tasks[q]}?" for q in numbers],
                "split": [made.splits[q] for q in numbers],
            }
        ).write_parquet(folder / "queries.parquet")
        pl.DataFrame(
            [(model, f"q{q}", float(y[q])) for model, y in y_Q.items() for q in numbers],
            schema=["model_id", "query_id", "score"],
            orient="row",
        ).write_parquet(folder / "scores.parquet")
        import_folder(self.settings, "matrix", folder)
        with Warehouse.open(self.settings.warehouse) as w:
            ids = self.ids(w)
            w.vectors.add_encodings(
                pl.DataFrame(
                    {
                        "query_id": list(ids),
                        "encoder": ENCODER,
                        "vector": pl.Series(
                            made.phi_Qp[list(ids.values())].tolist(), dtype=pl.List(pl.Float32)
                        ),
                    }
                )
            )

    def ids(self, warehouse: Warehouse) -> dict[str, int]:
        """Numbers of the queries that are filed, by id; the text of each says it."""
        bank = warehouse.catalogue.queries(columns=["query_id", "text"])
        return {query: int(text.split()[1]) for query, text in bank.iter_rows()}

    def placed(self) -> str:
        """The active map, with every model placed and predicted."""
        active, _ = train_if_needed.fn(self.settings)
        embed_models.fn(self.settings, active)
        score_pool.fn(self.settings, active)
        return active
