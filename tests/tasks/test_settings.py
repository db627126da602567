"""Settings: file, environment, and errors that name the key."""

from pathlib import Path

import pytest

from flows.starter import write_starter
from locus.budget import Budget
from locus.evaluation.request import Rate
from tasks.settings import SettingsError, load_settings


def test_the_starter_is_valid_and_paths_are_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(written for _, written in write_starter(tmp_path))
    monkeypatch.setenv("LOCUS_CONFIG", str(tmp_path / "locus.toml"))
    settings = load_settings()
    assert settings.home == tmp_path / "data"
    assert settings.models_file == tmp_path / "models.yaml"
    assert settings.evaluation.new_model_queries == 128
    (tmp_path / "locus.toml").write_text("tasks = ['mine']\n")
    assert not any(written for _, written in write_starter(tmp_path))
    assert load_settings().tasks == ["mine"]


def test_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locus.toml").write_text("[evaluation]\nparallel = 1\n")
    monkeypatch.setenv("LOCUS_CONFIG", str(tmp_path / "locus.toml"))
    monkeypatch.setenv("LOCUS_EVALUATION__PARALLEL", "7")
    monkeypatch.setenv("LOCUS_HOME", "/elsewhere")
    settings = load_settings()
    assert settings.evaluation.parallel == 7
    assert settings.home == Path("/elsewhere")


def test_tables_of_the_environment_and_the_file_are_merged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locus.toml").write_text(
        "tasks = ['a']\n[evaluation]\nparallel = 1\nseed = 5\n[evaluation.budget]\nusd = 2\n"
    )
    monkeypatch.setenv("LOCUS_CONFIG", str(tmp_path / "locus.toml"))
    monkeypatch.setenv("LOCUS_EVALUATION", '{"parallel": 3, "budget": {"queries": 9, "tokens": 1}}')
    monkeypatch.setenv("LOCUS_EVALUATION__BUDGET__TOKENS", "7")
    monkeypatch.setenv("LOCUS_TASKS", '["b", "c"]')
    monkeypatch.setenv("LOCUS_SOMEBODY_ELSES", "[")
    settings = load_settings()
    assert settings.tasks == ["b", "c"]
    assert (settings.evaluation.parallel, settings.evaluation.seed) == (3, 5)
    assert settings.evaluation.budget == Budget(queries=9, tokens=7, usd=2)
    monkeypatch.setenv("LOCUS_TASKS", "['b']")
    with pytest.raises(SettingsError, match="tasks"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("colour = 'red'", "colour"),
        ("[evaluation]\nparallel = 0", "parallel"),
        ("[evaluation]\nnew_model_queries = 'many'", "new_model_queries"),
        ("tasks = 3", "tasks"),
        ("encoder_precision = 'int8'", "encoder_precision"),
        ("[evaluation.budget]\nqueries = -1", "budget.queries"),
        ("[evaluation.model_budget]\ndollars = 3", "dollars"),
        ("[task_settings.t]\nmetric = 'a,b,c'", "task_settings.t.metric"),
        ("[task_settings.t]\nnum_fewshot = -1", "num_fewshot"),
        ('[providers."x:1"]\nrequests_per_minute = 0', "requests_per_minute"),
        ("= broken", "locus.toml"),
    ],
)
def test_faults_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, key: str
) -> None:
    (tmp_path / "locus.toml").write_text(text)
    monkeypatch.setenv("LOCUS_CONFIG", str(tmp_path / "locus.toml"))
    with pytest.raises(SettingsError, match=key):
        load_settings()


def test_rates_are_those_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locus.toml").write_text(
        '[providers."api.example.com"]\nrequests_per_minute = 60\n'
        '[providers."127.0.0.1:8000"]\ntokens_per_minute = 9000\n'
    )
    monkeypatch.setenv("LOCUS_CONFIG", str(tmp_path / "locus.toml"))
    settings = load_settings()
    assert settings.rate_of("https://api.example.com/v1/chat/completions") == Rate(60, None)
    assert settings.rate_of("http://127.0.0.1:8000/v1/completions") == Rate(None, 9000)
    for other in ("http://127.0.0.1:8001/v1/completions", None, 3):
        assert settings.rate_of(other) == Rate()
