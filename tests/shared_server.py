"""One real Prefect server for a whole test run, whichever of its processes needs it first.

Starting one takes ten seconds of a processor, half of them for its empty database. So it is shared,
and a test whose deployments, automations or events others must not see starts one of its own from
a copy of that database. Each ends with the test run, however that ends.
"""

import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

FOLDER = "prefect-server"
PATIENCE_S = 120


def environment(folder: Path, api_url: str = "") -> dict[str, str]:
    """An environment whose Prefect keeps to a folder of its own."""
    return {
        **os.environ,
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": api_url,
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "OMP_NUM_THREADS": "1",
    }


def shared(factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Folder of the run's server, which answers from now on; ``api`` in it is its address."""
    from filelock import FileLock

    base, owner = factory.getbasetemp(), os.getpid()
    if hasattr(request.config, "workerinput"):
        # The processes of a run are children of one, and their folders are in its folder.
        base, owner = base.parent, os.getppid()
    folder = base / FOLDER
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock"):
        if not (folder / "api").exists() or not answers((folder / "api").read_text()):
            start(folder, owner)
    return folder


@contextmanager
def own(folder: Path, like: Path) -> Iterator[str]:
    """The address of a server that ends with the block.

    Args:
        folder: an empty folder for it.
        like: a running server's folder; the new one has what that had when it was new.
    """
    copy_database(like, folder)
    process = start(folder, os.getpid())
    try:
        yield (folder / "api").read_text()
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def copy_database(like: Path, folder: Path) -> None:
    """Give a server's folder the empty database of another one."""
    home = folder / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    (home / "prefect.db").write_bytes((like / "empty.db").read_bytes())


def start(folder: Path, owner: int) -> "subprocess.Popen[bytes]":
    """Start a server that ends when the process ``owner`` does; it answers when this returns."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, __file__, str(owner), "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=_without_address(environment(folder)),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    (folder / "pid").write_text(
        json.dumps([process.pid, psutil.Process(process.pid).create_time()])
    )
    deadline = time.monotonic() + PATIENCE_S
    while not answers(url):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"no Prefect server: {(folder / 'server.log').read_text()[-2000:]}")
        time.sleep(0.5)
    with (
        closing(sqlite3.connect(folder / "prefect" / "prefect.db")) as made,
        closing(sqlite3.connect(folder / "empty.db")) as empty,
    ):
        made.backup(empty)
    (folder / "api").write_text(url)
    return process


def _without_address(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name != "PREFECT_API_URL"}


def answers(url: str) -> bool:
    """Whether a server is there."""
    try:
        return httpx.get(f"{url}/health", timeout=10).status_code == 200
    except httpx.HTTPError:
        return False


def ask(url: str, path: str, method: str = "POST", **body: Any) -> Any:
    """What a server says, which may be busy with what other tests ask: then it is asked again."""
    from flows.serve_runs import client_of

    with client_of(url, timeout_s=30, attempts=6) as client:
        # Typed for the paths that it knows; it takes any.
        request: Any = client.request
        return request(method, path, json=body if method == "POST" else None).json()


def end(base: Path) -> None:
    """End the server of a run whose folder is ``base``, if it has one."""
    try:
        pid, created = json.loads((base / FOLDER / "pid").read_text())
        server = psutil.Process(pid)
        if server.create_time() != created:
            return
        server.terminate()
        server.wait(30)
    except psutil.TimeoutExpired:
        server.kill()
    except (FileNotFoundError, psutil.NoSuchProcess):
        return


def say_the_rest() -> None:
    """Send what this process still has to tell its server: once that has ended, nobody hears it."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=30)


def _end_with(owner: "psutil.Process") -> None:
    """End this process when another one has ended."""
    import signal

    owner.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)
    os._exit(1)


def main(owner: int, *arguments: str) -> Any:
    """Be a Prefect server until the process ``owner`` ends."""
    import runpy
    import threading

    threading.Thread(target=_end_with, args=(psutil.Process(owner),), daemon=True).start()
    # This folder has modules with names of its own.
    sys.path.pop(0)
    sys.argv = ["prefect", "server", "start", *arguments]
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
