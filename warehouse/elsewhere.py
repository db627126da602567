"""A warehouse elsewhere than in a file of its own: what was asked for, and why it can't be had.

The SQL of the warehouse runs on a DuckLake (tests/warehouse/test_portable_sql.py). What is missing
before one may be written to is in docs/scale.md; until then it is refused, not half supported.
"""

import re
from typing import NoReturn

from warehouse.engine import Error, connect
from warehouse.errors import WarehouseError

_SCHEME = re.compile(r"(?:ducklake:)?[A-Za-z][A-Za-z0-9+.-]*(?=:)")
_LAKE = "ducklake:"
_POSTGRES = re.compile(r"ducklake:postgres(ql)?:")
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    # Looking must not download anything.
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


def is_url(text: str) -> bool:
    """Whether a place is a database's URL and not the path of a file."""
    return text.startswith(_LAKE)


def refuse_elsewhere(url: str) -> NoReturn:
    """Say why a warehouse can't be kept there. A password in the URL is not repeated.

    Args:
        url: such as ``ducklake:postgres:dbname=locus host=db``.

    Raises:
        WarehouseError: always.
    """
    scheme = _SCHEME.match(url)
    shown = f"{scheme[0]}:..." if scheme else "what has no scheme such as ducklake:"
    next_step = (
        "leave it empty, and the warehouse is the file warehouse.duckdb under home, which is what "
        "is supported (docs/scale.md)"
    )
    if not is_url(url):
        raise WarehouseError(f"a warehouse can't be kept in {shown}; {next_step}")
    import duckdb

    needed = ["ducklake", *(["postgres_scanner"] if _POSTGRES.match(url) else [])]
    found = "; ".join(_looked(name) for name in needed)
    raise WarehouseError(
        f"a warehouse in a DuckLake ({shown}) can't be written to yet; {next_step}. Found here: "
        f"DuckDB {duckdb.__version__}; {found}"
    )


def _looked(extension: str) -> str:
    """Whether an extension of DuckDB can be loaded here, in words."""
    with connect(config=_CONFIG) as con:
        try:
            # Names of extensions can't be bound; these are our own.
            con.execute(f"LOAD {extension}")
        except Error as error:
            return f"the extension {extension!r} can't be loaded: {str(error).splitlines()[0]}"
    return f"the extension {extension!r} can be loaded"
