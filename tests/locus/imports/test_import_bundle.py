"""Contracts of the frames, the list of problems and its report."""

import csv
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from locus.imports.bundle import (
    SCHEMAS,
    ImportBundle,
    ProblemLog,
    build_frame,
    empty_frame,
    is_revision,
    now_utc,
    visible,
    write_problem_report,
)


def _bundle(**scores: object) -> ImportBundle:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    row = {
        "run_id": "r",
        "model_id": "org/m",
        "revision": "import",
        "query_id": "q-1",
        "status": "ok",
        "score": 1.0,
        "scored_at": moment,
    } | scores
    frames = {name: empty_frame(name) for name in SCHEMAS}
    frames["scores"] = build_frame("scores", pl.DataFrame([row]))
    return ImportBundle(**frames)


def test_a_bundle_holds_frames_of_the_contract() -> None:
    bundle = _bundle()
    for name, schema in SCHEMAS.items():
        assert dict(getattr(bundle, name).schema) == schema


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"score": 1.5}, "outside"),
        ({"score": float("nan")}, "outside"),
        ({"score": None}, "exactly where"),
        ({"status": "error"}, "exactly where"),
        ({"status": "fine"}, "exactly where"),
        ({"run_id": None}, "run_id holds nulls"),
    ],
)
def test_a_bundle_refuses_what_breaks_the_contract(change: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        _bundle(**change)


def test_a_bundle_refuses_other_columns() -> None:
    bundle = _bundle()
    with pytest.raises(ValueError, match="models: columns"):
        replace(bundle, models=bundle.models.drop("org"))


def test_a_log_counts_all_and_keeps_some() -> None:
    log = ProblemLog(keep=3)
    log.add("f", "one", "because", 7)
    log.add_rows("g", pl.DataFrame({"line": range(5), "item": ["x"] * 5, "reason": ["y"] * 5}))
    assert log.total == 6
    assert log.frame().rows() == [
        ("f", 7, "one", "because"),
        ("g", 0, "x", "y"),
        ("g", 1, "x", "y"),
    ]


def test_visible_text_has_no_control_or_bidirectional_characters() -> None:
    shown = visible("a\n\x1b[31m\x00\u202eb\udcff" + "c" * 600)
    assert shown.isprintable()
    assert shown.startswith("a\\n\\x1b[31m\\x00\\u202eb\\udcff")
    assert "characters)" in shown
    assert visible("plain text, übrigens שלום") == "plain text, übrigens שלום"


def test_the_report_can_be_opened_in_a_spreadsheet(tmp_path: Path) -> None:
    log = ProblemLog()
    hostile = ["=1+1", "+1", "-1", "@SUM(A1)", "  =1", "'=1", "\uff1d1", "|cmd", '"=1"', "\t=1"]
    for item in hostile:
        log.add("=cmd()", item, '@reason, with "quotes"\nand a line', 3)
    path = tmp_path / "report.csv"
    write_problem_report(log.frame(), path)
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["file", "line", "item", "reason"]
    assert len(rows) == len(hostile) + 1
    for row in rows[1:]:
        assert row[0] == "'=cmd()"
        assert row[1] == "3"
        assert row[3].startswith("'@reason")
        if not row[2].startswith("\\t"):  # the tab is spelled out, so that the cell is plain text
            assert row[2].startswith("'")


def test_a_sane_cell_of_the_report_stays_as_it_is(tmp_path: Path) -> None:
    log = ProblemLog()
    log.add("scores.parquet", "org/model", "score 2: expected a number within [0, 1]", 1)
    write_problem_report(log.frame(), tmp_path / "r.csv")
    assert pl.read_csv(tmp_path / "r.csv").rows() == log.frame().rows()


@pytest.mark.parametrize("text", ["main", "import", "d390fb35a781", "refs/pr/1", "v1.0"])
def test_revisions(text: str) -> None:
    assert is_revision(text)


@pytest.mark.parametrize("text", ["", "../x", "a b", "a\n", "x" * 101, "-x", "a'b"])
def test_no_revisions(text: str) -> None:
    assert not is_revision(text)


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        now_utc(datetime(2026, 1, 1))  # noqa: DTZ001
