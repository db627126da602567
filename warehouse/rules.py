"""How a frame is held against its contract: every rule in one pass over the columns.

What a table's contract says is in `warehouse.contracts`. All rules are counted by one query over
the frame; only a frame that breaks one is looked at again, to say which rows.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import duckdb
import polars as pl

from warehouse.errors import ContractError

_N_SHOWN = 3

# What a metric says is mostly one of two texts, in part after part: they are asked about once.
_KNOWN: set[str | None] = set()
_FEW, _SHORT, _MOST_KNOWN = 64, 200, 4096


@dataclass(frozen=True)
class Rule:
    """A rule about the values of one column.

    Attributes:
        says: the rule in words.
        holds: turns the column's expression into a condition, true (or NULL) where it holds.
    """

    says: str
    holds: Callable[[pl.Expr], pl.Expr]


@dataclass(frozen=True)
class RowRule:
    """A rule about several values of a row; it holds where the condition is true (or NULL)."""

    says: str
    holds: pl.Expr


@dataclass(frozen=True)
class Column:
    """What a column holds.

    Attributes:
        dtype: its type, exactly.
        rules: what its values must keep to.
        nullable: whether a value may be NULL.
        required: whether the column must be there; if not, it is NULL where it is left out.
        is_json: whether its text must be JSON.
    """

    dtype: pl.DataType
    rules: tuple[Rule, ...] = ()
    nullable: bool = False
    required: bool = True
    is_json: bool = False


@dataclass(frozen=True)
class Contract:
    """What a frame of one table must be.

    Attributes:
        name: the table.
        key: columns that no two rows of a frame may have in common.
        columns: all columns, in order.
        rules: rules over several columns.
    """

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, Column]
    rules: tuple[RowRule, ...] = ()

    @cached_property
    def checks(self) -> list["_Check"]:
        """All rules that are conditions, in order; NULL breaks none but that against NULL."""
        checks: list[_Check] = []
        for name, column in self.columns.items():
            this = pl.col(name)
            if not column.nullable:
                checks.append(_Check(name, "must not be NULL", this.is_null()))
            checks += [
                _Check(name, rule.says, ~rule.holds(this).fill_null(True)) for rule in column.rules
            ]
        return checks + [
            _Check(None, rule.says, ~rule.holds.fill_null(True)) for rule in self.rules
        ]


@dataclass(frozen=True)
class _Check:
    """A rule in words, of a column (None: of rows), and a condition that is true where it fails."""

    column: str | None
    says: str
    fails: pl.Expr


def polars_schema(contract: Contract) -> pl.Schema:
    """Columns of a contract, optional ones included, with their polars types."""
    return pl.Schema({name: column.dtype for name, column in contract.columns.items()})


def build(contract: Contract, rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """Make a frame of a contract's columns and types from dicts; a missing key is NULL.

    Raises:
        ContractError: a row has a key that is no column, or a value of another type.
    """
    schema = polars_schema(contract)
    rows = list(rows)
    for row in rows:
        extra = sorted(set(row) - set(schema))
        if extra:
            raise ContractError(contract.name, extra[0], "is not a column", [row])
    try:
        return pl.DataFrame(rows, schema=schema, orient="row", strict=True)
    except (TypeError, pl.exceptions.PolarsError) as error:
        rule = f"a value has a wrong type: {str(error).splitlines()[0]}"
        raise ContractError(contract.name, None, rule) from error


def validated(contract: Contract, frame: pl.DataFrame) -> pl.DataFrame:
    """Hold a frame against its contract.

    Returns:
        The frame with all columns of the contract in order; optional ones that were left out are
        NULL.

    Raises:
        ContractError: a rule is broken; it names table, column, rule and the first few rows.
    """
    _refuse_shape(contract, frame)
    # Rules may span optional columns, so those are filled in before they are checked.
    missing = [name for name in contract.columns if name not in frame.columns]
    full = frame.with_columns(
        pl.lit(None, dtype=contract.columns[name].dtype).alias(name) for name in missing
    )
    if "dim" in missing and "vector" in frame.columns:
        full = full.with_columns(dim=pl.col("vector").list.len().cast(pl.Int32))
    full = full.select(list(contract.columns))
    checks = [c for c in contract.checks if c.column is None or c.column in frame.columns]
    # Most frames have the same model, version and time in all rows: what doesn't vary tells no two
    # rows apart, and comparing is cheaper than hashing.
    varies = [pl.col(k).ne_missing(pl.col(k).first()).any() for k in contract.key]
    found = full.select(
        *(check.fails.any().alias(f"check {i}") for i, check in enumerate(checks)),
        *(expr.alias(f"key {i}") for i, expr in enumerate(varies)),
    ).row(0)
    broken = [check for check, n in zip(checks, found, strict=False) if n]
    broken += _no_json(contract, frame)
    varying = [k for k, v in zip(contract.key, found[len(checks) :], strict=True) if v]
    unique = full.height < 2 or (varying and full.select(varying).n_unique() == full.height)
    if broken or not unique:
        raise _error(contract, full, broken)
    return full


def _refuse_shape(contract: Contract, frame: pl.DataFrame) -> None:
    """Columns and types come before values."""
    faults = [
        *((n, "is not a column of this table") for n in frame.columns if n not in contract.columns),
        *(
            (name, "is missing")
            for name, column in contract.columns.items()
            if column.required and name not in frame.columns
        ),
        *(
            (name, f"must be {contract.columns[name].dtype}, is {found}")
            for name, found in frame.schema.items()
            if name in contract.columns and found != contract.columns[name].dtype
        ),
    ]
    if faults:
        column, rule = faults[0]
        raise ContractError(contract.name, column, rule, more=len(faults) - 1)


def _no_json(contract: Contract, frame: pl.DataFrame) -> list[_Check]:
    """Columns with values that DuckDB doesn't take as JSON."""
    checks = []
    for name in frame.columns:
        text = frame[name]
        if not contract.columns[name].is_json or text.null_count() == len(text):
            continue
        if bad := _not_json(text.unique()):
            these = pl.col(name).is_in(bad)
            checks.append(_Check(name, "must be valid JSON", these))
    return checks


def _not_json(texts: pl.Series) -> list[str]:
    """Those of some different texts that DuckDB doesn't take as JSON."""
    few = len(texts) <= _FEW
    if few and _KNOWN.issuperset(texts):
        return []
    with _judge().cursor() as con:
        con.register("given", texts.alias("text").to_frame())
        bad = con.execute("SELECT text FROM given WHERE NOT json_valid(text)").fetchall()
    if few and not bad:
        if len(_KNOWN) > _MOST_KNOWN:
            _KNOWN.clear()
        _KNOWN.update(text for text in texts if text is None or len(text) < _SHORT)
    return [text for (text,) in bad]


@cache
def _judge() -> duckdb.DuckDBPyConnection:
    """A database in memory that says what JSON is; making one takes longer than most questions."""
    return duckdb.connect(config={"python_enable_replacements": "false"})


def _error(contract: Contract, frame: pl.DataFrame, broken: list[_Check]) -> ContractError:
    """The first broken rule and its rows."""
    key = list(contract.key)
    again = frame.filter(frame.select(key).is_duplicated())
    if broken:
        column, rule, rows = broken[0].column, broken[0].says, frame.filter(broken[0].fails)
        more = len(broken) - (0 if again.height else 1)
    else:
        column, rule, rows, more = None, f"({', '.join(key)}) must be unique", again, 0
    first = rows.head(_N_SHOWN).to_dicts()
    if column is None and broken:
        shown = [{c: v for c, v in row.items() if v is not None} for row in first]
    else:
        wanted = [*key, column] if column and column not in key else key
        shown = [{c: row[c] for c in wanted} for row in first]
    return ContractError(contract.name, column, rule, shown, n_rows=rows.height, more=more)
