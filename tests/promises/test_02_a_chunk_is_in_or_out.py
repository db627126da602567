"""Promise 2: a chunk of answers is in the warehouse or not, never half of it."""

import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
from nights import ROOT, Pipeline, query

from tasks.record import record_parts
from warehouse.store import Warehouse

WRITE_HALF = """
import sys
from pathlib import Path
from warehouse.store import Warehouse
db, run_id, first, second = sys.argv[1:]
w = Warehouse.open(Path(db))
w.scores.merge_part(Path(first), run_id)
with w.transaction():
    w.scores.merge_part(Path(second), run_id)
    print(w.read(f"FROM score WHERE run_id = '{run_id}'").height, flush=True)
    sys.stdin.readline()
"""


def test_a_chunk_is_in_or_out(after_first: Pipeline, tmp_path: Path) -> None:
    database = after_first.folder / "state" / "warehouse.duckdb"
    ((run_id, n_all),) = query(
        after_first,
        "SELECT run_id, count(*) FROM score WHERE model_id = 'org/b' GROUP BY run_id",
    )
    every = (after_first.folder / "state" / "parts").glob("*/*.parquet")
    parts = [p for p in every if pl.read_parquet(p)["model_id"][0] == "org/b"]
    # The answers of the night lie in five files, and none of them is recorded yet.
    with Warehouse.open(database) as w:
        before = w.read(f"FROM score WHERE run_id = '{run_id}'").drop("scored_at")
    _forget(database, str(run_id))
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITE_HALF, database, str(run_id), *parts[:2]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert writer.stdout is not None
    n_first, n_second = (pl.read_parquet(part).height for part in parts[:2])
    assert writer.stdout.readline() == f"{n_first + n_second}\n"
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    in_it = "SELECT count(*) FROM score WHERE model_id = 'org/b'"
    assert query(after_first, in_it) == [(n_first,)]

    torn = tmp_path / "torn.parquet"
    torn.write_bytes(parts[2].read_bytes()[:-1000])
    with Warehouse.open(database) as w:
        added, refused = record_parts(w, str(run_id), [torn])
        assert (added, "torn.parquet" in str(refused), torn.exists()) == (0, True, False)
        # What was in stays in, what was not comes in, and nothing comes twice.
        assert record_parts(w, str(run_id), parts) == (int(str(n_all)) - n_first, None)
        assert record_parts(w, str(run_id), parts) == (0, None)
        after = w.read(f"FROM score WHERE run_id = '{run_id}'").drop("scored_at")
    assert after.sort("query_id").equals(before.sort("query_id"))


def _forget(database: Path, run_id: str) -> None:
    import duckdb

    with duckdb.connect(str(database)) as con:
        con.execute("DELETE FROM score WHERE run_id = ?", [run_id])
        con.execute("DELETE FROM score_part WHERE run_id = ?", [run_id])
