"""`locus route-server` as a process, and when it won't start."""

import logging
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from conftest import BIN
from shared_server import environment
from typer.testing import CliRunner

from flows.cli import app
from locus.routing.serving.app import TOKEN_VARIABLE, ServingError

pytestmark = [pytest.mark.slow]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "locus.toml").write_text('home = "state"\n')
    monkeypatch.setenv("LOCUS_CONFIG", str(tmp_path / "locus.toml"))
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    # The verb writes to the standard error that it is run with, which ends with the test.
    for name in ("locus", "warehouse"):
        logger = logging.getLogger(name)
        monkeypatch.setattr(logger, "handlers", [*logger.handlers])
        monkeypatch.setattr(logger, "propagate", logger.propagate)
    return tmp_path


def test_it_does_not_start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*words: str) -> str:
        result = CliRunner().invoke(app, ["route-server", *words])
        assert isinstance(result.exception, ServingError)
        return str(result.exception)

    for host in ("0.0.0.0", "::", "example.org"):  # noqa: S104 - that is what is refused
        assert "other machines can call" in refused("--host", host)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert "is the port in use?" in refused("--port", str(port))
    monkeypatch.setenv(TOKEN_VARIABLE, "short")
    assert "16 characters or more" in refused()


def test_it_serves_until_stopped(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [str(BIN / "locus"), "route-server", "--port", str(port)]
    process = subprocess.Popen(
        words, cwd=folder, env=environment(folder, ""), stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None and time.monotonic() < deadline
            try:
                answer = httpx.get(f"http://127.0.0.1:{port}/health")
                break
            except httpx.ConnectError:
                time.sleep(0.1)
        assert (answer.status_code, answer.json()["status"]) == (503, "empty")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert f"routing: http://127.0.0.1:{port}/route" in said
    assert "Traceback" not in said
