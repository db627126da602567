"""Out of a real warehouse and into a fresh one: nothing is lost on the way."""

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from flows.cli import app
from locus.exports.files import ExportFolderError
from tasks.exporting import ExportRefusedError, export_folder
from tasks.importing import import_folder
from tasks.settings import Settings
from warehouse.store import Warehouse

LONG = "org/" + "x.y-" * 48 + "z"
MODELS = ["org/a", "org__a", "org:a", "Org/A", LONG]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def filled(tmp_path: Path, settings: Settings) -> Settings:
    """A warehouse of five models with ids that are hard to tell apart, and two tasks."""
    folder = tmp_path / "matrix"
    folder.mkdir()
    pl.DataFrame({"model_id": MODELS}).write_parquet(folder / "models.parquet")
    pl.DataFrame(
        {
            "query_id": [f"q{n}" for n in range(6)],
            "benchmark": ["one", "two words"] * 3,
            "text": [f"Is {n} even?\u202e\x1b[31m" for n in range(6)],
            "answer": ["yes", "no"] * 3,
        }
    ).write_parquet(folder / "queries.parquet")
    cells = [(m, f"q{q}", (i + q) % 3 / 2) for i, m in enumerate(MODELS) for q in range(6)]
    pl.DataFrame(cells, schema=["model_id", "query_id", "score"], orient="row").write_parquet(
        folder / "scores.parquet"
    )
    import_folder(settings, "matrix", folder)
    return settings


def answers(settings: Settings) -> pl.DataFrame:
    with Warehouse.open(settings.warehouse) as warehouse:
        return warehouse.read(
            "SELECT l.model_id, q.text, l.status, l.score FROM latest_score AS l "
            "JOIN query AS q USING (query_id) ORDER BY ALL"
        )


def query_ids(settings: Settings) -> set[str]:
    with Warehouse.open(settings.warehouse) as warehouse:
        return set(warehouse.catalogue.queries(columns=["query_id"])["query_id"])


def test_genuine_logs_survive_the_round_trip(
    shared_data: Path, tmp_path: Path, settings: Settings
) -> None:
    came = import_folder(settings, "lm-eval", shared_data / "lm_eval_logs")
    done = export_folder(settings, "lm-eval", tmp_path / "logs")
    assert done.notes == []
    assert int(done.counts["answers"].sum()) == came.counts["scores"]
    fresh = Settings(home=tmp_path / "fresh")
    back = import_folder(fresh, "lm-eval", tmp_path / "logs")
    for table in ("models", "queries", "scores", "tasks"):
        assert back.counts[table] == came.counts[table], table
    assert answers(fresh).equals(answers(settings))
    assert query_ids(fresh) == query_ids(settings)
    # Where the logs came from, they are known already.
    again = import_folder(settings, "lm-eval", tmp_path / "logs")
    assert again.counts["queries"] == again.counts["models"] == 0


def test_models_with_ids_alike_keep_their_own_answers(filled: Settings, tmp_path: Path) -> None:
    export_folder(filled, "lm-eval", tmp_path / "logs")
    assert len(list((tmp_path / "logs").iterdir())) == len(MODELS)
    fresh = Settings(home=tmp_path / "fresh")
    import_folder(fresh, "lm-eval", tmp_path / "logs")
    before = answers(filled)
    assert before.height == 6 * len(MODELS)
    assert answers(fresh).equals(before)


def test_what_is_asked_for_is_exported_and_nothing_else(filled: Settings, tmp_path: Path) -> None:
    done = export_folder(filled, "lm-eval", tmp_path / "a", models=["org:a"], tasks=["one"])
    assert done.counts.rows() == [("org:a", "one", 3, 1)]
    (results,) = (tmp_path / "a").rglob("results_*.json")
    assert json.loads(results.read_text())["model_name"] == "org:a"
    with pytest.raises(ExportRefusedError, match="model 'org/none' has no answers"):
        export_folder(filled, "lm-eval", tmp_path / "b", models=["org/a", "org/none"])
    with pytest.raises(ExportRefusedError, match="task 'nothing' has no answers"):
        export_folder(filled, "lm-eval", tmp_path / "b", tasks=["one", "nothing"])
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("kind", ["lm-eval", "every-eval-ever"])
def test_a_dry_run_counts_what_a_run_writes(filled: Settings, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "out"
    dry = export_folder(filled, kind, folder, dry_run=True)  # type: ignore[arg-type]
    assert not folder.exists()
    done = export_folder(filled, kind, folder)  # type: ignore[arg-type]
    assert dry.counts.equals(done.counts)
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    assert len(files) == dry.n_files == done.n_files
    with pytest.raises(ExportFolderError, match="--overwrite"):
        export_folder(filled, kind, folder)  # type: ignore[arg-type]
    again = export_folder(filled, kind, folder, overwrite=True)  # type: ignore[arg-type]
    assert again.n_replaced == len(files)
    assert sorted(p for p in folder.rglob("*") if p.is_file()) == files


def test_without_a_warehouse_the_way_on_is_said(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ExportRefusedError, match="no warehouse"):
        export_folder(settings, "lm-eval", tmp_path / "out")
    assert not settings.warehouse.exists()


def test_a_task_without_enough_scores_is_named(tmp_path: Path, settings: Settings) -> None:
    folder = tmp_path / "logs" / "org__m"
    folder.mkdir(parents=True)
    lines = [
        {"doc_id": n, "doc": {"question": f"{n}?"}, "acc": score, "acc_norm": 1.0, "filter": "none"}
        for n, score in enumerate([1.0, None, None])
    ]
    path = folder / "samples_t_2025-03-04T05-06-07.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    import_folder(settings, "lm-eval", tmp_path / "logs", metric={"t": "acc"})
    done = export_folder(settings, "lm-eval", tmp_path / "out")
    assert [note for note in done.notes if "task t: only 1 of 3" in note]
    fresh = Settings(home=tmp_path / "fresh")
    import_folder(fresh, "lm-eval", tmp_path / "out", metric={"t": "acc"})
    assert answers(fresh).equals(answers(settings))


def test_the_command_line(
    filled: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCUS_HOME", str(filled.home))
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, ["export", "lm-eval", "out", "--model", "org/a", "--dry-run"])
    assert shown.exit_code == 0, shown.output
    assert "6 answers would go into" in shown.output
    assert not (tmp_path / "out").exists()
    done = CliRunner().invoke(
        app, ["export", "every-eval-ever", "out", "--task", "one", "--organization", "Our lab"]
    )
    assert done.exit_code == 0, done.output
    assert f"{3 * len(MODELS)} answers went into" in done.output
    (whole, *_) = (tmp_path / "out" / "data" / "one").rglob("*.json")
    told = json.loads(whole.read_text())
    assert told["source_metadata"]["source_organization_name"] == "Our lab"
