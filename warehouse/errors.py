"""Errors of the warehouse. Each message names the item, what is wrong and the next step."""

from collections.abc import Mapping, Sequence
from pathlib import Path


class WarehouseError(Exception):
    """Anything that the warehouse refuses or cannot do."""


class WarehouseBusyError(WarehouseError):
    """Another process holds the database file."""

    def __init__(self, path: Path, wait_s: float, detail: str) -> None:
        super().__init__(
            f"{path} is held by another process and stayed so for {wait_s:g} s ({detail}); "
            "wait for it to end, or query the published copy instead"
        )
        self.path = path


class MigrationError(WarehouseError):
    """The database and the migrations of this version of the code do not fit together."""


class SchemaTooNewError(MigrationError):
    """The database was written by a newer version of the code."""


class ContractError(WarehouseError):
    """Rows that break a rule of the table they are meant for; nothing was written.

    Attributes:
        table: table the rows were meant for.
        column: column at fault; None where the rule is about whole rows.
        rule: the rule that is broken.
        rows: the first few offending rows, as far as single rows are at fault.
    """

    def __init__(
        self,
        table: str,
        column: str | None,
        rule: str,
        rows: Sequence[Mapping[str, object]] = (),
        *,
        n_rows: int | None = None,
        more: int = 0,
    ) -> None:
        where = f"{table}.{column}" if column else table
        text = f"{where}: {rule}"
        if rows:
            text += f"; {n_rows or len(rows)} offending row(s), first: "
            text += "; ".join(_one_line(row) for row in rows)
        if more:
            text += f"; {more} more rule(s) broken"
        super().__init__(text + ". Nothing was written; correct the rows and write them again")
        self.table = table
        self.column = column
        self.rule = rule
        self.rows = [dict(row) for row in rows]


class SqlError(WarehouseError):
    """A user's SQL that was refused or failed.

    Attributes:
        line: what is wrong, in one line.
        hint: what DuckDB suggests, or None.
    """

    def __init__(self, line: str, hint: str | None = None) -> None:
        super().__init__(line if hint is None else f"{line}\n{hint}")
        self.line = line
        self.hint = hint


def _one_line(row: Mapping[str, object], width: int = 60) -> str:
    """Show a row in one line: values are untrusted text, so `repr`, and cut."""
    cells = []
    for name, value in row.items():
        text = repr(value)
        cells.append(f"{name}={text if len(text) <= width else text[: width - 3] + '...'}")
    return "{" + ", ".join(cells) + "}"
