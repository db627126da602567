"""Folders: the matrix schema without and with splits, EmbedLLM's files, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from benchmark_folders import Folder, write_embedllm

from locus.benchmark.data import BenchmarkDataError, load
from locus.encoding import DEFAULT_ENCODER


def test_a_folder_without_tables_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkDataError, match=r"models\.parquet"):
        load(tmp_path, DEFAULT_ENCODER, tmp_path)


def test_without_splits_models_are_divided_by_organisation(tmp_path: Path, encodings: Path) -> None:
    orgs: list[object] = ["one", "two", "three", "four", "five"] * 5 + ["six"] * 4
    path = Folder(tmp_path / "x").write(model_columns={"org": orgs})
    data = load(path, DEFAULT_ENCODER, encodings)
    assert len(data.pool) + len(data.held) == 29
    by_model = {f"org{i}/model": org for i, org in enumerate(orgs)}
    pool, held = ({by_model[m] for m in part.ids} for part in (data.pool, data.held))
    assert pool
    assert not pool & held
    assert sum(len(q) for q in data.queries.values()) == 320
    assert data.wide_pool is None
    assert any("split by their ids" in note for note in data.notes)


def test_digests_tell_changed_scores(tmp_path: Path, encodings: Path) -> None:
    one = load(Folder(tmp_path / "a").write(), DEFAULT_ENCODER, encodings)
    same = load(Folder(tmp_path / "b").write(), DEFAULT_ENCODER, encodings)
    other = load(Folder(tmp_path / "c").write(lambda y: 1 - y), DEFAULT_ENCODER, encodings)
    assert one.digest == same.digest != other.digest


def test_named_pools_and_all_models_beyond_them(tmp_path: Path, encodings: Path) -> None:
    at = list(range(29))
    columns: dict[str, list[object]] = {
        "split": ["train" if i < 20 else "heldout" for i in at],
        "pool112": [i < 10 for i in at],
        "heldout64": [20 <= i < 25 for i in at],
        "params_b": [7.0 if i else None for i in at],
    }
    data = load(Folder(tmp_path / "x").write(model_columns=columns), DEFAULT_ENCODER, encodings)
    assert (len(data.pool), len(data.held)) == (10, 5)
    assert data.wide_pool is not None
    assert data.wide_held is not None
    assert (len(data.wide_pool), len(data.wide_held)) == (20, 9)
    assert np.isnan(data.pool.params_b[0])
    assert data.pool.params_b[1] == 7


def test_embedllm_files_keep_their_splits(tmp_path: Path) -> None:
    data = load(write_embedllm(tmp_path / "e"), DEFAULT_ENCODER, tmp_path)
    assert {n: len(q) for n, q in data.queries.items()} == {"train": 80, "val": 15, "test": 25}
    assert set(data.queries["test"].benchmark) == {"piqa", "mmlu"}
    assert len(data.pool) + len(data.held) == 29
    assert not np.isnan(data.pool.scores["train"]).any()


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("scores", {"score": 1.5}, r"score 1\.5"),
        ("scores", {"model_id": "org1/model", "query_id": "q1"}, "more than one score"),
        ("queries", {"split": "train"}, "no query is in the split 'val'"),
        ("models", {"split": "heldout"}, "0 models are in the training pool"),
    ],
)
def test_what_can_not_be_used_is_refused(
    tmp_path: Path, encodings: Path, table: str, change: dict[str, object], message: str
) -> None:
    path = Folder(tmp_path / "x").write()
    file = path / f"{table}.parquet"
    frame = pl.read_parquet(file)
    frame.with_columns(**{name: pl.lit(value) for name, value in change.items()}).write_parquet(
        file
    )
    with pytest.raises(BenchmarkDataError, match=message):
        load(path, DEFAULT_ENCODER, encodings)


def test_a_missing_column_and_a_broken_file_are_named(tmp_path: Path) -> None:
    path = Folder(tmp_path / "x").write()
    pl.read_parquet(path / "queries.parquet").drop("text").write_parquet(path / "queries.parquet")
    with pytest.raises(BenchmarkDataError, match="no column 'text'"):
        load(path, DEFAULT_ENCODER, tmp_path)
    (path / "scores.parquet").write_bytes(b"PAR1")
    with pytest.raises(BenchmarkDataError, match=r"scores\.parquet can't be read"):
        load(path, DEFAULT_ENCODER, tmp_path)


def test_models_hold_what_they_say(tmp_path: Path, encodings: Path) -> None:
    data = load(Folder(tmp_path / "x").write(), DEFAULT_ENCODER, encodings)
    assert len(replace(data.pool, ids=("a", "b"))) == 2
    assert data.n_train == len(data.queries["train"])
