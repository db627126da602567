"""Storage: scores from parts into the warehouse, and back out as a matrix.

Parts are made up as an evaluation would write them: bare scores, of which there can be tens of
millions, and whole answers with their texts, tokens and hashes. Beside the pipeline's own path,
which reads, hashes, checks and merges each part, those of a run together as far as they are small,
stands DuckDB alone: one INSERT a part from the same files into a table of the same columns.
"""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq

from flows.bench.rows import Row, Say, Side, Size, growth, in_turns, timed
from locus.frames import SCORES
from locus.matrix import ScoreMatrix
from tasks.record import record_parts
from warehouse.contracts import ModelFrame, QueryFrame, RevisionFrame, TaskFrame, build
from warehouse.store import Warehouse

_GOAL = "0.7 of DuckDB alone, and a million rows a second"
_ROWS = 100_000
_AT = datetime(2026, 1, 2, tzinfo=UTC)
_BARE = ("model_id", "revision", "query_id", "status", "score", "metric", "filter", "scored_at")


@dataclass(frozen=True)
class _Parts:
    """Parts by run; each run asks one model all queries."""

    runs: tuple[tuple[Path, ...], ...]
    queries: tuple[str, ...]

    @property
    def files(self) -> list[Path]:
        return [file for run in self.runs for file in run]

    @property
    def n_rows(self) -> int:
        return len(self.runs) * len(self.queries)

    def first(self, n: int) -> "_Parts":
        """Those of the first n runs."""
        return _Parts(self.runs[:n], self.queries)


def rows(size: Size, folder: Path, say: Say) -> Iterator[Row]:
    """Bare scores, answers, small parts; then the matrix."""
    quick = size is Size.QUICK
    n_bare, n_answers, per_part = (16, 3, 10_000) if quick else (100, 10, _ROWS)
    repeats = 1 if quick else 2
    bare = _write(folder / "bare", n_bare, per_part, say, whole=False)
    yield _record("scores", bare, folder, repeats, say, grow=True)
    yield from _read_back(bare, folder, repeats, say)
    shutil.rmtree(folder / "bare")
    answers = _write(folder / "answers", n_answers, per_part, say, whole=True)
    yield _record("answers with text", answers, folder, repeats, say)
    small = _write(folder / "small", 8 if quick else 25, 256, say, whole=True, per_run=4)
    yield _record("answers with text, in parts of 256", small, folder, repeats, say)


def _record(
    what: str, parts: _Parts, folder: Path, repeats: int, say: Say, *, grow: bool = False
) -> Row:
    say(f"recording {parts.n_rows:,} {what}")
    db, plain = folder / "ours.duckdb", folder / "plain.duckdb"
    spent: list[float] = []
    _, peer = in_turns(
        lambda: spent.append(_ours(parts, db)), partial(_plain, parts, plain), repeats
    )
    ours, n = tuple(spent[1:]), parts.n_rows
    copy = folder / "copy.duckdb"
    with Warehouse.open(db) as warehouse:
        warehouse.snapshots.copy_to(copy)
    notes: dict[str, object] = {
        "parts": len(parts.files),
        "bytes a row: part, warehouse, copy, DuckDB alone": [
            round(size / n, 1)
            for size in (
                sum(path.stat().st_size for path in parts.files),
                *(path.stat().st_size for path in (db, copy, plain)),
            )
        ],
    }
    copy.unlink()
    plain.unlink()
    if grow:
        sizes = {float(n): min(ours)}
        for share in (16, 4):
            some = parts.first(max(round(len(parts.runs) / share), 1))
            sizes[float(some.n_rows)] = _ours(some, folder / "some.duckdb")
        notes["time grows with rows to the power of"] = round(growth(sizes), 2)
    return Row(
        f"record {n:,} {what}",
        Side("record_parts", ours, n, "rows"),
        Side("DuckDB, one INSERT a part", peer, n, "rows"),
        _GOAL,
        notes,
    )


def _ours(parts: _Parts, db: Path) -> float:
    """Seconds to record all parts, from opening the warehouse to having closed it."""
    db.unlink(missing_ok=True)
    with Warehouse.open(db) as warehouse:
        _fill_catalogue(warehouse, parts)

    def record() -> None:
        with Warehouse.open(db) as warehouse:
            for number, run in enumerate(parts.runs):
                added, refused = record_parts(warehouse, f"run-{number}", run)
                if refused or added != len(parts.queries):
                    raise RuntimeError(f"{run} was not recorded: {refused}")

    return timed(record)


def _fill_catalogue(warehouse: Warehouse, parts: _Parts) -> None:
    names = [_model(number) for number in range(len(parts.runs))]
    catalogue = warehouse.catalogue
    catalogue.add_models(build(ModelFrame, ({"model_id": m, "source": "registry"} for m in names)))
    revisions = ({"model_id": m, "revision": "r1"} for m in names)
    catalogue.add_revisions(build(RevisionFrame, revisions))
    task = {"task": "t", "task_version": "1", "source": "lm-eval"}
    catalogue.add_tasks(build(TaskFrame, [task]))
    queries = pl.DataFrame({"query_id": parts.queries}).with_columns(
        task=pl.lit("t"), task_version=pl.lit("1"), split=pl.lit("train"), text=pl.lit("?")
    )
    catalogue.add_queries(queries.select(c for c in QueryFrame.columns if c in queries.columns))
    with warehouse.transaction():
        for number, name in enumerate(names):
            warehouse.scores.start_run(
                f"run-{number}", "lm-eval", name, "r1", {}, {}, None, len(parts.queries)
            )


def _plain(parts: _Parts, db: Path) -> None:
    db.unlink(missing_ok=True)
    with duckdb.connect(str(db)) as con:
        con.execute("SET TimeZone = 'UTC'")
        con.execute(_table_sql(db.with_name("ours.duckdb")))
        for number, run in enumerate(parts.runs):
            for part in run:
                con.execute(
                    "INSERT INTO score BY NAME SELECT ? AS run_id, * FROM read_parquet(?)",
                    [f"run-{number}", str(part)],
                )


def _table_sql(db: Path) -> str:
    """How the warehouse makes its table of scores."""
    with duckdb.connect(str(db), read_only=True) as con:
        found = con.execute("SELECT sql FROM duckdb_tables() WHERE table_name = 'score'").fetchall()
    return str(found[0][0])


def _read_back(parts: _Parts, folder: Path, repeats: int, say: Say) -> Iterator[Row]:
    """From the warehouse that was just written."""
    say(f"reading {parts.n_rows:,} scores back")
    with Warehouse.open(folder / "ours.duckdb") as warehouse:
        read = partial(warehouse.scores.training_scores, splits=["train"])
        scan = partial(warehouse.read, "SELECT model_id, query_id, score FROM score")
        ours, peer = in_turns(read, scan, repeats)
        matrix, _ = in_turns(lambda: ScoreMatrix.from_frame(read()), lambda: None, repeats)
    n = parts.n_rows
    scanned = Side("DuckDB to Arrow, the same columns", peer, n, "rows")
    for what, label, seconds in (
        ("current scores in order", "training_scores", ours),
        ("the matrix of current scores", "training_scores, ScoreMatrix", matrix),
    ):
        yield Row(
            f"read {n:,} scores back: {what}",
            Side(label, seconds, n, "rows"),
            scanned,
            "0.7 of a plain scan, and a million rows a second",
        )


def _write(
    folder: Path, n_runs: int, per_part: int, say: Say, *, whole: bool, per_run: int = 1
) -> _Parts:
    say(f"writing {n_runs * per_run} parts of {per_part:,} rows")
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    n_queries = per_part * per_run
    queries = tuple(f"q-{_hash(f'query {i}')[:24]}" for i in range(n_queries))
    asked = pl.DataFrame({"query_id": queries}).with_columns(
        pl.Series(f"{what}_hash", [_hash(f"{what} {i}") for i in range(n_queries)])
        for what in ("doc", "prompt", "target")
    )
    files = []
    for number in range(n_runs * per_run):
        right = pl.Series((draw.random(per_part) < 0.6).astype(float))
        frame = asked.slice(number % per_run * per_part, per_part).with_columns(
            model_id=pl.lit(_model(number // per_run)),
            revision=pl.lit("r1"),
            status=pl.lit("ok"),
            score=right,
            metric=pl.lit("acc"),
            filter=pl.lit("none"),
            scored_at=pl.lit(_AT),
        )
        frame = _answered(frame, right, draw) if whole else frame
        kept = set(frame.columns) if whole else set(_BARE)
        frame = frame.select(
            (pl.col(c) if c in kept else pl.lit(None)).cast(t).alias(c) for c, t in SCORES.items()
        )
        path = folder / f"{number:05d}.parquet"
        # As `locus.evaluation.parts` does it.
        pq.write_table(frame.to_arrow(), path, compression="zstd", write_page_checksum=True)
        files.append(path)
    runs = tuple(tuple(files[i : i + per_run]) for i in range(0, len(files), per_run))
    return _Parts(runs, queries)


def _answered(frame: pl.DataFrame, right: pl.Series, draw: np.random.Generator) -> pl.DataFrame:
    """With what was answered, and what that took."""
    n = frame.height
    likelihood = pl.Series(np.round(draw.normal(-30, 9, n), 4)).cast(pl.String)
    return frame.with_columns(
        metrics=pl.concat_str(pl.lit('{"acc,none": '), right.cast(pl.String), pl.lit("}")),
        response=pl.concat_str(pl.lit("[["), likelihood, pl.lit(", false]]")),
        latency_ms=pl.Series(np.round(draw.gamma(4, 50, n), 3)),
        tokens_in=pl.Series(draw.integers(40, 400, n)),
        tokens_out=pl.Series(draw.integers(1, 64, n)),
        cost_usd=pl.Series(np.round(draw.gamma(2, 1e-5, n), 8)),
    )


def _model(number: int) -> str:
    return f"org{number % 50}/model-{number}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
