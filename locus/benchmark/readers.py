"""Folders that a benchmark reads, as three frames: the matrix schema, and EmbedLLM's csv files."""

import hashlib
import logging
from pathlib import Path

import polars as pl

from locus.ids import split_of
from locus.parquet import ParquetError, read_parquet

log = logging.getLogger("locus.benchmark")

_TABLES = ("models", "queries", "scores")
_CSV = ("train.csv", "val.csv", "test.csv")


class BenchmarkDataError(ValueError):
    """A folder that can't be used for a benchmark; the message names the file and the fault."""


def read_folder(folder: Path) -> tuple[dict[str, pl.DataFrame], str, list[str]]:
    """Read models, queries and scores.

    Args:
        folder: models.parquet, queries.parquet and scores.parquet (docs/imports.md), or EmbedLLM's
            train.csv, val.csv and test.csv.

    Returns:
        The frames by name (`queries` with `query_id`, `benchmark`, `text`, `split`), 12 digits of
        the SHA-256 of the files, and what a reader of the tables must know about the reading.

    Raises:
        BenchmarkDataError: neither format is there, a file can't be read, or a column is missing.
    """
    if not (folder / "scores.parquet").is_file() and (folder / _CSV[0]).is_file():
        return _embedllm(folder)
    frames = {}
    for name in _TABLES:
        path = folder / f"{name}.parquet"
        if not path.is_file():
            raise BenchmarkDataError(
                f"{path} is missing: a benchmark reads the matrix schema "
                f"({', '.join(f'{n}.parquet' for n in _TABLES)}) or EmbedLLM's {', '.join(_CSV)}"
            )
        try:
            frames[name] = read_parquet(path)
        except ParquetError as error:
            raise BenchmarkDataError(f"{path} can't be read: {error}") from error
    _require(frames["models"], folder / "models.parquet", "model_id")
    _require(frames["queries"], folder / "queries.parquet", "query_id", "benchmark", "text")
    _require(frames["scores"], folder / "scores.parquet", "model_id", "query_id", "score")
    scores = frames["scores"].with_columns(pl.col("score").cast(pl.Float64).fill_nan(None))
    wrong = scores.filter(~pl.col("score").is_between(0, 1))
    if wrong.height:
        raise BenchmarkDataError(
            f"{folder / 'scores.parquet'}: score {wrong['score'][0]} of {wrong['model_id'][0]!r} "
            f"on {wrong['query_id'][0]!r} is not in [0, 1]"
        )
    frames["scores"] = scores
    notes = []
    if "split" not in frames["queries"].columns:
        splits = [split_of(query) for query in frames["queries"]["query_id"]]
        frames["queries"] = frames["queries"].with_columns(split=pl.Series(splits, dtype=pl.String))
        notes.append("queries are split by their ids (70 % train, 10 % val, 20 % test)")
    return frames, _digest([folder / f"{name}.parquet" for name in _TABLES]), notes


def _require(frame: pl.DataFrame, path: Path, *columns: str) -> None:
    for column in columns:
        if column not in frame.columns:
            raise BenchmarkDataError(f"{path} has no column {column!r}")


def _embedllm(folder: Path) -> tuple[dict[str, pl.DataFrame], str, list[str]]:
    """Splits are those of the files; the benchmark is the family of a category, as published."""
    from locus.imports.embedllm import read_embedllm

    result = read_embedllm(folder, "benchmark", skip_bad=True)
    notes = list(result.notes)
    if result.n_problems:
        first = result.problems.row(0, named=True)
        notes.append(
            f"{result.n_problems} records are left out, the first in {first['file']}, "
            f"{first['item']}: {first['reason']}"
        )
    if result.bundle is None:
        raise BenchmarkDataError(f"{folder} can't be read as EmbedLLM data: {notes[-1]}")
    for note in notes:
        log.info("%s: %s", folder.name, note)
    bundle = result.bundle
    frames = {
        "models": bundle.models,
        "queries": bundle.queries.with_columns(benchmark="task"),
        "scores": bundle.scores.select("model_id", "query_id", "score"),
    }
    return frames, _digest([folder / name for name in _CSV]), notes


def _digest(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:12]
