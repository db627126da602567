"""Score matrices with any columns of any types, and Parquet files that are none."""

import io
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile import PATIENCE, damaged, fuzz, texts
from hypothesis import strategies as st
from taken_in import read_in, ways

from locus.imports.matrix import read_matrix
from warehouse.store import Warehouse

pytestmark = [PATIENCE]

_LARGE = 2**63 - 1
SERIES = (
    pl.Series([1, None, 0], dtype=pl.Int8), pl.Series([_LARGE, -_LARGE, None]),
    pl.Series([2**64 - 1, 0, 1], dtype=pl.UInt64), pl.Series([2**100, None, 1], dtype=pl.Int128),
    pl.Series([0.5, float("nan"), float("inf")]), pl.Series([1e300, -0.0, None]),
    pl.Series([0.1, 1.0, 0.0], dtype=pl.Float32), pl.Series([True, False, None]),
    pl.Series([None, None, None]), pl.Series([Decimal("0.5"), Decimal(1), None]),
    pl.Series([date(1, 1, 1), date(9999, 12, 31), None]), pl.Series([time(23, 59), None, None]),
    pl.Series([2**31 - 1, -(2**31), 0], dtype=pl.Int32).cast(pl.Date),
    *(
        pl.Series([_LARGE, -_LARGE, 0]).cast(kind)
        for unit in ("ns", "us", "ms")
        for kind in (pl.Datetime(unit), pl.Datetime(unit, "UTC"), pl.Duration(unit))  # type: ignore[arg-type]
    ),
    pl.Series([_LARGE, 0, 1]).cast(pl.Datetime("us", "Pacific/Apia")),
    pl.Series([datetime(2026, 1, 1, tzinfo=UTC), None, None]),
    pl.Series([timedelta(1), None, None]),
    pl.Series([b"\x00\xff", b"", None]), pl.Series(["a", "b", "a"], dtype=pl.Categorical),
    pl.Series(["a", "b", None], dtype=pl.Enum(["a", "b"])), pl.Series([["a"], [], None]),
    pl.Series([["a", None], ["b"], None]), pl.Series([[1], [2, None], None]),
    pl.Series([["a", "b"], None, ["c", "d"]], dtype=pl.Array(pl.String, 2)),
    pl.Series([{"a": 1, "b": "x"}, None, {"a": None, "b": "\u202e"}]),
    pl.Series([[["a"]], [[]], None]),
    pl.Series([[datetime(2026, 1, 1)], [], None]), pl.Series([{"a": [float("nan")]}, None, None]),  # noqa: DTZ001
)  # fmt: skip
NAMES = (
    "model_id", "query_id", "score", "text", "benchmark", "sha", "price", "params_b", "released",
    "choices", "answer", "split", "category", "org", "__row", "__reason", "pair", "m", "x", "",
)  # fmt: skip
whole = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
strings = (texts | whole).map(lambda text: text.encode("utf-8", "replace").decode())


def sound() -> dict[str, pl.DataFrame]:
    models = {
        "model_id": ["org/a", "org/b", "c"],
        "sha": ["a1", None, None],
        "price": [0.5, None, 1],
    }
    queries = {
        "query_id": ["s/1", "s/2", "t/1"],
        "benchmark": ["s", "s", "t"],
        "text": ["one\nline", "two", "three"],
        "choices": [["p", "q"], None, None],
        "answer": ["A", None, None],
    }
    scores = {
        "model_id": ["org/a", "org/a", "org/b"],
        "query_id": ["s/1", "s/2", "t/1"],
        "score": [1.0, 0.0, 0.5],
    }
    tables = {"models": models, "queries": queries, "scores": scores}
    return {name: pl.DataFrame(table) for name, table in tables.items()}


@st.composite
def matrices(draw: st.DrawFn) -> dict[str, pl.DataFrame]:
    """A sound matrix with up to three changes of columns, cells and rows."""
    tables = sound()
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(sorted(tables)))
        frame = tables[name]
        what = draw(st.sampled_from(("column", "column", "cell", "cell", "cell", "drop", "rows")))
        columns = st.sampled_from(frame.columns or ["x"])
        if what == "column":
            new = draw(st.sampled_from(SERIES)).head(frame.height)
            other = draw(columns | st.sampled_from(NAMES))
            if frame.width == 0 or len(new) == frame.height:
                frame = frame.with_columns(new.alias(other))
        elif what == "cell" and frame.height:
            column = draw(columns)
            at, text = draw(st.integers(0, frame.height - 1)), draw(st.none() | strings)
            cells: list[Any] = (
                frame.get_column(column).to_list() if frame[column].dtype == pl.String else []
            )
            if cells:
                cells[at] = text
                frame = frame.with_columns(pl.Series(column, cells, dtype=pl.String))
        elif what == "drop":
            frame = frame.drop(draw(columns), strict=False)
        elif what == "rows":
            frame = draw(st.sampled_from([frame.clear(), frame.head(1), pl.concat([frame, frame])]))
        tables[name] = frame
    return tables


def parquet(frame: pl.DataFrame) -> bytes:
    stream = io.BytesIO()
    frame.write_parquet(stream)
    return stream.getvalue()


def test_any_matrix_is_rows_or_faults(ground: Path, home: Path, warehouse: Warehouse) -> None:
    hurt = st.none() | st.sampled_from(["models", "queries", "scores"]).flatmap(
        lambda name: st.tuples(st.just(name), damaged(st.just(parquet(sound()[name]))))
    )

    def check(tables: dict[str, pl.DataFrame], broken: tuple[str, bytes] | None, way: str) -> str:
        for name, frame in tables.items():
            (home / f"{name}.parquet").write_bytes(parquet(frame))
        if broken is not None:
            (home / f"{broken[0]}.parquet").write_bytes(broken[1])
        return read_in(way, read_matrix, home, ground, warehouse)

    fuzz(check, matrices(), hurt, ways, share=0.5)


@pytest.mark.parametrize("name", ["released", "other"])
def test_columns_of_any_type_are_taken_or_named(tmp_path: Path, name: str) -> None:
    for series in SERIES:
        tables = sound()
        tables["models"] = tables["models"].with_columns(series.alias(name))
        for table, frame in tables.items():
            (tmp_path / f"{table}.parquet").write_bytes(parquet(frame))
        result = read_matrix(tmp_path, "r")
        named = set(result.problems.get_column("item"))
        # Integers of 128 bits are polars' own; nobody else reads such a file.
        at = "models.parquet" if series.dtype == pl.Int128 else name
        assert (result.bundle is None) == bool(named) and named <= {at}, (series, named)


def test_a_damaged_file_is_told_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Wherever it is: some bytes made a reader print a stack, some ended the process."""
    for name, frame in sound().items():
        (tmp_path / f"{name}.parquet").write_bytes(parquet(frame))
    path = tmp_path / "scores.parquet"
    whole, reasons = path.read_bytes(), set()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        reasons |= set(read_matrix(tmp_path, "r").problems.get_column("reason"))
    assert any("no Parquet file, or damaged" in reason for reason in reasons)
    assert all(len(reason.splitlines()) == 1 for reason in reasons)
    assert capfd.readouterr().err == ""


def test_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    for name, frame in sound().items():
        (tmp_path / f"{name}.parquet").write_bytes(parquet(frame))
    model_ids = pa.array([b"org/a", b"org/\xff", b"c"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), len(model_ids), model_ids.buffers())
    pq.write_table(pa.table({"model_id": text}), tmp_path / "models.parquet")
    result = read_matrix(tmp_path, "r")
    assert result.bundle is None
    assert "Invalid UTF8" in result.problems["reason"][0]
