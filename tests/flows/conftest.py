"""A pipeline of tiny real models in a folder of its own, on a real Prefect server."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from shared_server import environment
from tiny import write_model, write_tasks

__all__ = ["BIN", "SETTINGS", "Pipeline", "environment"]

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

    def flow_run_ids(self) -> list[str]:
        """Ids of the flow runs of this pipeline, of all that are on the server."""
        logs = (self.folder / "state" / "logs").glob("pipeline-*.jsonl")
        lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
        return sorted({line["flow_run_id"] for line in lines if line.get("flow_run_id")})

    def register(self, *names: str) -> None:
        """Make the registry hold exactly these models."""
        lines = "".join(
            f"- {{id: org/{name}, args: {{pretrained: models/{name}}}, "
            "price_in_usd_per_mtok: 1.0, price_out_usd_per_mtok: 2.0}\n"
            for name in names
        )
        (self.folder / "models.yaml").write_text("models:\n" + lines)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-models")
    for seed, name in enumerate(("a", "b", "c", "late")):
        write_model(folder / name, seed)
    return folder


@pytest.fixture
def pipeline(tmp_path: Path, tiny_models: Path, prefect_server: str) -> Pipeline:
    """A fresh pipeline with three models, on the real server."""
    (tmp_path / "locus.toml").write_text(SETTINGS)
    (tmp_path / "models").symlink_to(tiny_models)
    write_tasks(tmp_path / "tasks")
    made = Pipeline(tmp_path, environment(tmp_path, prefect_server))
    made.register("a", "b", "c")
    return made
