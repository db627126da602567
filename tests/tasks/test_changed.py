"""Digests from memory: those of all scores, computed for changed models only."""

import json
from pathlib import Path

import polars as pl

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
        assert first.equals(warehouse.scores.scores_digest())
        # What memory says of a model without new scores is believed, so nothing was computed.
        rows = json.loads(memory.read_text())
        rows[1]["digest"] = "remembered"
        assert rows[1]["model_id"] == "org/b"
        memory.write_text(json.dumps(rows))
    file(settings, tmp_path / "more", {"org/a": [1.0, 0.0, 1.0], "org/c": [1.0]})
    with Warehouse.open(settings.warehouse) as warehouse:
        expected = warehouse.scores.scores_digest()
        found = current_digests(warehouse, memory)
        others = pl.col("model_id") != "org/b"
        assert found.filter(others).equals(expected.filter(others))
        assert found.filter(~others)["digest"].to_list() == ["remembered"]
        assert expected["n_scores"].to_list() == [3, 2, 1]
        memory.write_bytes(b"no table")
        assert current_digests(warehouse, memory).equals(expected)
