"""What a database file holds, in figures that don't depend on the order of its rows.

Two files of equal figures hold the same rows, however they were written: a copy and its source, or
a restored backup and what was backed up.
"""

from dataclasses import dataclass
from pathlib import Path

from warehouse.reading import reading

# The text of a row names its columns, so it is the same whatever their order, and NULL is not the
# empty string. A sum counts a row that is there twice, where XOR would cancel it out.
_DIGEST = (
    "SELECT count(*) AS n_rows, "
    "coalesce(sum(md5_number_lower(to_json(t)::VARCHAR)), 0)::VARCHAR AS total FROM {table} AS t"
)


@dataclass(frozen=True)
class TableContent:
    """The content of one table.

    Attributes:
        rows: number of its rows.
        digest: of all rows, whatever their order.
    """

    rows: int
    digest: str


def content(path: Path) -> dict[str, TableContent]:
    """Content of every table of a database file, by name; memory doesn't grow with its rows.

    Raises:
        WarehouseError: the file can't be opened or read.
    """
    found = {}
    with reading(path) as session:
        names = session.frame(
            "SELECT table_name FROM duckdb_tables() WHERE NOT internal ORDER BY table_name"
        )["table_name"]
        for name in names:
            quoted = '"' + name.replace('"', '""') + '"'
            row = session.row(_DIGEST.format(table=quoted)) or {}
            found[name] = TableContent(int(row["n_rows"]), f"{int(row['total']):032x}")
    return found
