"""Start: from a command to its first answer, and a night in which there is nothing to do.

On a small home that is imported and published here. A command is timed as a person would: its
process from start to end, beside one that does nothing.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl

from flows.bench.rows import Row, Say, Side, Size, in_turns

_GOAL = "under 0.4 s over the empty process"
_LOCUS = "from flows.cli import main; main()"
_COMMANDS = {
    "locus --help": ["--help"],
    "locus status": ["status"],
    "locus sql": ["sql", "SELECT count(*) AS n FROM latest_score"],
}
_HEAVY = ("torch", "lm_eval", "transformers", "prefect", "polars", "duckdb")
"""Libraries whose import is told of."""

# The server is started before the clock: it is Prefect's, and a deployed night finds one running.
_NIGHT = """
import json, sys, time
began = time.perf_counter()
from flows.cli.terminal import start_progress
start_progress()
from flows.nightly import nightly
from prefect.client.orchestration import get_client
imported = time.perf_counter()
with get_client(sync_client=True) as client:
    client.hello()
served = time.perf_counter()
outcome = nightly()
ended = time.perf_counter()
print(json.dumps({
    "import_s": imported - began, "server_s": served - imported, "work_s": ended - served,
    "said": outcome.headline(),
    "imported": [name for name in ("torch", "lm_eval", "transformers") if name in sys.modules],
}))
"""


def rows(size: Size, folder: Path, say: Say) -> Iterator[Row]:
    """Commands that are asked often, then the night."""
    quick = size is Size.QUICK
    home = _home(folder, say)
    for what, arguments in _COMMANDS.items():
        say(what)
        command = [sys.executable, "-c", _LOCUS, *arguments]
        repeats = 3 if quick else 15
        ours, peer = in_turns(
            lambda command=command: _run(home, command),  # type: ignore[misc]
            lambda: _run(home, [sys.executable, "-c", "pass"]),
            repeats,
        )
        notes = {"seconds over the empty process": round(median(ours) - median(peer), 3)}
        yield Row(
            what,
            Side("process", ours),
            Side("python -c pass", peer),
            _GOAL,
            notes | _imports(home, arguments),
        )
    yield _night(home, 1 if quick else 3, say)


def _night(home: Path, repeats: int, say: Say) -> Row:
    told = []
    for _ in range(repeats):
        say("a night with nothing new")
        told.append(json.loads(_run(home, [sys.executable, "-c", _NIGHT]).splitlines()[-1]))
    return Row(
        "a night with nothing new: its work",
        Side("flow", tuple(one["work_s"] for one in told)),
        None,
        "under 10 s beyond the start of the process, without torch and lm-eval",
        {
            "importing, s": round(median(one["import_s"] for one in told), 2),
            "starting Prefect's temporary server, s": round(
                median(one["server_s"] for one in told), 2
            ),
            "heavy libraries imported": sorted({name for one in told for name in one["imported"]}),
            "it said": told[-1]["said"],
        },
    )


def _home(folder: Path, say: Say) -> Path:
    """A home with a small matrix, placed and published."""
    folder.mkdir(parents=True, exist_ok=True)
    say("importing and publishing a small home")
    rng = np.random.default_rng(0)
    models = [f"org{i % 4}/model-{i}" for i in range(12)]
    queries = pl.DataFrame(
        {
            "query_id": [f"q{i}" for i in range(200)],
            "benchmark": [("sums", "capitals")[i % 2] for i in range(200)],
            "text": [
                f"What is {i} plus {3 * i}, and what is {i} times {i + 1}?" for i in range(200)
            ],
        }
    )
    matrix = folder / "matrix"
    matrix.mkdir()
    pl.DataFrame({"model_id": models}).write_parquet(matrix / "models.parquet")
    queries.write_parquet(matrix / "queries.parquet")
    cells = pl.DataFrame({"model_id": models}).join(queries.select("query_id"), how="cross")
    scores = (rng.random(cells.height) < 0.6).astype(float)
    cells.with_columns(score=pl.Series(scores)).write_parquet(matrix / "scores.parquet")
    (folder / "locus.toml").write_text("", encoding="utf-8")
    (folder / "models.yaml").write_text("models: []\n", encoding="utf-8")
    for arguments in (["import", "matrix", str(matrix)], ["publish"]):
        _run(folder, [sys.executable, "-c", _LOCUS, *arguments])
    return folder


def _run(home: Path, command: list[str]) -> str:
    """What a command says, in a folder with settings of its own.

    Raises:
        subprocess.CalledProcessError: it failed; its words are on standard error.
    """
    own = _environment(home)
    done = subprocess.run(command, env=own, cwd=home, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def _environment(home: Path) -> dict[str, str]:
    own = {k: v for k, v in os.environ.items() if not k.startswith("LOCUS_")}
    # A package that was installed is compiled: what a checkout compiles at every start is no part.
    own.pop("PYTHONDONTWRITEBYTECODE", None)
    return own | {
        "LOCUS_CONFIG": str(home / "locus.toml"),
        "LOCUS_HOME": str(home / "state"),
        "LOCUS_MODELS_FILE": str(home / "models.yaml"),
        "PREFECT_HOME": str(home / "prefect"),
    }


def _imports(home: Path, arguments: list[str]) -> dict[str, Any]:
    """What a command imports, by the interpreter's own count."""
    command = [sys.executable, "-X", "importtime", "-c", _LOCUS, *arguments]
    began = time.perf_counter()
    done = subprocess.run(
        command, env=_environment(home), cwd=home, capture_output=True, text=True, check=True
    )
    wall = time.perf_counter() - began
    lines = [line.split("|") for line in done.stderr.splitlines() if line.count("|") == 2]
    own_s = {line[2].strip(): int(line[0].rpartition(":")[2]) / 1e6 for line in lines[1:]}
    return {
        "modules imported": len(own_s),
        "of that time, importing, share": round(sum(own_s.values()) / wall, 2),
        "heavy libraries imported": [name for name in _HEAVY if name in own_s],
    }
