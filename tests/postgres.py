"""A throw-away PostgreSQL server of a test's own."""

import asyncio
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

# Debian keeps each version's programs in a folder of its own, off the path.
_DEBIAN = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class Database:
    """Where a database is, and who may use it."""

    port: int
    password: str
    user: str = "locus"
    name: str = "postgres"
    host: str = "127.0.0.1"

    @property
    def escaped(self) -> str:
        """The password as a URL has it."""
        return self.password.replace("%", "%25").replace("@", "%40")

    @property
    def url(self) -> str:
        """As SQLAlchemy wants it."""
        return (
            f"postgresql+asyncpg://{self.user}:{self.escaped}@{self.host}:{self.port}/{self.name}"
        )

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Rows of a SELECT."""

        async def ask() -> list[dict[str, Any]]:
            connection = await asyncpg.connect(self.url.replace("+asyncpg", ""))
            try:
                return [dict(row) for row in await connection.fetch(sql)]
            finally:
                await connection.close()

        return asyncio.run(ask())


def _programs() -> Path:
    """The folder of PostgreSQL's own programs, the newest version's; skips where there is none."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda file: int(file.parts[-3]))
    if not found:
        pytest.skip("no PostgreSQL server here: install Debian's package postgresql")
    return found[-1].parent


@contextmanager
def throw_away_postgres() -> Iterator[Database]:
    """Start a server with a password; nothing is left of it at the end."""
    binaries = _programs()
    # Not pytest's folder: PostgreSQL refuses to be root, and nobody else may look in there.
    folder = Path(tempfile.mkdtemp(prefix="locus-postgres-"))
    user = "postgres" if os.geteuid() == 0 else None
    owner = user or pwd.getpwuid(os.geteuid()).pw_name
    # An @ and a % are what a URL has to escape.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        made = Database(port=free.getsockname()[1], password=f"p@ss%{secrets.token_hex(8)}")
    said = folder / "said.log"

    def call(program: str, *arguments: str) -> None:
        with said.open("ab") as stream:
            done = subprocess.run(
                [str(binaries / program), "-D", str(folder / "data"), *arguments],
                cwd=folder,
                user=user,
                stdout=stream,
                stderr=subprocess.STDOUT,
                timeout=120,
                check=False,
            )
        assert done.returncode == 0, said.read_text()[-2000:]

    password = folder / "password"
    password.write_text(made.password)
    for path in (folder, password):
        shutil.chown(path, owner)
    try:
        call("initdb", "-U", made.user, "-A", "scram-sha-256", f"--pwfile={password}", "--no-sync")
        options = (
            f"-p {made.port} -h {made.host} -c unix_socket_directories='' -c fsync=off "
            "-c shared_buffers=16MB"
        )
        call("pg_ctl", "-w", "-l", str(folder / "data" / "server.log"), "-o", options, "start")
        try:
            yield made
        finally:
            call("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)
