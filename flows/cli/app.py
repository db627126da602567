"""The application, its commands gathered, and how errors are told: one clear line."""

import atexit
import errno
import logging
import os
import sys
from typing import Annotated

import typer

from flows.cli import (
    backup,
    bench,
    checkpoints,
    decide,
    doctor,
    exports,
    imports,
    look,
    models,
    operate,
    rescore,
    route,
    route_server,
    snapshots,
    watch,
)
from flows.cli.terminal import error_line, say_error

app = typer.Typer(
    name="locus",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""A living map of language models: which model for this query, which is like that one.

Start with `locus demo`, or with `locus init` in an empty folder.
Settings come from `locus.toml` in the working directory (or where `LOCUS_CONFIG` points).""",
)
app.add_typer(models.app, name="models")
app.add_typer(imports.app, name="import")
app.add_typer(exports.app, name="export")
app.add_typer(operate.run_app, name="run")
app.add_typer(checkpoints.app, name="checkpoints")
app.add_typer(snapshots.app, name="snapshots")
operate.register(app)
checkpoints.register(app)
rescore.register(app)
watch.register(app)
route.register(app)
route_server.register(app)
decide.register(app)
look.register(app)
backup.register(app)
bench.register(app)
doctor.register(app)

# What our own errors look like to a shell; anything else is a defect and says so.
EXIT_ERROR = 1
EXIT_GATE = 4
EXIT_DEFECT = 70
_OURS = ("locus.", "warehouse.", "tasks.", "flows.")
# What a machine refuses for want of room, rights or locks, or since a disk has gone, is no defect
# either.
_REFUSED = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM,
    errno.EIO, errno.ENOLCK, errno.ESTALE, errno.ENOTCONN,
}  # fmt: skip


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"locus {version('locus-map')}")
        raise typer.Exit


@app.callback()
def _root(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also show what Prefect and libraries say.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    logging.captureWarnings(True)
    if verbose:
        os.environ["LOCUS_VERBOSE"] = "1"


def _end_quietly() -> None:
    """Drop what the interpreter prints while it is taken down.

    DuckDB's binding reports its own constants as leaked there when Prefect's threads outlive it;
    by then everything of ours is written and said.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)


def main() -> None:
    """Run the command line; every error of ours is one line and exit status 1."""
    # Looking for plugins reads what all installed packages say of themselves, at every start.
    # Who has some sets it, be it to nothing.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # Registered first, so it runs last, after every other exit handler has had its say.
    atexit.register(_end_quietly)
    try:
        app()
    except Exception as error:
        if os.environ.get("LOCUS_DEBUG"):
            raise
        from locus.gates.facts import GateFailedError
        from locus.snapshots import DamagedSnapshotError

        if gone := _server_gone(error):
            say_error(gone)
            sys.stdout.flush()
            # Prefect's threads would go on for minutes to tell nobody what they have left to tell.
            os._exit(EXIT_ERROR)
        known = type(error).__module__.startswith(_OURS)
        refused = _is_refused(error)
        see = refused or type(error) is DamagedSnapshotError
        say_error(error_line(error, known or refused) + ("; see `locus doctor`" * see))
        if isinstance(error, GateFailedError):
            sys.exit(EXIT_GATE)
        sys.exit(EXIT_ERROR if known or refused else EXIT_DEFECT)


def _server_gone(error: Exception) -> str | None:
    """What to say of an error that comes of a Prefect server that can't be reached."""
    url = os.environ.get("PREFECT_API_URL", "").rstrip("/")
    if not url or not _is_about(error, url):
        return None
    from tasks.hidden import without_logins

    shown, _ = without_logins(url)
    return (
        f"error: the Prefect server at PREFECT_API_URL, {shown}, can't be reached. What was "
        "finished until now is kept (`locus status`). Start that server, or unset PREFECT_API_URL, "
        "so that every command starts its own; then run this again, it goes on from there"
    )


def _is_about(error: Exception, url: str) -> bool:
    """Whether a request to a server could not be sent, or its answer not be read."""
    if str(error).startswith("Failed to reach API at"):
        return True
    httpx = sys.modules.get("httpx")
    if httpx is None or not isinstance(error, httpx.TransportError):
        return False
    try:
        return str(error.request.url).startswith(url)
    except RuntimeError:  # of no request
        return False


def _is_refused(error: Exception) -> bool:
    """Whether the machine has refused to write or read, also to DuckDB, or gives other bytes."""
    if isinstance(error, OSError):
        return error.errno in _REFUSED
    kind = type(error)
    said = kind.__name__ == "IOException" or "Corrupt" in str(error)
    return said and kind.__module__ in {"duckdb", "_duckdb"}
