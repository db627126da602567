"""What is asked often starts without what takes long to import."""

import subprocess
import sys
from pathlib import Path

from warehouse.store import Warehouse

HEAVY = {"torch", "lm_eval", "transformers", "prefect"}

ASKED = f"""
import sys
from pathlib import Path
from typer.testing import CliRunner
from flows.cli import app
from flows.cli.terminal import grid
from warehouse.console import run_rows

assert CliRunner().invoke(app, ["--help"]).exit_code == 0
found = run_rows(Path("warehouse.duckdb"), "SELECT 0 AS n, 'x' AS t")
assert (found.columns, found.values) == ([("n", True), ("t", False)], [(0, "x")]), found
grid(found.columns, found.values)
frames = {{"polars", "pyarrow", "numpy"}} & set(sys.modules)
assert not frames, frames
told = CliRunner().invoke(app, ["status"])
assert "published" in told.stdout, told.stdout
heavy = {HEAVY} & set(sys.modules)
assert not heavy, heavy
"""


def test_help_sql_and_status_start_light(tmp_path: Path) -> None:
    with Warehouse.open(tmp_path / "warehouse.duckdb"):
        pass
    done = subprocess.run(
        [sys.executable, "-c", ASKED], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
