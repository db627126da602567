"""A data set that the library of data sets reads, whatever strangers wrote into it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from locus.exports.files import write_file
from locus.publication.emit.dataset import TABLES, dataset_files

HOSTILE = (
    "x |\n---\nlicense: mit\n---\n<script>alert(1)</script> ![](http://evil.example/a.png)\u202e"
)


def test_the_library_reads_every_table_and_the_card_says_nothing_of_strangers(
    tmp_path: Path,
) -> None:
    now = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    tables = {
        "scores": pl.DataFrame(
            {
                "model_id": ["a", "a", HOSTILE],
                "query_id": ["q1", "q2", "q1"],
                "task": HOSTILE,
                "split": ["train", "val", "train"],
                "score": [1.0, None, 0.5],
                "scored_at": now,
            }
        ),
        "queries": pl.DataFrame(
            {
                "query_id": ["q1", "q2", "q3"],
                "split": ["train", "val", "test"],
                "text": [HOSTILE, "", "é"],
                "choices": [["yes", HOSTILE], None, []],
            }
        ),
        "models": pl.DataFrame({"model_id": ["a", HOSTILE], "params_b": [None, 7.0]}),
        "embeddings": pl.DataFrame(
            {"model_id": ["a"], "vector": [[0.5, -1.0]], "uncertainty": [None]},
            schema_overrides={"vector": pl.List(pl.Float32), "uncertainty": pl.Float32},
        ),
        "routing": pl.DataFrame({"bucket": ["all", HOSTILE], "rank": [1, 1]}),
    }
    folder = tmp_path / "data"
    for file in dataset_files(tables, "20260102T030400000000Z-0123456789", now):
        write_file(folder, file)

    card = (folder / "README.md").read_text(encoding="utf-8")
    _, front, body = card.split("---\n", 2)
    said = yaml.safe_load(front)
    assert said["license"] == "other"
    assert [config["config_name"] for config in said["configs"]] == list(TABLES)
    assert "evil" not in card
    assert "| queries | validation | 1 |" in body

    from datasets import get_dataset_config_names, load_dataset

    def load(name: str) -> Any:
        return load_dataset(str(folder), name, cache_dir=str(tmp_path / "cache"))

    assert sorted(get_dataset_config_names(str(folder))) == sorted(TABLES)
    queries = load("queries")
    assert {split: len(rows) for split, rows in queries.items()} == {
        "train": 1, "validation": 1, "test": 1
    }  # fmt: skip
    assert queries["train"][0]["text"] == HOSTILE
    assert queries["train"][0]["choices"] == ["yes", HOSTILE]
    scores = load("scores")
    assert list(scores) == ["train", "validation"]
    assert scores["train"]["model_id"] == ["a", HOSTILE]
    assert scores["validation"][0]["score"] is None
    assert scores["train"][0]["scored_at"] == now
    assert load("embeddings")["train"][0]["vector"] == [0.5, -1.0]
    assert load("models")["train"][1]["model_id"] == HOSTILE
    assert load("routing")["train"]["bucket"] == ["all", HOSTILE]
