"""From a snapshot's frames and its parent's files to what the page says has changed."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from test_report_page import packed

from locus import similarity
from locus.publication.changes import being_built, changes, compare, side
from locus.publication.content import BuildFacts, SnapshotContent
from locus.publication.page import write_report
from locus.publication.routing import Routing
from locus.routing.quality import Quality
from locus.routing.table import TOPIC, Bucket, routing_table, task_buckets
from locus.snapshots import Snapshot, building_folder, seal

START = datetime(2026, 3, 1, tzinfo=UTC)
TASKS = ["sums", "sums", "capitals", "capitals"]
QUERIES = [f"q{i}" for i in range(len(TASKS))]


class World:
    """Models with a place, a chance per query, and prices; one night a day."""

    def __init__(self, ids: list[str], places: list[list[float]], p_TM: list[list[float]]) -> None:
        self.ids, self.z_Md = ids, np.array(places, dtype=np.float32)
        self.p_TM = np.array(p_TM, dtype=np.float32)

    def night(
        self, day: int, n_scores: int, parent: Snapshot | None = None, checkpoint: str = "c1"
    ) -> tuple[SnapshotContent, BuildFacts, Routing]:
        models = pl.DataFrame(
            {
                "model_id": self.ids,
                "revision": "r",
                "org": "org",
                "family": "small",
                "params_b": 1.0,
                "price_in_usd_per_mtok": [5.0 + i for i in range(len(self.ids))],
                "price_out_usd_per_mtok": None,
                "n_scores": n_scores,
            },
            schema_overrides={"price_out_usd_per_mtok": pl.Float64, "n_scores": pl.Int64},
        )
        reference = pl.DataFrame(
            {"query_id": QUERIES, "task": TASKS, "split": "train", "text": QUERIES}
        )
        scores = models.select("model_id").join(reference.drop("text"), how="cross")
        content = SnapshotContent(
            created_at=START + timedelta(days=day),
            models=models,
            z_Md=self.z_Md,
            reference=reference,
            x_Tf=np.zeros((len(QUERIES), 1), np.float32),
            scores=scores.with_columns(score=pl.lit(1.0)),
            cost=pl.DataFrame(),
            predictor=None,  # type: ignore[arg-type]  # the page asks it nothing
            lineage={"checkpoint_id": checkpoint},
            uncertainty_M=np.full(len(self.ids), 0.25 / (1 + day), np.float32),
            parent=parent,
        )
        facts = BuildFacts(
            [Quality("routed", hit1=0.7 + 0.05 * day, low=0.6, high=0.8, hit3=None, n=40)],
            None,
            40,
            {"models": len(self.ids), "queries": len(QUERIES), "scores": scores.height},
            {},
        )
        topic = Bucket("adding", TOPIC, np.array([0, 1]), ("plus", "minus"))
        table = routing_table(
            models, reference, self.p_TM, content.scores, buckets=[*task_buckets(TASKS), topic]
        )
        words = {"adding": ["plus", "minus"]}
        return content, facts, Routing(table, None, words, None, None)


def published(content: SnapshotContent, facts: BuildFacts, routing: Routing, to: Path) -> Snapshot:
    """Seal what `changes` reads of a snapshot."""
    building = building_folder(to)
    for name in ("similarity", "routing"):
        (building / name).mkdir()
    built = being_built(content, facts, routing.table)
    built.places.write_parquet(building / "similarity" / "embeddings.parquet")
    routing.table.write_parquet(building / "routing" / "table.parquet")
    return seal(building, facts.to_manifest(content), content.created_at)


def page_of(content: SnapshotContent, facts: BuildFacts, routing: Routing, path: Path) -> str:
    pairs = similarity.pairs(content.models["model_id"].to_list(), content.z_Md, content.scores)
    write_report(content, facts, pairs, similarity.nearest(pairs, 2), routing, path)
    return path.read_text(encoding="utf-8")


def test_what_is_built_is_compared_with_its_parent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = World(
        ["org/a", "org/b", "org/c"],
        [[0, 0], [1, 0], [0, 3]],
        [[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.3, 0.9, 0.1], [0.3, 0.9, 0.1]],
    )
    night = before.night(0, n_scores=10)
    page = page_of(*night, tmp_path / "first.html")
    assert "This is the first snapshot" in page
    old = published(*night, tmp_path / "published")

    after = World(
        ["org/a", "org/b", "org/d"],
        [[3, 4], [1, 0], [1, 1]],
        [[0.5, 0.89, 0.9], [0.5, 0.89, 0.9], [0.3, 0.9, 0.1], [0.3, 0.9, 0.1]],
    )
    night = after.night(1, n_scores=14, parent=old)
    page = page_of(*night, tmp_path / "second.html")
    content = packed(page)
    assert content["since"]["moved"] == [["org/a", 5.0, 10, 14, 0.25, 0.125, True]]
    assert content["since"]["flips"] == [
        ["adding", "org/a", "org/d", None, 900],
        ["sums", "org/a", "org/d", None, 900],
    ]
    assert content["since"]["ranks"] == [["org/a", 2, 3, 600, 400]]
    for words in ("New (1)", "org/d", "Gone (1)", "org/c", "70.0 %", "75.0 %", "+5.0"):
        assert words in page
    assert old.snapshot_id in page
    # The frames of a build and the files it leaves say the same.
    new = published(*night, tmp_path / "published")
    from_frames = compare(side(old), being_built(night[0], night[1], night[2].table)).to_dict()
    from_files = changes(old, new).to_dict()
    assert json.dumps(from_frames | {"new": new.snapshot_id}) == json.dumps(from_files)

    # all, tasks, topics; the cheapest that is hardly worse than the best is marked.
    routing = content["routing"]
    assert routing["bucket"] == ["all", "capitals", "sums", "adding"]
    assert routing["kind"] == ["all", "task", "task", "topic"]
    assert routing["words"] == [None, None, None, "plus, minus"]
    rows = zip(routing["in"], routing["rank"], routing["model"], routing["money"], strict=True)
    assert [row[:3] for row in rows if row[3]] == [(0, 1, 1), (1, 1, 1), (2, 2, 1), (3, 2, 1)]

    other = after.night(2, n_scores=14, parent=old, checkpoint="c2")
    page = page_of(*other, tmp_path / "third.html")
    assert "places on two maps can't be compared" in page
    assert packed(page)["since"]["moved"] == []

    # A damaged parent must not stand in the way of the snapshot that mends it.
    (old.folder / "routing" / "table.parquet").write_bytes(b"other")
    page = page_of(*night, tmp_path / "fourth.html")
    assert f"Files of the last snapshot, {old.snapshot_id}, are damaged" in page
    assert old.snapshot_id in caplog.text
