"""Analyses on arrangements whose answer is known."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from locus.benchmark import figures
from locus.benchmark.efficiency import efficiency, needed
from locus.benchmark.fallback import agreement, in_place, neighbours
from locus.benchmark.geometry import (
    correlations,
    cosine,
    disagreement,
    euclidean,
)
from locus.benchmark.stability import moved_and_found
from locus.benchmark.tables import difference, number, plain, table
from locus.similarity import predicted_disagreement

NAN = np.nan


def test_evaluations_are_interpolated_in_their_logarithm() -> None:
    curve = {4: 0.60, 16: 0.64, 64: 0.66}
    assert needed(curve, 0.62, 1) == (pytest.approx(8.0), False)
    assert needed(curve, 0.66, 1) == (pytest.approx(64.0), False)
    assert needed(curve, 0.59, 1) == (4.0, True)
    assert needed(curve, 0.70, 1) == (None, False)
    assert needed({8: 0.7, 32: 0.6}, 0.65, -1) == (pytest.approx(16.0), False)
    assert needed({8: NAN}, 0.65, -1) == (None, False)


def test_the_target_is_the_published_method_at_256() -> None:
    rows = [
        ("P2", method, budget, seed, value, 1 - value)
        for method, values in (("mine", (0.6, 0.8)), ("locus-published", (0.5, 0.7)))
        for budget, value in zip((64, 256), values, strict=True)
        for seed in (0, 1)
    ]
    columns = ["protocol", "method", "budget", "seed", "auc", "bce"]
    results = pl.DataFrame(rows, schema=columns, orient="row")
    found = efficiency(results)
    assert found.filter(method="mine")["evaluations"].to_list() == pytest.approx([128, 128])
    assert found.filter(method="locus-published")["evaluations"].to_list() == pytest.approx(
        [256] * 2
    )
    assert efficiency(results.filter(pl.col("method") == "mine")).is_empty()


def test_distances_by_hand() -> None:
    y = np.array([[1, 0, 1, NAN], [1, 1, 0, 0], [NAN, NAN, NAN, 1]], dtype=np.float32)
    apart = disagreement(y)
    assert apart[0, 1] == pytest.approx(2 / 3)
    assert np.isnan(apart[0, 2])
    assert apart[1, 2] == 1
    p = np.array([[1.0, 0.0], [0.5, 0.0]], dtype=np.float32)
    assert predicted_disagreement(p.T)[0, 1] == pytest.approx(0.25)
    z = np.array([[3, 0], [0, 4], [6, 0], [0, 0]], dtype=np.float32)
    assert euclidean(z)[0, 1] == 5
    assert cosine(z)[0, 1] == pytest.approx(1)
    assert cosine(z)[0, 2] == pytest.approx(0)
    assert np.isnan(cosine(z)[0, 3])


def test_correlations_leave_out_what_is_missing() -> None:
    rng = np.random.default_rng(0)
    x = euclidean(rng.normal(size=(8, 3)).astype(np.float32))
    y = x**3
    y[0, 1] = y[1, 0] = NAN
    n, (pearson, spearman, kendall) = correlations(x, y)
    assert n == 27
    assert pearson < spearman == pytest.approx(1)
    assert kendall == pytest.approx(1)
    n, values = correlations(x, np.ones_like(x))
    assert n == 28
    assert all(map(np.isnan, values))


def test_the_neighbour_answers_in_place() -> None:
    distance = np.array([[0, 1, 5], [1, 0, NAN], [5, NAN, 0]])
    found = neighbours(distance)
    assert found.tolist() == [1, 0, 0]
    y = np.array([[1, 1, 0, NAN], [1, 0, 0, 1], [0, 1, 1, NAN]], dtype=np.float32)
    p = np.array([[0.9, 0.9, 0.1, 0.9], [0.1] * 4, [0.5] * 4], dtype=np.float32)
    # Routed: models 0, 0, 2, and 1 where nobody else answered; its neighbour 0 did not either.
    own, other = in_place(p, y, found)
    assert own == pytest.approx(1)
    assert other == pytest.approx(1 / 3)
    assert agreement(y, found) == pytest.approx((2 / 3 + 2 / 3 + 1 / 3) / 3)


def test_a_stable_placement_finds_its_models_again() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=(20, 8)).astype(np.float32)
    near = first + 0.01 * rng.normal(size=first.shape).astype(np.float32)
    n, moved, found = moved_and_found(first, near)
    assert (n, found) == (20, 1.0)
    assert moved < 0.02
    far = rng.normal(size=first.shape).astype(np.float32)
    _, moved, found = moved_and_found(first, far)
    assert moved > 0.8
    assert found < 0.3
    near[5:] = np.nan
    assert moved_and_found(first, near)[0] == 5
    _, moved, found = moved_and_found(np.ones((4, 2), np.float32), np.ones((4, 2), np.float32))
    assert np.isnan(moved)
    assert found == 0


def test_tables_stay_tables() -> None:
    assert table(["a", "b"], [["x", "1"]])[1:] == ["|---|---:|", "| x | 1 |"]
    assert number(None) == number(float("nan")) == "-"
    assert difference(0.1, 0.05, 0.2) == "**+0.100 [+0.050, +0.200]**"
    assert difference(-0.1, -0.2, 0.05) == "-0.100 [-0.200, +0.050]"
    assert "|" not in plain("a|b\n<script>`x`")
    assert "<" not in plain("a|b\n<script>`x`")


@pytest.mark.skipif(not figures.available(), reason="figures need matplotlib, not installed here")
def test_figures_are_png_files(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "method": ["a", "a", "b"],
            "budget": [8, 32, 8],
            "auc": [0.6, 0.7, None],
        }
    )
    one = figures.curves(frame, {"auc": "AUC"}, ["a", "b"], "evaluations", tmp_path / "x" / "a.png")
    cloud = {"pairs": (np.arange(20_000, dtype=np.float64), np.ones(20_000))}
    two = figures.scatter(cloud, "distance", "disagreement", tmp_path / "b.png")
    for path in (one, two):
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
