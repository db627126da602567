"""`locus models add` and `schema`, without a pipeline behind them."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from flows.cli import app
from locus.registry import RegistryError, load_registry, registry_schema

URL = "https://api.example.com/v1/chat/completions"
SERVICE = ["--backend", "local-chat-completions", "--base-url", URL]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "locus.toml").write_text("")
    monkeypatch.setenv("LOCUS_CONFIG", str(tmp_path / "locus.toml"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def add(*words: str) -> Result:
    return CliRunner().invoke(app, ["models", "add", *words])


def only(home: Path) -> Any:
    """The one entry of the file, as YAML reads it."""
    (entry,) = yaml.safe_load((home / "models.yaml").read_text())["models"]
    return entry


def test_an_api_with_everything_that_can_be_said(home: Path) -> None:
    words = ["org/chat", *SERVICE, "--model", "007", "--api-key-env", "EXAMPLE_API_KEY",
             "--chat-template", "--license", "mit", "--released", "2026-01",
             "--price-in", "0.5", "--price-out", "1.5", "--arg", "num_concurrent=8"]  # fmt: skip
    result = add(*words)
    assert result.exit_code == 0, result.output
    assert "evaluate it with: locus add-model org/chat" in result.output
    assert only(home) == {
        "id": "org/chat",
        "backend": "local-chat-completions",
        "args": {
            "num_concurrent": 8,
            "model": "007",
            "base_url": URL,
            "api_key_env": "EXAMPLE_API_KEY",
        },
        "license": "mit",
        "released": "2026-01",
        "price_in_usd_per_mtok": 0.5,
        "price_out_usd_per_mtok": 1.5,
        "chat_template": True,
    }
    (spec,) = load_registry(home / "models.yaml")
    assert spec.args["num_concurrent"] == 8


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x=4", 4),
        ("x=0.5", 0.5),
        ("x=true", True),
        ("x=word", "word"),
        ('x="7"', "7"),
        ("x=a=b", "a=b"),
        ("x=2026-01-31", "2026-01-31"),
        ("x=[1", "[1"),
        ("x={a: 1}", "{a: 1}"),
        ("x=null", "null"),
        ("model=007", "007"),
        ("tokenizer=1", "1"),
    ],
)
def test_values_are_read_as_the_file_would_be(home: Path, text: str, value: object) -> None:
    assert add("a", "--backend", "dummy", "--arg", text).exit_code == 0
    (read,) = only(home)["args"].values()
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a b", "--backend", "dummy"], "'a b' was not added: id: model id 'a b' is not valid"),
        (["a", "--pretrained", "o/m"], "'a' was not added: 'o/m' is no local folder"),
        (["a", *SERVICE], "'a' was not added: backend local-chat-completions needs args.model"),
        (["a", *SERVICE, "--model", "m", "--arg", "token=marker-key"], "args.token is refused"),
        (["a", *SERVICE, "--model", "m", "--arg", "model=n"], "args.model is given twice"),
        (["a", "--backend", "dummy", "--price-in", "1"], "price_out_usd_per_mtok is missing"),
        (["a", "--backend", "dummy", "--price-in", "-1"], "price_in_usd_per_mtok: input should be"),
        (["a", "--backend", "dummy", "--released", "soon"], "released: "),
    ],
)
def test_a_fault_is_one_clear_line_and_changes_nothing(
    home: Path, words: list[str], said: str
) -> None:
    result = add(*words)
    assert isinstance(result.exception, RegistryError)
    assert said in str(result.exception)
    assert "\n" not in str(result.exception)
    assert "marker-key" not in str(result.exception)
    assert not (home / "models.yaml").exists()


def test_an_argument_without_a_value_is_a_usage_error(home: Path) -> None:
    for text in ("novalue", "=1", "x="):
        result = add("a", "--backend", "dummy", "--arg", text)
        assert result.exit_code == 2
        assert "write KEY=VALUE" in result.output


def test_a_folder_is_found_from_where_one_stands_and_from_the_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "models" / "m").mkdir(parents=True)
    assert add("a", "--pretrained", "models/m").exit_code == 0
    assert only(home)["args"] == {"pretrained": "models/m"}
    (home / "elsewhere" / "n").mkdir(parents=True)
    monkeypatch.chdir(home / "elsewhere")
    assert add("b", "--pretrained", "n").exit_code == 0
    assert add("c", "--pretrained", "models/m").exit_code == 0
    folders = [spec.local_folder for spec in load_registry(home / "models.yaml")]
    assert folders == [home / "models" / "m", home / "elsewhere" / "n", home / "models" / "m"]


def test_the_schema_is_printed(home: Path) -> None:
    result = CliRunner().invoke(app, ["models", "schema"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == registry_schema()
