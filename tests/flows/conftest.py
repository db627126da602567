"""A pipeline of tiny real models in a folder of its own, and a real Prefect server."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from tiny import write_model, write_tasks

BIN = Path(sys.executable).parent

SETTINGS = """\
home = "state"
tasks = ["tiny_choice", "tiny_copy"]
task_folders = ["tasks"]

[evaluation]
parallel = 2
chunk_size = 16
new_model_queries = 20
device = "cpu"

[training]
steps = 20
"""


@dataclass(frozen=True)
class Pipeline:
    """A folder with settings, registry, tasks and models, driven by the command line."""

    folder: Path
    environment: dict[str, str]

    def locus(self, *arguments: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """Run `locus` to its end."""
        return subprocess.run(
            [str(BIN / "locus"), *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start `locus` in a process group of its own."""
        return subprocess.Popen(
            [str(BIN / "locus"), *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def register(self, *names: str) -> None:
        """Make the registry hold exactly these models."""
        lines = "".join(
            f"- {{id: org/{name}, args: {{pretrained: models/{name}}}, "
            "price_in_usd_per_mtok: 1.0, price_out_usd_per_mtok: 2.0}\n"
            for name in names
        )
        (self.folder / "models.yaml").write_text("models:\n" + lines)


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


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-models")
    for seed, name in enumerate(("a", "b", "c", "late")):
        write_model(folder / name, seed)
    return folder


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prefect server; gives its API's address."""
    folder = tmp_path_factory.mktemp("prefect-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    log = (folder / "server.log").open("w")
    server = subprocess.Popen(
        [str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        env=environment(folder),
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                if httpx.get(f"{url}/health", timeout=2).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"no Prefect server: {(folder / 'server.log').read_text()[-2000:]}")
            time.sleep(0.5)
        yield url
    finally:
        server.terminate()
        server.wait(30)
        log.close()


@pytest.fixture
def pipeline(tmp_path: Path, tiny_models: Path, prefect_server: str) -> Pipeline:
    """A fresh pipeline with three models, on the real server."""
    (tmp_path / "locus.toml").write_text(SETTINGS)
    (tmp_path / "models").symlink_to(tiny_models)
    write_tasks(tmp_path / "tasks")
    made = Pipeline(tmp_path, environment(tmp_path, prefect_server))
    made.register("a", "b", "c")
    return made
