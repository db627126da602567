"""Parts, read so that a damaged one is an error: never other answers, and never a dead process.

A bit that flips in a Parquet file can make polars' reader give other rows, panic, or ask for so
much memory that the process is ended. Arrow's reader is made for hostile files, and checks the
checksum of every page where the writer has put one (`locus.evaluation.parts` does).
"""

from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from warehouse.errors import ContractError

# OSError is Arrow's for a page that doesn't fit its checksum, ValueError for text that is none.
_DAMAGED = (pa.ArrowException, pl.exceptions.PolarsError, OSError, ValueError)


def read_part(data: bytes, path: Path) -> pl.DataFrame:
    """Rows of a part.

    Args:
        data: the bytes of the file.
        path: where they come from, for the error.

    Raises:
        ContractError: the file is no Parquet, or damaged.
    """
    try:
        table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
        return pl.DataFrame(pl.from_arrow(table))
    except _DAMAGED as error:
        why = " ".join(str(error).split())[:200]
        raise ContractError(
            "score", None, f"{path} is not a Parquet file, or damaged ({why})"
        ) from error
