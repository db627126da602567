"""Digests from memory: those of all scores, computed for changed models only."""

import json
from pathlib import Path

import duckdb
import polars as pl
import pytest

from tasks.changed import current_digests
from tasks.importing import import_folder
from tasks.settings import Settings
from warehouse.store import Warehouse


def file(settings: Settings, folder: Path, scores: dict[str, list[float]]) -> None:
    """Import each model's scores on questions 0, 1, 2 ..."""
    folder.mkdir()
    n = max(map(len, scores.values()))
    pl.DataFrame({"model_id": list(scores)}).write_parquet(folder / "models.parquet")
    queries = {"query_id": [f"q{i}" for i in range(n)], "text": [f"Number {i}?" for i in range(n)]}
    pl.DataFrame({**queries, "benchmark": "sums", "split": "train"}).write_parquet(
        folder / "queries.parquet"
    )
    rows = [(model, f"q{i}", s) for model, given in scores.items() for i, s in enumerate(given)]
    pl.DataFrame(rows, schema=["model_id", "query_id", "score"], orient="row").write_parquet(
        folder / "scores.parquet"
    )
    import_folder(settings, "matrix", folder)


def test_only_changed_models_are_computed_anew(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    memory = tmp_path / "digests.json"
    file(settings, tmp_path / "first", {"org/a": [1.0, 0.0], "org/b": [0.0, 1.0]})
    with Warehouse.open(settings.warehouse) as warehouse:
        first = current_digests(warehouse, memory)
        assert first == warehouse.scores.scores_digest().rows()
        # What memory says of a model without new scores is believed, so nothing was computed.
        content = json.loads(memory.read_text())
        content["models"]["org/b"][-1] = "remembered"
        memory.write_text(json.dumps(content))
        assert current_digests(warehouse, memory)[1].digest == "remembered"
    file(settings, tmp_path / "more", {"org/a": [1.0, 0.0, 1.0], "org/c": [1.0]})
    with Warehouse.open(settings.warehouse) as warehouse:
        expected = warehouse.scores.scores_digest().rows()
        a, b, c = current_digests(warehouse, memory)
        assert [a, c] == [expected[0], expected[2]]
        assert (b.model_id, b.digest) == ("org/b", "remembered")
        assert [row[2] for row in expected] == [3, 2, 1]
        memory.write_bytes(b"no table")
        assert current_digests(warehouse, memory) == expected


@pytest.mark.parametrize(
    "change",
    [
        # What a revision's time decides: which of two answers to a question is the current one.
        "UPDATE model_revision SET seen_at = now() WHERE model_id = 'org/a' AND revision = 'old'",
        "UPDATE query SET split = 'test' WHERE text = 'Number 0?'",
        "DELETE FROM score WHERE model_id = 'org/b' AND score = 0",
        "UPDATE score_part SET part_sha256 = 'another'",
        "SELECT 1",
    ],
)
def test_what_decides_a_digest_is_noticed(tmp_path: Path, change: str) -> None:
    settings = Settings(home=tmp_path / "home")
    memory = tmp_path / "digests.json"
    file(settings, tmp_path / "first", {"org/a": [1.0, 0.0], "org/b": [0.0, 1.0]})
    with duckdb.connect(str(settings.warehouse)) as con:
        con.execute("INSERT INTO model_revision BY NAME SELECT 'org/a' AS model_id, "
                    "'old' AS revision, TIMESTAMPTZ '2001-01-01' AS seen_at")  # fmt: skip
        con.execute("INSERT INTO score BY NAME (SELECT * REPLACE ('old' AS revision, 0.5 AS score, "
                    "'r' AS run_id) FROM score WHERE model_id = 'org/a' LIMIT 1)")  # fmt: skip
    with Warehouse.open(settings.warehouse) as warehouse:
        current_digests(warehouse, memory)
    content = json.loads(memory.read_text())
    for model in content["models"].values():
        model[-1] = "remembered"
    memory.write_text(json.dumps(content))
    with duckdb.connect(str(settings.warehouse)) as con:
        con.execute(change)
    with Warehouse.open(settings.warehouse) as warehouse:
        expected = warehouse.scores.scores_digest().rows()
        found = current_digests(warehouse, memory)
        if "SELECT" in change:
            assert {one.digest for one in found} == {"remembered"}
        elif "revision" in change:
            assert [one.digest for one in found] == [expected[0][-1], "remembered"]
        else:
            assert found == expected
