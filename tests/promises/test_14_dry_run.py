"""Promise 14: a dry run says what it would ask and what that would cost, and does neither."""

import re
from pathlib import Path

import pytest
from nights import Pipeline, copy_of, published, query

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_dry_run(before: Pipeline, first_night: Pipeline, tmp_path: Path) -> None:
    night = copy_of(before, tmp_path / "night")
    dry = night.locus("run", "nightly", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    found = re.search(
        r"would ask (\d+) queries of (\d+) models; about ([\d,]+) tokens, ([\d.]+) US dollars",
        dry.stdout,
    )
    assert found, dry.stdout
    assert query(night, "SELECT count(*) FROM score") == [(0,)]
    assert query(night, "SELECT count(*) FROM evaluation_run") == [(0,)]
    assert not published(night).exists()
    assert not (night.folder / "state" / "parts").exists()

    # What the same night then did.
    ((asked, models, tokens, dollars),) = query(
        first_night,
        "SELECT count(*), count(DISTINCT model_id), sum(tokens_in + tokens_out), sum(cost_usd) "
        "FROM score",
    )
    assert (int(found[1]), int(found[2])) == (asked, models)
    for model in ("org/a", "org/b"):
        assert f"{model}: 80 queries" in dry.stdout
    # A tokenizer of single characters reads four times what is taken for ordinary text.
    thought = int(found[3].replace(",", ""))
    assert thought < int(str(tokens)) < 10 * thought
    assert abs(float(found[4]) - float(str(dollars)) * thought / int(str(tokens))) < 0.02
