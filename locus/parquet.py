"""Parquet files of others: read by Arrow, whose reader is made for hostile files.

Polars' own reader believes what a damaged header says: asked for more memory than there is, the
process is ended, and there is no error to catch.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

# What either library says of a damaged file, down to text that isn't UTF-8.
_DAMAGED = (
    pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError,
)  # fmt: skip


class ParquetError(RuntimeError):
    """A file that is no Parquet, or damaged; the message says what is wrong, in one line."""


def read_parquet(path: Path) -> pl.DataFrame:
    """Read a whole file.

    Args:
        path: the file. Its name is taken as it is: not for a pattern, nor for partition columns.

    Raises:
        ParquetError: it can't be read, or holds what it may not.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        # Text that isn't UTF-8 comes through else, and breaks whoever looks at it.
        table.validate(full=True)
        with _panics_unsaid():
            return pl.DataFrame(pl.from_arrow(table))
    except _DAMAGED as error:
        is_panic = isinstance(error, pl.exceptions.PanicException)
        why = "" if is_panic else f": {' '.join(str(error).split())[:200]}"
        raise ParquetError(f"it is no Parquet file, or damaged{why}") from error


@contextmanager
def _panics_unsaid() -> Iterator[None]:
    """Keep polars from printing where it broke down, stack and all, before Python hears of it.

    It writes to the file descriptor itself, which leads nowhere for as long as a file is read.
    """
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
