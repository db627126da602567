"""Score matrices: the real ones, and everything that can be wrong with one."""

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from locus import ids
from locus.imports.bundle import SCHEMAS, ReadResult
from locus.imports.matrix import read_matrix

NOW = datetime(2026, 2, 3, tzinfo=UTC)
HOSTILE = ["../../x", "a'b", 'a"b', "a\nb", "a\x00b", "x" * 10_000, "\u202eevil", "", "a b", "=1"]


def tables() -> dict[str, pl.DataFrame]:
    """A small sound matrix: 3 models, 4 queries, one cell missing, one null."""
    models = pl.DataFrame(
        {
            "model_id": ["org/a", "org/b", "c"],
            "sha": ["abc123", None, None],
            "price": [0.5, None, float("nan")],
            "params_b": [7, 8, 9],
            "since": [date(2024, 1, 2), None, None],
            "open": [True, False, None],
            "tags": [["x", 'y"'], [], None],
        }
    )
    queries = pl.DataFrame(
        {
            "query_id": ["s/1", "s/2", "s/3", "s/4"],
            "benchmark": ["s", "s", "t", "t"],
            "text": ["one\nline", "two", "three", "four"],
            "split": ["train", "val", "test", None],
            "choices": [["p", "q"], None, None, None],
            "answer": ["A", "B", None, None],
            "hard": [True, None, None, None],
        }
    )
    scores = pl.DataFrame(
        [(m, q) for m in ["org/a", "org/b", "c"] for q in ["s/1", "s/2", "s/3", "s/4"]][:-1],
        schema=["model_id", "query_id"],
        orient="row",
    ).with_columns(score=pl.Series([1, 0, 1, 0, 1, 1, 1, 0, None, 0, 1]))
    return {"models": models, "queries": queries, "scores": scores}


def write(folder: Path, parts: dict[str, pl.DataFrame]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in parts.items():
        frame.write_parquet(folder / f"{name}.parquet")
    return folder


def read(folder: Path, **options: Any) -> ReadResult:
    return read_matrix(folder, "run-1", now=NOW, **options)


@pytest.mark.parametrize(
    ("name", "size"), [("oll-v1", (2277, 1310, 2874550)), ("mmlu-pro-cot", (30, 12032, 360893))]
)
def test_real_matrices(shared_data: Path, name: str, size: tuple[int, int, int]) -> None:
    folder = shared_data / name
    if not folder.is_dir():
        pytest.skip(f"no {name} in {shared_data}")
    result = read(folder)
    assert result.n_problems == 0, result.problems.head().rows()
    bundle = result.bundle
    assert bundle is not None
    assert (bundle.models.height, bundle.queries.height, bundle.scores.height) == size
    raw = pl.read_parquet(folder / "scores.parquet")
    assert bundle.scores.get_column("score").sum() == raw.get_column("score").cast(float).sum()
    # Every score is where it was: the same cell under the source's own names.
    back = bundle.scores.join(bundle.queries.select("query_id", "source_id"), on="query_id")
    same = raw.join(
        back.select("model_id", "source_id", mine="score"),
        left_on=["model_id", "query_id"],
        right_on=["model_id", "source_id"],
    )
    assert same.height == raw.height
    assert same.select((pl.col("mine") == pl.col("score")).all()).item()


def test_real_splits_and_revisions(shared_data: Path) -> None:
    if not (shared_data / "oll-v1").is_dir():
        pytest.skip(f"no oll-v1 in {shared_data}")
    bundle = read(shared_data / "oll-v1").bundle
    assert bundle is not None
    raw = pl.read_parquet(shared_data / "oll-v1" / "queries.parquet")
    joined = bundle.queries.join(raw, left_on="source_id", right_on="query_id", suffix="_raw")
    assert joined.select((pl.col("split") == pl.col("split_raw")).all()).item()
    models = pl.read_parquet(shared_data / "oll-v1" / "models.parquet")
    shas = dict(models.select("model_id", "sha").iter_rows())
    assert dict(bundle.revisions.select("model_id", "revision").iter_rows()) == shas


def test_a_sound_matrix(tmp_path: Path) -> None:
    result = read(write(tmp_path, tables()))
    assert result.n_problems == 0, result.problems.rows()
    assert result.notes == ["1 cells have no score: they stay missing"]
    bundle = result.bundle
    assert bundle is not None
    for name, schema in SCHEMAS.items():
        assert dict(getattr(bundle, name).schema) == schema
    assert bundle.models.get_column("org").to_list() == ["org", "org", None]
    assert bundle.models.get_column("price_in_usd_per_mtok").to_list() == [0.5, None, None]
    assert bundle.models.get_column("price_out_usd_per_mtok").to_list() == [0.5, None, None]
    assert json.loads(bundle.models.item(0, "metadata")) == {
        "since": "2024-01-02",
        "open": True,
        "tags": ["x", 'y"'],
        "sha": "abc123",
    }
    assert bundle.models.item(2, "metadata") is None
    assert bundle.revisions.get_column("revision").to_list() == ["abc123", "import", "import"]
    first = bundle.queries.row(0, named=True)
    expected = ids.query_id(
        "s", "1", {"source_id": "s/1", "choices": ["p", "q"], "answer": "A"}, "one\nline"
    )
    assert first["query_id"] == expected
    assert (first["source_id"], first["target"], first["task_version"]) == ("s/1", "A", "1")
    assert json.loads(first["doc"]) == {"hard": True}
    splits = bundle.queries.get_column("split").to_list()
    assert splits == ["train", "val", "test", ids.split_of(bundle.queries.item(3, "query_id"))]
    assert bundle.tasks.select("task", "source").rows() == [("s", "matrix"), ("t", "matrix")]
    assert bundle.scores.height == 10
    cell = bundle.scores.filter(
        (pl.col("model_id") == "org/b") & (pl.col("query_id") == bundle.queries.item(3, "query_id"))
    )
    assert cell.select("score", "revision", "status").rows() == [(0.0, "import", "ok")]
    assert set(bundle.scores.get_column("scored_at")) == {NOW}


def test_the_same_matrix_gives_the_same_bundle(tmp_path: Path) -> None:
    folder = write(tmp_path, tables())
    one, two = read(folder).bundle, read(folder).bundle
    assert one is not None
    assert two is not None
    for name in SCHEMAS:
        assert getattr(one, name).equals(getattr(two, name))
    other = read(folder, task_version="2").bundle
    assert other is not None
    assert not set(one.queries.get_column("query_id")) & set(other.queries.get_column("query_id"))


def test_time_of_scores(tmp_path: Path) -> None:
    then = datetime(2024, 5, 6, tzinfo=UTC)
    bundle = read(write(tmp_path, tables()), scored_at=then).bundle
    assert bundle is not None
    assert set(bundle.scores.get_column("scored_at")) == {then}
    assert set(bundle.models.get_column("added_at")) == {NOW}


@pytest.mark.parametrize("dtype", [pl.Int8, pl.UInt32, pl.Float32, pl.Float64, pl.Boolean])
def test_types_of_scores(tmp_path: Path, dtype: type[pl.DataType]) -> None:
    parts = tables()
    parts["scores"] = parts["scores"].with_columns(pl.col("score").cast(dtype))
    bundle = read(write(tmp_path, parts)).bundle
    assert bundle is not None
    assert bundle.scores.get_column("score").sum() == 6


def test_a_folder_name_is_no_pattern(tmp_path: Path) -> None:
    result = read(write(tmp_path / "a=b" / "[x]*?", tables()))
    assert result.n_problems == 0, result.problems.rows()
    assert result.bundle is not None
    assert '"a"' not in result.bundle.models.item(0, "metadata")


def spoil(parts: dict[str, pl.DataFrame], table: str, row: int, column: str, value: object) -> None:
    frame = parts[table]
    values = frame.get_column(column).to_list()
    values[row] = value
    series = pl.Series(column, values, dtype=frame.schema[column], strict=True)
    parts[table] = frame.with_columns(series)


CASES = [
    # table, row, column, value, item, part of the reason
    ("models", 1, "model_id", None, "(null)", "model_id is empty"),
    ("models", 1, "model_id", "../../x", "../../x", "is not valid"),
    ("models", 2, "model_id", "org/a", "org/a", "not unique: row 1"),
    ("models", 0, "price", -1.0, "org/a", "price is -1.0"),
    ("models", 0, "price", float("inf"), "org/a", "price is inf"),
    ("models", 0, "sha", "../x", "org/a", "is no revision"),
    ("queries", 3, "query_id", "s/1", "s/1", "not unique: row 1"),
    ("queries", 3, "query_id", None, "(null)", "query_id is empty"),
    ("queries", 1, "text", "  \n", "s/2", "text is empty"),
    ("queries", 1, "text", None, "s/2", "text is empty"),
    ("queries", 1, "benchmark", "", "s/2", "benchmark is empty"),
    ("queries", 1, "benchmark", "a\x1bb", "s/2", "printable"),
    ("queries", 1, "split", "dev", "s/2", "split dev is unknown"),
    ("scores", 4, "model_id", "org/z", "org/z", "not in models.parquet"),
    ("scores", 4, "query_id", "s/9", "org/b", "query s/9 is not in queries.parquet"),
    ("scores", 4, "query_id", None, "org/b", "empty"),
    ("scores", 4, "score", 2, "org/b", "within [0, 1]"),
    ("scores", 4, "score", -1, "org/b", "within [0, 1]"),
]


@pytest.mark.parametrize(("table", "row", "column", "value", "item", "reason"), CASES)
def test_what_is_wrong_is_named(
    tmp_path: Path, table: str, row: int, column: str, value: object, item: str, reason: str
) -> None:
    parts = tables()
    spoil(parts, table, row, column, value)
    result = read(write(tmp_path, parts))
    assert result.bundle is None
    found = [
        p
        for p in result.problems.rows(named=True)
        if p["file"] == f"{table}.parquet" and reason in p["reason"]
    ]
    assert [(p["line"], p["item"]) for p in found] == [(row + 1, item)]
    # The rest can be had on request, and is without fault in itself.
    kept = read(tmp_path, skip_bad=True)
    assert kept.n_problems == result.n_problems
    assert kept.bundle is not None
    assert 0 < kept.bundle.scores.height < 11
    assert set(kept.bundle.scores.get_column("query_id")) <= set(
        kept.bundle.queries.get_column("query_id")
    )
    assert set(kept.bundle.scores.get_column("model_id")) <= set(
        kept.bundle.models.get_column("model_id")
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.01, 1.01])
def test_scores_that_are_no_probability(tmp_path: Path, value: float) -> None:
    parts = tables()
    parts["scores"] = parts["scores"].with_columns(pl.col("score").cast(pl.Float64))
    spoil(parts, "scores", 0, "score", value)
    result = read(write(tmp_path, parts))
    assert result.problems.select("file", "line", "item").rows() == [("scores.parquet", 1, "org/a")]
    assert result.bundle is None


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_model_ids(tmp_path: Path, name: str) -> None:
    parts = tables()
    spoil(parts, "models", 1, "model_id", name)
    result = read(write(tmp_path, parts))
    assert result.bundle is None
    first = result.problems.row(0, named=True)
    assert (first["file"], first["line"]) == ("models.parquet", 2)
    assert first["item"].isprintable()
    assert len(first["item"]) < 250
    assert first["reason"].isprintable()


def test_everything_is_reported_at_once(tmp_path: Path) -> None:
    parts = tables()
    spoil(parts, "models", 0, "model_id", "a b")
    spoil(parts, "queries", 0, "text", "")
    spoil(parts, "scores", 9, "score", 7)
    result = read(write(tmp_path, parts))
    assert set(result.problems.get_column("file")) == {
        "models.parquet",
        "queries.parquet",
        "scores.parquet",
    }


def test_repeated_cells(tmp_path: Path) -> None:
    parts = tables()
    same = parts["scores"].head(3)
    parts["scores"] = pl.concat([parts["scores"], same])
    result = read(write(tmp_path / "same", parts))
    assert result.n_problems == 0
    assert result.bundle is not None
    assert result.bundle.scores.height == 10
    assert "3 repeated rows with equal score collapsed" in result.notes
    flipped = same.head(1).with_columns(score=1 - pl.col("score"))
    parts["scores"] = pl.concat([parts["scores"], flipped])
    result = read(write(tmp_path / "other", parts))
    assert result.bundle is None
    # The first cell is there three times: in rows 1, 12 and 15.
    assert result.problems.get_column("line").to_list() == [1, 12, 15]
    assert all("different scores" in reason for reason in result.problems.get_column("reason"))
    kept = read(tmp_path / "other", skip_bad=True).bundle
    assert kept is not None
    assert kept.scores.height == 9


def test_many_problems_are_counted_and_some_kept(tmp_path: Path) -> None:
    parts = tables()
    n = 25_000
    parts["scores"] = pl.DataFrame(
        {"model_id": ["org/a"] * n, "query_id": [f"no/{i}" for i in range(n)], "score": [1] * n}
    )
    result = read(write(tmp_path, parts))
    assert result.n_problems == n
    assert result.problems.height == 10_000
    assert result.problems.row(-1, named=True)["line"] == 10_000


@pytest.mark.parametrize("name", ["models", "queries", "scores"])
def test_missing_and_unreadable_files(tmp_path: Path, name: str) -> None:
    write(tmp_path, tables())
    path = tmp_path / f"{name}.parquet"
    path.unlink()
    result = read(tmp_path, skip_bad=True)
    assert result.bundle is None
    (problem,) = result.problems.rows(named=True)
    assert problem["file"] == f"{name}.parquet"
    assert "missing" in problem["reason"]
    assert "model_id" in problem["reason"] or "query_id" in problem["reason"]
    for content in (b"", b"garbage", b"PAR1" + bytes(100) + b"PAR1"):
        path.write_bytes(content)
        result = read(tmp_path)
        assert result.bundle is None
        (problem,) = result.problems.rows(named=True)
        assert (problem["file"], problem["line"]) == (f"{name}.parquet", None)
        assert "can't be read" in problem["reason"]


@pytest.mark.parametrize(
    ("table", "column"),
    [("models", "model_id"), ("queries", "text"), ("queries", "benchmark"), ("scores", "score")],
)
def test_missing_columns(tmp_path: Path, table: str, column: str) -> None:
    parts = tables()
    parts[table] = parts[table].drop(column)
    result = read(write(tmp_path, parts), skip_bad=True)
    assert result.bundle is None
    (problem,) = result.problems.rows(named=True)
    assert (problem["file"], problem["item"]) == (f"{table}.parquet", column)
    assert "missing" in problem["reason"]


@pytest.mark.parametrize(
    ("table", "column", "values", "expected"),
    [
        ("models", "model_id", [1, 2, 3], "expected text"),
        ("models", "params_b", ["7B", "8B", "9B"], "expected a number"),
        ("queries", "choices", ["a", "b", "c", "d"], "expected a list of text"),
        ("queries", "text", [["a"], ["b"], ["c"], ["d"]], "expected text"),
        ("scores", "score", ["1"] * 11, "expected a number"),
    ],
)
def test_wrong_types(
    tmp_path: Path, table: str, column: str, values: list[Any], expected: str
) -> None:
    parts = tables()
    parts[table] = parts[table].with_columns(pl.Series(column, values))
    result = read(write(tmp_path, parts), skip_bad=True)
    assert result.bundle is None
    (problem,) = result.problems.rows(named=True)
    assert (problem["file"], problem["item"]) == (f"{table}.parquet", column)
    assert expected in problem["reason"]


def test_columns_of_nothing_but_nulls(tmp_path: Path) -> None:
    parts = tables()
    parts["models"] = parts["models"].with_columns(pl.lit(None).alias("family"))
    parts["queries"] = parts["queries"].with_columns(pl.lit(None).alias("choices"))
    result = read(write(tmp_path, parts))
    assert result.n_problems == 0, result.problems.rows()


def test_nothing_scored_is_no_import(tmp_path: Path) -> None:
    parts = tables()
    parts["scores"] = parts["scores"].clear()
    result = read(write(tmp_path, parts), skip_bad=True)
    assert result.bundle is None
