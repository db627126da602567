"""The benchmark: measures by hand, equal budgets, resuming, and a run on real data."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from locus.bank import Queries
from locus.benchmark.data import BenchmarkData, BenchmarkDataError, load
from locus.benchmark.metrics import auc, hit_at, measures
from locus.benchmark.protocols import some
from locus.benchmark.run import UnknownMethodError, run
from locus.encoding import DEFAULT_ENCODER


def test_measures_by_hand() -> None:
    y = np.array([[1, 0, np.nan], [0, 1, 1]], dtype=np.float32)
    p = np.array([[0.9, 0.4, 0.99], [0.2, 0.3, 0.6]], dtype=np.float32)
    found = measures(p, y)
    assert found["accuracy"] == pytest.approx(4 / 5)
    assert found["hit1"] == pytest.approx(2 / 3)  # query 0 right, 1 wrong, 2 only model 1 answered
    assert found["hit3"] == 1.0
    assert found["auc"] == pytest.approx(5 / 6)
    assert found["brier"] == pytest.approx(np.mean([0.01, 0.16, 0.04, 0.49, 0.16]))
    assert hit_at(y, y, 1) == 1.0
    assert auc(np.array([1.0, 1.0]), np.array([0.1, 0.2])) != auc(np.ones(1), np.ones(1))
    with pytest.raises(ValueError, match="probabilities"):
        measures(p + 1, y)


def test_budgets_are_kept_and_the_same_for_everybody() -> None:
    values = np.random.default_rng(0).random((4, 50)).astype(np.float32)
    values[0, :45] = np.nan
    kept = some(values, 16, 1)
    assert (~np.isnan(kept)).sum(1).tolist() == [5, 16, 16, 16]
    np.testing.assert_array_equal(kept, some(values, 16, 1))
    assert not np.array_equal(kept, some(values, 16, 2), equal_nan=True)
    assert some(values, 0, 1) is values


@pytest.fixture
def small() -> BenchmarkData:
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 90)
    phi = (np.eye(6)[kind] + 0.1 * rng.normal(size=(90, 6))).astype(np.float32)
    skill = rng.normal(0, 2, (24, 2))
    y = (rng.random((24, 90)) < 1 / (1 + np.exp(-skill[:, kind]))).astype(np.float32)
    at = {"train": slice(0, 50), "val": slice(50, 65), "test": slice(65, 90)}
    return BenchmarkData(
        "small", "d1", "e1",
        {n: Queries(phi[s], tuple(f"b{k}" for k in kind[s])) for n, s in at.items()},
        {n: y[:16, s] for n, s in at.items()},
        {n: y[16:, s] for n, s in at.items()},
    )  # fmt: skip


def test_it_resumes_and_writes_what_it_measured(small: BenchmarkData, tmp_path: Path) -> None:
    page = run(small, tmp_path, ["factors", "best-single"], seeds=2)
    frame = pl.read_parquet(page.with_name("results.parquet"))
    assert frame.height == 2 * 2 * (4 + 7)
    assert frame.filter(protocol="P2", budget=8)["labels_placed"].unique().to_list() == [64]
    assert frame.filter(protocol="P1", budget=0)["labels_learned"].unique().to_list() == [800]
    cells = sorted((page.parent / "cells").glob("*.json"))
    before = [c.stat().st_mtime_ns for c in cells]
    cells[0].unlink()
    run(small, tmp_path, ["factors", "best-single"], seeds=2)
    after = [c.stat().st_mtime_ns for c in cells]
    assert after[1:] == before[1:]
    assert after[0] != before[0]
    text = page.read_text()
    measured = json.loads((page.parent / "cells" / "P2-factors-64-0.json").read_text())
    assert measured["auc"] > 0.7
    assert "± " in text
    assert "oracle" in text
    with pytest.raises(UnknownMethodError, match="factors"):
        run(small, tmp_path, ["magic"])


def test_a_folder_without_tables_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkDataError, match=r"models\.parquet"):
        load(tmp_path, DEFAULT_ENCODER, tmp_path)


@pytest.mark.slow
def test_real_data_quick(shared_data: Path, tmp_path: Path) -> None:
    """On unseen models and queries, others' answers must tell more than a table of means."""
    data = load(shared_data / "oll-v1", DEFAULT_ENCODER, tmp_path)
    assert data.pool["train"].shape == (112, 850)
    assert data.held["test"].shape == (64, 331)
    page = run(data, tmp_path, ["factors", "majority-known", "best-single"], quick=True)
    frame = pl.read_parquet(page.with_name("results.parquet")).filter(protocol="P2", budget=64)
    loss = dict(frame.select("method", "bce").iter_rows())
    assert loss["factors"] < loss["majority-known"] < loss["best-single"]
