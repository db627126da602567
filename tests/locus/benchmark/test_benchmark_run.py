"""Whole runs: resuming, measuring again, several processes, awkward data, and real data."""

import importlib.util
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from benchmark_folders import Folder, write_embedllm
from numpy.typing import NDArray
from polars.testing import assert_frame_equal

from locus.bank import Array, Bank, Queries
from locus.benchmark import figures
from locus.benchmark.data import BenchmarkData, Models, load
from locus.benchmark.measure import Bench, measure
from locus.benchmark.methods import UnknownMethodError, makers_by_name, settings_key
from locus.benchmark.protocols import Cell, Job
from locus.benchmark.run import NothingMeasuredError, Options, run
from locus.benchmark.store import Store
from locus.encoding import DEFAULT_ENCODER

FAST = ("factors", "best-single", "majority-known")
TRAINED = ("factors", "embedllm", "irt-net", "knn", "ridge", "uniroute", "majority-predicted")


def stamps(page: Path) -> dict[str, int]:
    cells = (page.parent / "cells").glob("*.json")
    return {cell.stem: cell.stat().st_mtime_ns for cell in cells}


def test_it_resumes_and_writes_what_it_measured(small: BenchmarkData, tmp_path: Path) -> None:
    options = Options(methods=FAST, seeds=2, rounds=50)
    report = run(small, tmp_path, options)
    assert report.failed == {}
    frame = pl.read_parquet(report.page.with_name("results.parquet"))
    assert frame.height == 3 * 2 * (1 + 4)
    p2 = frame.filter(protocol="P2", budget=8)
    assert p2["labels_placed"].unique().to_list() == [64]
    assert frame.filter(protocol="P1")["labels_learned"].unique().to_list() == [800]
    auc = frame.filter(protocol="P2", budget=32).group_by("method").agg(pl.col("auc").mean())
    by_method = dict(auc.iter_rows())
    assert by_method["factors"] > by_method["best-single"] > 0.5

    before = stamps(report.page)
    lost = next(key for key in before if key.startswith("P2-factors-8-0"))
    (report.page.parent / "cells" / f"{lost}.json").unlink()
    run(small, tmp_path, options)
    after = stamps(report.page)
    assert {key for key in after if after[key] != before[key]} == {lost}

    run(small, tmp_path, replace(options, again=("factors",)))
    again = stamps(report.page)
    changed = {key for key in again if again[key] != after[key]}
    assert changed == {key for key in again if "-factors-" in key}


def test_the_page_says_what_was_done(small: BenchmarkData, tmp_path: Path) -> None:
    docs = tmp_path / "docs" / "benchmark.md"
    report = run(small, tmp_path, Options(methods=FAST, seeds=2, rounds=50, docs=docs))
    text = report.page.read_text()
    for wanted in (
        "16 pool models, 8 held-out models",
        "Seeds: 0, 1.",
        "## Summary: P2",
        "| oracle |",
        "| best single in hindsight |",
        "vs factors",
        "± ",
        "P3 is left out",
        "## Geometry",
        "## Fallback",
        "## Portfolios",
        "| factors, k-center |",
        "Sets under a budget of parameters",
        "4 models of unknown size can't be chosen",
        "Not computed: `locus-published`",
    ):
        assert wanted in text
    rows = [line for line in text.splitlines() if line.startswith("| factors |")]
    measured = pl.read_parquet(report.page.with_name("results.parquet"))
    mean = measured.filter(protocol="P2", budget=32, method="factors")["auc"].mean()
    assert f"{mean:.3f} ±" in rows[0]
    assert docs.is_file()
    links = [line.split("(")[1][:-1] for line in docs.read_text().splitlines() if "![" in line]
    assert all((docs.parent / link).is_file() for link in links)
    assert bool(links) == bool(importlib.util.find_spec("matplotlib"))


def test_outputs_are_kept_whole(small: BenchmarkData, tmp_path: Path) -> None:
    report = run(small, tmp_path, Options(methods=("factors", "knn"), seeds=1, rounds=20))
    key = settings_key(makers_by_name()["factors"]())
    store = Store(report.page.parent, {("P2", "factors"): key})
    cell = Cell("P2", "factors", 32, 0)
    arrays = store.arrays(cell)
    assert arrays["test"].shape == (8, 25)
    assert arrays["asked"].sum() == 8 * 32
    assert arrays["bank"].shape == (8, 50)
    assert arrays["vectors"].shape == (8, 128)
    assert np.isnan(arrays["vectors_again"]).all()  # 32 more of 50 there are not
    assert arrays["spread"].shape == (8, 25)
    facts = store.facts(cell)
    assert facts["labels_learned"] == 16 * 50
    assert facts["fit_s"] >= 0
    assert json.dumps(facts)
    # knn neither embeds nor knows the bank: its words about bank queries come from their texts.
    knn = Store(report.page.parent, {("P2", "knn"): settings_key(makers_by_name()["knn"]())})
    assert set(knn.arrays(Cell("P2", "knn", 8, 0))) == {"test", "asked", "bank", "bank_columns"}


@pytest.mark.slow
def test_processes_measure_what_one_does(small: BenchmarkData, tmp_path: Path) -> None:
    methods = ("factors", "best-single", "embedllm")
    options = Options(methods=methods, seeds=1, rounds=20, caps={"embedllm": 20})
    one = run(small, tmp_path / "one", options)
    two = run(small, tmp_path / "two", replace(options, workers=2))
    columns = ["protocol", "method", "budget", "seed", "auc", "bce", "hit1", "overall_error"]
    frames = [
        pl.read_parquet(report.page.with_name("results.parquet")).select(columns)
        for report in (one, two)
    ]
    assert_frame_equal(*frames, abs_tol=1e-5)


def test_a_cap_is_another_setting(small: BenchmarkData, tmp_path: Path) -> None:
    options = Options(methods=("embedllm",), seeds=1, rounds=20, caps={"embedllm": 5})
    first = run(small, tmp_path, options)
    cells = len(stamps(first.page))
    run(small, tmp_path, replace(options, caps={"embedllm": 10}))
    assert len(stamps(first.page)) == 2 * cells
    assert "`embedllm` is capped at 10 optimiser steps" in first.page.read_text()


class Broken:
    """A method whose predictions are none."""

    name = "broken"
    needs_benchmark = False

    def fit(self, bank: Bank, seed: int) -> None:
        self.n = len(bank.queries)

    def place(self, values_BQ: Array) -> NDArray[np.float32]:
        return values_BQ

    def predict(self, placed: NDArray[np.float32], targets: Queries) -> Array:
        return np.full((len(placed), len(targets)), 2, dtype=np.float32)


def test_a_method_that_fails_stops_no_other(
    small: BenchmarkData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(
        "locus.benchmark.measure.makers_by_name",
        lambda quick, caps: {**makers_by_name(quick, caps), "knn": Broken},
    )
    with caplog.at_level(logging.ERROR):
        report = run(small, tmp_path, Options(methods=("knn", "best-single"), seeds=1, rounds=20))
    assert list(report.failed) == ["P1, knn, seed 0", "P2, knn, seed 0"]
    assert "must be probabilities" in report.failed["P1, knn, seed 0"]
    assert "must be probabilities" in report.page.read_text()
    assert "Traceback" in caplog.text
    with pytest.raises(NothingMeasuredError, match="must be probabilities"):
        run(small, tmp_path / "b", Options(methods=("knn",), seeds=1, rounds=20))


def test_unknown_names_are_refused(small: BenchmarkData, tmp_path: Path) -> None:
    with pytest.raises(UnknownMethodError, match="factors"):
        run(small, tmp_path, Options(methods=("magic",)))
    with pytest.raises(UnknownMethodError, match="factors"):
        run(small, tmp_path, Options(again=("magic",)))
    with pytest.raises(UnknownMethodError, match="knn"):
        run(small, tmp_path, Options(caps={"knn": 3}))


def test_settings_tell_methods_apart() -> None:
    full, quick = makers_by_name(), makers_by_name(quick=True)
    assert settings_key(full["embedllm"]()) != settings_key(quick["embedllm"]())
    for name, make in full.items():
        assert settings_key(make()) == settings_key(make()), name


def test_progress_tells_done_and_total(
    small: BenchmarkData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path, {("P1", "best-single"): "x"})
    jobs = [Job("P1", "best-single", s, (Cell("P1", "best-single", 0, s),)) for s in (0, 1)]
    with caplog.at_level(logging.INFO):
        assert measure(Bench(small, store, False, {}), jobs) == {}
    assert "measured 1 of 2: P1 with best-single, seed 0" in caplog.text
    assert "measured 2 of 2" in caplog.text
    assert store.has(jobs[1].cells[0])


def _awkward(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores in steps of a quarter, and holes.

    Half of the models lack a benchmark, one has no score, one query was never asked.
    """
    noise = np.random.default_rng(5).integers(0, 3, values.shape) / 4
    found = np.abs(values - noise).astype(np.float32)
    found[::2, 1::3] = np.nan
    found[4] = np.nan
    found[:, 17] = np.nan
    found[7, 3:] = np.nan
    return found


@pytest.mark.slow
def test_awkward_data_runs_through(tmp_path: Path, encodings: Path) -> None:
    data = load(Folder(tmp_path / "x").write(_awkward), DEFAULT_ENCODER, encodings)
    options = Options(methods=TRAINED, quick=True, rounds=50)
    report = run(data, tmp_path, options)
    assert report.failed == {}
    frame = pl.read_parquet(report.page.with_name("results.parquet"))
    assert set(frame["method"]) == set(TRAINED)
    assert frame["auc"].null_count() == 0
    assert frame.filter(pl.col("auc") < 0.5).height < frame.height / 4
    assert frame["accuracy"].is_between(0, 1).all()


@pytest.mark.slow
def test_embedllm_files_run_through_with_the_published_method(tmp_path: Path) -> None:
    data = load(write_embedllm(tmp_path / "e"), DEFAULT_ENCODER, tmp_path)
    options = Options(
        methods=("factors", "locus-published"), seeds=1, rounds=20, caps={"locus-published": 2}
    )
    report = run(data, tmp_path, options)
    assert report.failed == {}
    text = report.page.read_text()
    assert "`locus-published` is capped at 2 optimiser steps" in text
    assert "## Geometry" in text


@pytest.mark.slow
def test_sample_efficiency_and_scale_on_larger_data(small: BenchmarkData, tmp_path: Path) -> None:
    def more(models: Models) -> Models:
        train = np.tile(models.scores["train"], (1, 8))
        return replace(models, scores={**models.scores, "train": train})

    train = small.queries["train"]
    noise = np.random.default_rng(1).normal(0, 0.02, (400, 6))
    phi = (np.tile(train.phi_Qp, (8, 1)) + noise).astype(np.float32)
    queries = {**small.queries, "train": Queries(phi, train.benchmark * 8)}
    pool, held = more(small.pool), more(small.held)
    data = replace(small, queries=queries, pool=pool, held=held, wide_pool=pool, wide_held=held)
    methods = ("factors", "best-single", "locus-published")
    options = Options(methods=methods, seeds=1, rounds=20, caps={"locus-published": 2})
    report = run(data, tmp_path, options)
    assert report.failed == {}
    frame = pl.read_parquet(report.page.with_name("results.parquet"))
    assert set(frame["protocol"]) == {"P1", "P2", "P2-all", "P3"}
    assert set(frame.filter(protocol="P3")["method"]) == {"factors", "best-single"}
    text = report.page.read_text()
    assert "Evaluations per held-out model that reach what `locus-published` reaches" in text
    assert "P3: `locus-published` is left out" in text
    stable = text[text.index("## Stability of placement") :]
    assert "| factors | 128 | 8 |" in stable


def test_too_few_held_out_models_are_said(small: BenchmarkData, tmp_path: Path) -> None:
    none = Models((), {n: v[:0] for n, v in small.held.scores.items()}, np.zeros(0))
    report = run(replace(small, held=none), tmp_path, Options(methods=FAST, seeds=1, rounds=20))
    text = report.page.read_text()
    assert "P2 and P2-all are left out: 0 held-out models" in text
    assert "## Summary: P1" in text


def test_without_matplotlib_it_says_so(
    small: BenchmarkData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING):
        assert not figures.available()
    assert "pip install matplotlib" in caplog.text


@pytest.mark.slow
def test_real_data_quick(shared_data: Path, tmp_path: Path) -> None:
    """On unseen models and queries, others' answers must tell more than a table of means.

    Every third query: encoding their texts is most of the work.
    """
    real, some = shared_data / "oll-v1", tmp_path / "some"
    some.mkdir()
    shutil.copy(real / "models.parquet", some)
    queries = pl.read_parquet(real / "queries.parquet").sort("query_id").gather_every(3)
    queries.write_parquet(some / "queries.parquet")
    scores = pl.scan_parquet(real / "scores.parquet")
    scores.join(queries.lazy(), on="query_id", how="semi").collect().write_parquet(
        some / "scores.parquet"
    )
    data = load(some, DEFAULT_ENCODER, tmp_path)
    n = dict(queries["split"].value_counts().iter_rows())
    assert data.pool.scores["train"].shape == (112, n["train"])
    assert data.held.scores["test"].shape == (64, n["test"])
    assert data.wide_held is not None
    assert len(data.wide_held) == 486
    methods = ("factors", "majority-known", "best-single")
    report = run(data, tmp_path, Options(methods=methods, quick=True, protocols=("P2-all",)))
    frame = pl.read_parquet(report.page.with_name("results.parquet"))
    at_32 = frame.filter(protocol="P2-all", budget=32)
    loss = dict(at_32.select("method", "bce").iter_rows())
    assert loss["factors"] < loss["majority-known"] < loss["best-single"]
    known = dict(at_32.select("method", "bank_accuracy").iter_rows())
    assert known["factors"] > known["majority-known"] + 0.1
    bounds = pl.read_parquet(report.page.with_name("intervals.parquet"))
    outside = bounds.filter(protocol="P2-all", budget=32, method="best-single", measure="bce")
    assert outside["diff_low"].item() > 0
