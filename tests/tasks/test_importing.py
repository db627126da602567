"""Imports into a real warehouse: everything in the shared data, and all or nothing."""

from pathlib import Path

import polars as pl
import pytest

from tasks.importing import ImportRefusedError, import_folder
from tasks.settings import Settings
from warehouse.store import Warehouse


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def count(settings: Settings, table: str) -> int:
    with Warehouse.open(settings.warehouse) as warehouse:
        return int(warehouse.read(f"SELECT count(*) AS n FROM {table}")["n"][0])  # noqa: S608


def test_everything_in_the_shared_data(shared_data: Path, settings: Settings) -> None:
    logs = import_folder(settings, "lm-eval", shared_data / "lm_eval_logs")
    cot = import_folder(settings, "matrix", shared_data / "mmlu-pro-cot")
    oll = import_folder(settings, "matrix", shared_data / "oll-v1")
    assert logs.counts["models"] == 5
    assert (cot.counts["queries"], cot.counts["scores"]) == (12_032, 360_893)
    assert (oll.counts["queries"], oll.counts["scores"]) == (1_310, 2_874_550)
    expected = logs.counts["scores"] + 360_893 + 2_874_550
    assert count(settings, "score") == expected
    again = import_folder(settings, "matrix", shared_data / "mmlu-pro-cot")
    assert set(again.counts.values()) == {0}
    assert count(settings, "score") == expected
    with Warehouse.open(settings.warehouse) as warehouse:
        means = warehouse.read(
            "SELECT s.model_id, avg(s.score) AS mean FROM score s JOIN evaluation_run r "
            "USING (run_id) WHERE r.settings ->> 'folder' = 'mmlu-pro-cot' GROUP BY s.model_id"
        )
    published = pl.read_parquet(shared_data / "mmlu-pro-cot" / "models.parquet")
    joined = published.join(means, on="model_id")
    assert joined.height == 30
    assert (joined["mean"] - joined["mean_score"]).abs().max() < 1e-4  # type: ignore[operator]


def write_matrix(folder: Path, models: list[str], score: float) -> Path:
    folder.mkdir()
    pl.DataFrame({"model_id": models}).write_parquet(folder / "models.parquet")
    pl.DataFrame(
        {"query_id": ["q1", "q2"], "benchmark": ["b", "b"], "text": ["one?", "two?"]}
    ).write_parquet(folder / "queries.parquet")
    pl.DataFrame(
        {"model_id": [models[0]] * 2, "query_id": ["q1", "q2"], "score": [1.0, score]}
    ).write_parquet(folder / "scores.parquet")
    return folder


@pytest.mark.parametrize(
    ("models", "score", "reason"),
    [(["a", "../../evil"], 1.0, "evil"), (["a", "b"], 7.0, "7"), (["a", "a'; DROP"], 0.0, "DROP")],
)
def test_one_bad_row_and_nothing_comes_in(
    tmp_path: Path, settings: Settings, models: list[str], score: float, reason: str
) -> None:
    folder = write_matrix(tmp_path / "m", models, score)
    with pytest.raises(ImportRefusedError, match="nothing was imported") as refused:
        import_folder(settings, "matrix", folder)
    assert "--skip-bad" in str(refused.value)
    assert not settings.warehouse.exists() or count(settings, "score") == 0
    (report,) = (settings.home / "reports").glob("*.csv")
    assert reason in report.read_text()
    kept = import_folder(settings, "matrix", folder, skip_bad=True)
    assert kept.n_problems >= 1
    assert count(settings, "score") == kept.counts["scores"] >= 1


def test_a_folder_that_isn_t_there_is_named(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(ImportRefusedError, match="nowhere"):
        import_folder(settings, "embedllm", tmp_path / "nowhere")
