"""EmbedLLM's csv files, with quotes, fields and bytes that csv can't have."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hostile import PATIENCE, changed, damaged, fuzz
from hypothesis import strategies as st
from taken_in import read_in, ways

from locus.imports.embedllm import read_embedllm
from warehouse.store import Warehouse

pytestmark = [PATIENCE]

HEADER = ["prompt_id", "model_id", "category_id", "label", "model_name", "prompt", "category"]


def rows(first: int) -> list[list[str]]:
    return [
        [str(p), str(m), "3", str((p + m) % 2), f"org/model-{m}", f'{p}: "2,5"\nand so on', "piqa"]
        for p in (first, first + 1)
        for m in (0, 1)
    ]


def written(table: Any) -> bytes:
    """A table as csv; what is no table is written as it is."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    for row in table if isinstance(table, list) else [table]:
        writer.writerow(row if isinstance(row, list) else [row])
    return stream.getvalue().encode("utf-8", "surrogatepass")


def test_any_csv_is_rows_or_faults(ground: Path, home: Path, warehouse: Warehouse) -> None:
    for at, split in enumerate(("train", "val", "test")):
        (home / f"{split}.csv").write_bytes(written([HEADER, *rows(at * 10)]))
    kept = {path: path.read_bytes() for path in home.iterdir()}
    order = [["model_id", "model_name"], ["0", "org/model-0"], ["1", "org/model-1"]]

    def check(split: str, table: bytes, models: bytes | None, way: str) -> str:
        for path, content in kept.items():
            path.write_bytes(content)
        (home / f"{split}.csv").write_bytes(table)
        (home / "model_order.csv").unlink(missing_ok=True)
        if models is not None:
            (home / "model_order.csv").write_bytes(models)
        return read_in(way, read_embedllm, home, ground, warehouse)

    tables = damaged(changed([HEADER, *rows(0)], [HEADER, *rows(0)[:1]]).map(written))
    orders = st.none() | st.none() | damaged(changed(order).map(written))
    fuzz(check, st.sampled_from(["train", "val", "test"]), tables, orders, ways, share=0.5)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b'"', b"\x00", b"model_name\n", b"model_id,model_id\n1,2\n"]
)
def test_an_order_of_models_that_is_none(tmp_path: Path, content: bytes) -> None:
    for at, split in enumerate(("train", "val", "test")):
        (tmp_path / f"{split}.csv").write_bytes(written([HEADER, *rows(at * 10)]))
    (tmp_path / "model_order.csv").write_bytes(content)
    result = read_embedllm(tmp_path, "r", skip_bad=True)
    assert result.bundle is not None
