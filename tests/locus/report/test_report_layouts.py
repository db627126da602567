"""Layouts of the map beside PCA: what they keep, and how a reader changes between them."""

import importlib.util
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from test_report_page import packed
from watched_page import watched

from locus.report import ReportDataError, render, write
from locus.similarity import SimilarityInputError, missing_package, project
from tasks.settings import Settings


def islands(n: int = 60) -> np.ndarray:
    """Six groups far apart, in twelve dimensions."""
    rng = np.random.default_rng(2)
    return np.repeat(8 * rng.normal(size=(6, 12)), n // 6, axis=0) + rng.normal(size=(n, 12))


# UMAP compiles itself for a minute: it is tried where somebody has installed its extra.
METHODS = ["tsne", "umap"] if importlib.util.find_spec("umap") else ["tsne"]


@pytest.mark.parametrize("method", METHODS)
def test_neighbours_stay_neighbours_and_nothing_moves_between_runs(method) -> None:
    z = islands()
    flat = project(z, method)
    np.testing.assert_array_equal(flat, project(z, method))
    apart = np.linalg.norm(flat[:, None] - flat[None], axis=2) + np.diag([np.inf] * len(z))
    assert (apart.argmin(axis=1) // 10 == np.arange(len(z)) // 10).all()
    # Too few to have neighbourhoods: the flat view, and no error.
    np.testing.assert_array_equal(project(z[:4], method), project(z[:4]))


def test_a_layout_that_cannot_be_drawn_is_refused_before_anything_is_asked(monkeypatch) -> None:
    assert Settings(report_layouts=("tsne", "tsne")).report_layouts == ("tsne",)
    monkeypatch.setitem(sys.modules, "umap", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'locus-map[umap]'" in str(missing_package("umap"))
    with pytest.raises(SimilarityInputError, match="needs umap-learn"):
        project(islands(), "umap")
    with pytest.raises(ValueError, match="needs umap-learn"):
        Settings(report_layouts=("umap",))


def turned(models: pl.DataFrame) -> pl.DataFrame:
    return models.select("model_id", x=10 * pl.col("y"), y=pl.col("x"))


def test_the_page_carries_a_layout_and_refuses_a_strange_one(report_data) -> None:
    models = report_data.models
    layout = turned(models).with_row_index().filter(pl.col("index") != 3).drop("index")
    page = render(replace(report_data, layouts={"tsne": layout}))
    carried = packed(page, "figures")["map"]["layouts"]["tsne"]
    assert carried["x"].pop(3) is None
    expected = [10 * y for at, y in enumerate(models["y"]) if at != 3]
    assert carried["x"] == pytest.approx(expected, rel=1e-3)
    assert 'id="map-layout"' in page
    assert 'id="map-layout"' not in render(report_data)
    for layouts, words in (
        ({"isomap": layout}, "'isomap'"),
        ({"tsne": layout.with_columns(model_id=pl.lit("nobody"))}, "'nobody'"),
        ({"tsne": pl.concat([layout, layout])}, "places a model twice"),
        ({"tsne": layout.drop("x")}, "lacks the column"),
    ):
        with pytest.raises(ReportDataError, match=words):
            render(replace(report_data, layouts=layouts))


PLACES = """() => {
  const points = [...document.querySelectorAll("#map-plot .scatterlayer .point")];
  const boxes = points.map((point) => point.getBoundingClientRect());
  return boxes.map((box) => [box.x + box.width / 2, box.y + box.height / 2]);
}"""


@pytest.mark.slow
def test_a_reader_changes_the_layout_and_is_told_what_it_means(
    browser, report_data, tmp_path
) -> None:
    path = tmp_path / "report.html"
    write(replace(report_data, layouts={"tsne": turned(report_data.models)}), path)
    with watched(browser, path) as page:
        flat = np.array(page.evaluate(PLACES))
        says = page.locator("#map .intro")
        assert "best flat view" in says.inner_text()
        page.locator("#map-layout").focus()
        page.keyboard.press("ArrowDown")
        assert page.locator("#map-layout").input_value() == "tsne"
        page.wait_for_function(f"(old) => ({PLACES})()[0][0] !== old", arg=flat[0, 0])
        assert "How far groups lie apart" in says.inner_text()
        assert "best flat view" not in says.inner_text()
        other = np.array(page.evaluate(PLACES))
        # Models are drawn in the same order, so places can be compared: x is what y was, turned up.
        assert len(other) == len(flat)
        assert np.corrcoef(other[:, 0], flat[:, 1])[0, 1] == pytest.approx(-1, abs=1e-3)
        assert np.corrcoef(other[:, 1], flat[:, 0])[0, 1] == pytest.approx(-1, abs=1e-3)
        page.select_option("#map-layout", "pca")
        page.wait_for_function(f"(old) => Math.abs(({PLACES})()[0][0] - old) < 1", arg=flat[0, 0])
