"""Which database a Prefect server keeps its runs in that `locus serve` starts.

Prefect's own setting decides (`PREFECT_SERVER_DATABASE_CONNECTION_URL`, or its parts); without one
it is an SQLite file in the server's home. A password in it goes to the server alone, and into no
log.
"""

import re
from collections.abc import Mapping

from flows.serve_process import ServeError

VARIABLE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
_OURS = re.compile(r"PREFECT_(SERVER|API)_DATABASE_\w+")
_DRIVERS = ("postgresql+asyncpg", "sqlite+aiosqlite")


def configured() -> tuple[str, str] | None:
    """The configured database: its URL, and the same without a password, to be shown.

    Returns:
        None for a file in the server's home, which is Prefect's default.

    Raises:
        ServeError: the URL can't be read, or Prefect can't use its driver.
    """
    from prefect.settings import get_current_settings
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    current = get_current_settings()
    secret = current.server.database.connection_url
    if secret is None:
        return None
    text = secret.get_secret_value()
    if text == f"sqlite+aiosqlite:///{current.home}/prefect.db":
        return None
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        # Not chained: SQLAlchemy's message has the whole text, the password with it.
        kind = type(error).__name__
        raise ServeError(
            f"{VARIABLE} can't be read as a database's URL ({kind}): write "
            "postgresql+asyncpg://USER:PASSWORD@HOST:5432/NAME, with %40 for an @ in the password"
        ) from None
    if url.drivername not in _DRIVERS:
        raise ServeError(
            f"{VARIABLE}: Prefect can't use the driver {url.drivername!r}: write "
            f"{' or '.join(f'{driver}://...' for driver in _DRIVERS)}"
        )
    # Options of a URL may hold a password too.
    return text, url.set(query={}).render_as_string(hide_password=True)


def without_database(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for those who talk to the server and not to its database."""
    return {name: value for name, value in environment.items() if not _OURS.fullmatch(name)}
