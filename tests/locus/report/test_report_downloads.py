"""The page's tables as files, downloaded under the page's own policy and read back with polars."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from test_report_curves import made_up_curves
from watched_page import watched

from locus.report import ReportData, write
from locus.report.tidy import visible

pytestmark = pytest.mark.slow

IDS = [
    "=cmd|' /C calc'!A0",
    "+1/model",
    "-2+3",
    "@SUM(1+1)",
    "'=already/quoted",
    'quo"te,comma/"',
    "new\nline\tand\rreturn",
    *(f"many/{i}" for i in range(10)),
    "rtl/שלום",
    "emoji/\U0001f680",
    "plain/model",
]
# What each file must hold: its name, the frame it is made from, keys, and figures with their unit.
SHARE, DISTANCE = 0.00051, 0.006
FILES = {
    "models": ("models", ["model_id"], {"accuracy": SHARE, "x": 1e-4, "y": 1e-4, "params_b": 1e-9}),
    "pairs": (
        "pairs",
        ["model_a", "model_b"],
        {"euclidean_distance": DISTANCE, "observed_agreement": SHARE, "n_common": 0},
    ),
    "neighbours": (
        "neighbours",
        ["model_id", "neighbour_id"],
        {"euclidean_distance": DISTANCE, "agreement_low": SHARE, "rank": 0, "n_common": 0},
    ),
    "routing": (
        "routing",
        ["bucket", "model_id"],
        {"p_correct": SHARE, "lower_bound": SHARE, "rank": 0, "n_observed": 0},
    ),
    "tasks": ("task_accuracy", ["model_id", "task"], {"accuracy": SHARE, "n": 0}),
    "moved": ("since.moved", ["model_id"], {"moved": 1e-4, "doubt_old": 1e-3, "n_scores_new": 0}),
    "flips": ("since.flips", ["bucket", "new_best"], {"p_new": SHARE}),
    "ranks": ("since.other_ranks", ["model_id"], {"rank_old": 0, "p_new": SHARE}),
    "portfolio": (
        "curves.portfolio",
        ["choice", "size", "model_id"],
        {"hit1": SHARE, "pool_hit1": SHARE, "price": DISTANCE, "n": 0},
    ),
    "budget": ("curves.budget", ["unit", "budget"], {"low": SHARE, "single_hit1": SHARE, "n": 0}),
    "cost": ("curves.cost", ["kind", "weight", "model_id"], {"cost": DISTANCE, "high": SHARE}),
}
LABELS = {
    "models": "models with their places on the map",
    "pairs": "pairs of the heat map",
    "neighbours": "nearest models",
    "routing": "routing",
    "tasks": "accuracy by task",
    "moved": "moves",
    "flips": "other first choices",
    "ranks": "other ranks",
    "portfolio": "sets of models",
    "budget": "budgets",
    "cost": "costs",
}


@pytest.fixture(scope="module")
def data(make_report) -> ReportData:
    """Names that a spreadsheet would run, and a model without a place."""
    data = make_report(len(IDS), ids=IDS)
    placed = pl.col("model_id") != IDS[-1]
    return replace(
        data,
        models=data.models.with_columns(pl.when(placed).then(pl.col("x", "y"))),
        curves=made_up_curves(IDS),
    )


@pytest.fixture(scope="module")
def page(browser, data, tmp_path_factory) -> Iterator:
    path = tmp_path_factory.mktemp("downloads") / "report.html"
    write(data, path)
    with watched(browser, path, ready="html[data-started]") as page:
        policy = page.locator('meta[http-equiv="Content-Security-Policy"]').get_attribute("content")
        assert policy.startswith("default-src 'none'; script-src 'sha256-")
        assert policy.endswith(
            "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
        )
        for table in page.locator("details").all():
            table.evaluate("(e) => { e.open = true }")
        yield page


def downloaded(page, name: str, kind: str) -> str:
    # Chromium drops the eleventh download within a second, whoever asks for it.
    page.wait_for_timeout(110)
    with page.expect_download() as waiting:
        page.get_by_role("button", name=f"Download {LABELS[name]} as {kind}", exact=True).click()
    download = waiting.value
    assert download.suggested_filename == f"{name}-20260303T021400Z-5f1c9a.{kind.lower()}"
    return Path(download.path()).read_bytes().decode("utf-8")


def frame_of(data: ReportData, name: str) -> pl.DataFrame:
    frame = data.checked()
    for part in name.split("."):
        frame = getattr(frame, part)
    return frame


@pytest.mark.parametrize("name", FILES)
def test_files_hold_what_the_page_was_made_from(page, data, name):
    source, keys, figures = FILES[name]
    expected = frame_of(data, source)
    text = downloaded(page, name, "CSV")
    read = pl.read_csv(io.BytesIO(text.encode()), infer_schema_length=None)
    texts = [c for c, kind in read.schema.items() if kind == pl.String]
    for column in texts:
        assert not read[column].str.contains(r"^[=+\-@\t\r\n]").any(), column
    # One apostrophe less and every name is back.
    plain = read.with_columns(pl.col(texts).str.strip_prefix("'"))
    from_json = pl.read_json(io.StringIO(downloaded(page, name, "JSON")), infer_schema_length=None)
    assert plain.equals(from_json.cast(dict(plain.schema)))
    if name == "routing":
        best = dict(data.buckets.select("bucket", "best_for_the_money").iter_rows())
        assert plain["kind"].unique().sort().to_list() == ["task", "topic"]
        shown = (pl.col("rank") <= 3) | pl.col("model_id").eq_missing(
            pl.col("bucket").replace_strict(best).replace({i: visible(i) for i in IDS})
        )
        expected = expected.filter(shown)
        assert plain["best_for_the_money"].sum() == sum(one is not None for one in best.values())
    assert plain.height == expected.height
    # Keys that are figures travel with four digits.
    digits = pl.col(pl.Float64).round_sig_figs(4)
    plain, expected = (
        frame.with_columns(pl.struct(frame.select(keys).with_columns(digits)).alias("key"))
        for frame in (plain, expected)
    )
    both = plain.join(expected.select("key", *figures), on="key", suffix="_given")
    assert both.height == expected.height
    for column, most in figures.items():
        away = (both[column] - both[f"{column}_given"]).abs()
        assert away.null_count() == both[f"{column}_given"].null_count(), column
        assert (away.drop_nulls() <= most).all(), column
