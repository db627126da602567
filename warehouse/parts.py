"""Parts, read so that a damaged one is an error: never other answers, and never a dead process.

A bit that flips in a Parquet file can make polars' reader give other rows, panic, or ask for so
much memory that the process is ended. Arrow's reader is made for hostile files, and checks the
checksum of every page where the writer has put one (`locus.evaluation.parts` does).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from warehouse.errors import ContractError

# OSError is Arrow's for a page that doesn't fit its checksum, ValueError for text that is none.
_DAMAGED = (pa.ArrowException, pl.exceptions.PolarsError, OSError, ValueError)


# Threads are worth their start where a part is large.
_FEW_BYTES = 1 << 20


def read_part(data: bytes, path: Path) -> pl.DataFrame:
    """Rows of one part; see `read_parts`.

    Raises:
        ContractError: the file is no Parquet, or damaged.
    """
    rows, _ = read_parts([(data, path)])
    return rows


def read_parts(parts: Iterable[tuple[bytes, Path]]) -> tuple[pl.DataFrame, list[int]]:
    """Rows of parts, one part after the other.

    Args:
        parts: the bytes of each file, and where they come from, for the error.

    Returns:
        The rows, and how many each part has.

    Raises:
        ContractError: a file is no Parquet, or damaged; or they have not all the same columns.
    """
    tables, paths = [], []
    for data, path in parts:
        with _damage_told(path):
            file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
            tables.append(file.read(use_threads=len(data) > _FEW_BYTES))
            # Text that isn't UTF-8 comes through else, and breaks whoever looks at it.
            tables[-1].validate(full=True)
        paths.append(path)
    for table, path in zip(tables, paths, strict=True):
        if not table.schema.equals(tables[0].schema):
            raise ContractError("score", None, f"{path} has other columns than {paths[0]}")
    with _damage_told(*paths):
        rows = pl.DataFrame(pl.from_arrow(pa.concat_tables(tables)))
    return rows, [table.num_rows for table in tables]


@contextmanager
def _damage_told(*paths: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        why = " ".join(str(error).split())[:200]
        which = str(paths[0]) if len(paths) == 1 else f"one of {len(paths)} parts"
        raise ContractError(
            "score", None, f"{which} is not a Parquet file, or damaged ({why})"
        ) from error
