"""Whoever has just begun sees zeros: what is not named is said."""

import logging
from pathlib import Path

import pytest

from flows.pipeline import say_what_is_not_named
from locus.registry import ModelSpec
from tasks.discover import Discovered
from tasks.settings import Settings

ONE = Discovered(ModelSpec(id="org/a", backend="dummy"), "r1")


@pytest.mark.parametrize(
    ("tasks", "models", "says"),
    [
        ([], [ONE], "`tasks` in locus.toml names no task of lm-eval"),
        (["gsm8k"], [], "models.yaml names no model (`locus models add`)"),
        ([], [], "names a task nor"),
        (["gsm8k"], [ONE], ""),
    ],
)
def test_what_is_not_named_is_said(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    tasks: list[str],
    models: list[Discovered],
    says: str,
) -> None:
    settings = Settings(home=tmp_path, models_file=tmp_path / "models.yaml", tasks=tasks)
    with caplog.at_level(logging.INFO, "locus.pipeline"):
        say_what_is_not_named(settings, models)
    assert says in caplog.text
    assert bool(says) == bool(caplog.records)
