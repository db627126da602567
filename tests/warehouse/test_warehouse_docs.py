"""Every query in docs/warehouse.md runs on a published copy; the answers to several are known."""

import re
from pathlib import Path
from typing import Any

import pytest

from warehouse.console import run_sql

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "warehouse.md").read_text(encoding="utf-8")
QUERIES = {
    title.strip(): sql
    for title, sql in re.findall(r"^### (.+?)\n(?:(?!^###).)*?```sql\n(.*?)```", PAGE, re.M | re.S)
}


def test_there_are_at_least_ten_and_none_is_missed() -> None:
    assert len(QUERIES) >= 10
    assert len(QUERIES) == PAGE.count("```sql")


@pytest.mark.parametrize("title", QUERIES)
def test_query_runs_and_finds_something(published: Path, title: str) -> None:
    assert run_sql(published, QUERIES[title]).height > 0


GOLDEN: dict[str, list[tuple[Any, ...]]] = {
    "Who is best at a task?": [
        ("b/beta", 4, 0.625, 0.219, 0.908),
        ("a/alpha", 4, 0.5, 0.15, 0.85),
        ("c/gamma", 2, 0.0, 0.0, 0.658),
    ],
    "Where do two models disagree?": [
        ("q1", "arith", "text of q1", "yes", 0.0, 1.0),
        ("q2", "arith", "text of q2", "yes", 0.0, 1.0),
        ("q3", "arith", "text of q3", "yes", 1.0, 0.0),
    ],
    "Which models answer like this one?": [
        (1, "c/gamma", 0.2929, 3, 0.667),
        (2, "b/beta", 1.0, 4, 0.25),
    ],
    "What has not been evaluated?": [
        ("d/delta", "arith", 4, 4, 0),
        ("c/gamma", "arith", 4, 2, 0),
        ("d/delta", "geo", 2, 2, 0),
        ("a/alpha", "geo", 2, 0, 1),
        ("b/beta", "geo", 2, 1, 0),
        ("c/gamma", "geo", 2, 1, 0),
    ],
    "How complete is each task?": [
        ("geo", "1", 2, 3, 1, 0.5),
        ("arith", "1", 4, 3, 1, 0.833),
    ],
    "What has it cost?": [
        ("a/alpha", 8, 60, 12, 0.005, 1.0, 175.0),
        ("b/beta", 5, None, None, None, None, 50.0),
    ],
    "Do predictions hold?": [
        # a/alpha on q6: 0.2 and wrong; a/alpha and b/beta on q4: 0.9 and 0.91, right and half.
        (0.2, 1, 0.2, 0.0),
        (0.9, 2, 0.905, 0.75),
    ],
    "What changed between two revisions of a model?": [("a1", "a2", 1, 0, 1)],
}


@pytest.mark.parametrize("title", GOLDEN)
def test_query_answers_what_is_known(published: Path, title: str) -> None:
    assert run_sql(published, QUERIES[title]).rows() == GOLDEN[title]


def test_failed_runs_show_their_reason(published: Path) -> None:
    got = run_sql(published, QUERIES["Which runs were there lately, and what failed?"])
    assert got["run_id"].to_list() == ["run-z", "run-c", "run-b", "run-a2", "run-a1"]
    assert got["error"].to_list()[0] == "no answer from the server"
    assert got.filter(run_id="run-a1").select("n_ok", "n_other").rows() == [(5, 1)]
