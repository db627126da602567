"""What is asked often starts without what takes long to import."""

import subprocess
import sys
from pathlib import Path

from warehouse.store import Warehouse

HEAVY = {"torch", "lm_eval", "transformers", "prefect", "polars", "pyarrow", "numpy"}

ASKED = f"""
import json
import sys
from pathlib import Path
from typer.testing import CliRunner
from flows.cli import app
from flows.cli.terminal import grid

assert CliRunner().invoke(app, ["--help"]).exit_code == 0
told = CliRunner().invoke(app, ["status", "--format", "json"])
stale = json.loads(told.stdout)["stale"]
assert stale["source"] == "warehouse", stale
assert [(one["model_id"], one["why"]) for one in stale["models"]] == [("org/a", "unevaluated")]
heavy = {HEAVY | {"duckdb"}} & set(sys.modules)  # its engine alone is enough
assert not heavy, heavy

from warehouse.console import run_rows

found = run_rows(Path("data/warehouse.duckdb"), "SELECT 0 AS n, 'x' AS t")
assert (found.columns, found.values) == ([("n", True), ("t", False)], [(0, "x")]), found
grid(found.columns, found.values)
heavy = {HEAVY} & set(sys.modules)
assert not heavy, heavy
"""

MODELS = """
models:
  - id: org/a
    backend: local-completions
    args: {model: a, base_url: "http://127.0.0.1:9/v1/completions"}
"""


def test_help_sql_and_status_start_light(tmp_path: Path) -> None:
    with Warehouse.open(tmp_path / "data" / "warehouse.duckdb"):
        pass
    (tmp_path / "models.yaml").write_text(MODELS)
    done = subprocess.run(
        [sys.executable, "-c", ASKED], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
