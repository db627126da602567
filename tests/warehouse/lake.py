"""What the warehouse does, done the same way in a file and on a DuckLake.

As a program it does so on a lake, with a version of DuckDB whose extensions come as packages:

    lake.py SITE FOLDER CATALOGUE

SITE holds that DuckDB and its extensions, FOLDER takes the data, CATALOGUE is the lake's. It says
what happened as JSON.
"""

import json
import sys
import threading
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])  # before this environment's own DuckDB

import duckdb
from warehouse_sample import fill, hours, score_row, scores, write_part

from warehouse import contracts
from warehouse.connection import Session
from warehouse.leases import Owner
from warehouse.migrate import migrations
from warehouse.sql import query
from warehouse.store import Warehouse

RACERS = 3


def write_all(w: Warehouse, folder: Path) -> None:
    """The sample, and what it leaves out: vectors, prices, a canary, a decision, a rollback."""
    fill(w, folder)
    w.vectors.add_encodings(
        contracts.build(
            contracts.EncodingFrame,
            [
                {"query_id": q, "encoder": "mini", "dim": 2, "vector": [0.5, float(i)]}
                for i, q in enumerate(("q1", "q2"))
            ],
        )
    )
    price = {"model_id": "b/beta", "in_usd_per_mtok": 1.0, "out_usd_per_mtok": 2.0}
    for since in (None, date(2026, 1, 1)):
        rows = [{**price, "valid_from": since}]
        w.prices.replace(contracts.build(contracts.PriceFrame, rows), ["b/beta"])
    w.scores.start_run("night", "canary", "a/alpha", "a1", {}, {"lm_eval": "1"}, None, 2)
    said = [score_row("a/alpha", "a1", q, 1.0, response="yes") for q in ("q1", "q2")]
    w.canaries.merge_part(write_part(folder, "night", scores(*said)), "night")
    w.scores.finish_run("night", "finished")
    w.catalogue.add_models(
        contracts.build(
            contracts.ModelFrame,
            [{"model_id": "b/beta", "params_b": 7.0, "source": "registry"}],
        )
    )
    try:
        with w.transaction():
            w.audit("undone", "s1")
            raise InterruptedError
    except InterruptedError:
        pass


def contents(w: Warehouse) -> dict[str, list[str]]:
    """All rows of all tables and views, but for the times at which they were written."""
    names = w.read(
        "SELECT table_name AS name FROM duckdb_tables() WHERE database_name = current_database() "
        "UNION SELECT view_name FROM duckdb_views() WHERE database_name = current_database() "
        "AND NOT internal"
    )["name"]
    said = {}
    for name in sorted(set(names) - {"schema_version"}):
        rows = w.read(f"FROM {name}")
        times = [column for column, kind in rows.schema.items() if str(kind).startswith("Datetime")]
        said[name] = sorted(_text(row) for row in rows.drop(times).to_dicts())
    return said


def answers(w: Warehouse) -> dict[str, str]:
    """What the queries give that writing doesn't ask."""
    asked: dict[str, Callable[[], Any]] = {
        "answered": lambda: w.scores.answered("a/alpha", "a1"),
        "digests": lambda: w.scores.scores_digest(),
        "training": lambda: w.scores.training_scores(["train"], ["arith"], ["b/beta"]),
        "usage": lambda: w.scores.usage(),
        "failures": lambda: w.read(
            query("failures_in_a_row"), {"model_id": "b/beta", "revision": "b1"}
        ).drop("finished_at"),
        "current": lambda: w.scores.current_answers("a/alpha", ["arith"]),
        "stored": lambda: w.scores.stored_responses("arith", "acc_norm", "none"),
        "checkpoints": lambda: w.checkpoints.list().drop("decided_at"),
        "training digest": lambda: w.checkpoints.training_digest(),
        "lengths": lambda: sorted(w.catalogue.text_lengths().items()),
        "revisions": lambda: w.catalogue.revisions(),
        "queries": lambda: w.catalogue.queries("test", ["geo"], ["q6"]).drop("added_at"),
        "encodings": lambda: [list(part) for part in w.vectors.encodings("mini", ["q2"])],
        "unencoded": lambda: w.vectors.missing_encodings("mini"),
        "canaries": lambda: w.canaries.history("a/alpha", "a1"),
        "canary": lambda: w.canaries.asked("a/alpha", "a1"),
        "shown": lambda: w.read(query("shown_snapshot")),
        "held": lambda: w.snapshots.held("new"),
        "behind": lambda: w.snapshots.is_behind("s1", hours(0), "new"),
    }
    return {
        name: _text(got.to_dicts() if hasattr(got, "to_dicts") else got)
        for name, got in ((name, ask()) for name, ask in asked.items())
    }


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


# --- the program ---------------------------------------------------------------------------------


def _open(site: Path, folder: Path, catalogue: str) -> Session:
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    for name in ("ducklake", "postgres_scanner"):
        [file] = site.glob(f"*/extensions/v{duckdb.__version__}/{name}.duckdb_extension")
        con.execute(f"LOAD '{file}'")
    con.execute(f"ATTACH 'ducklake:{catalogue}' AS lake (DATA_PATH '{folder / 'data'}')")
    con.execute("USE lake")
    return Session(con, folder / "lake")


def _migrate(lake: Session) -> list[str]:
    """Run the migrations; gives the statements that a lake refuses, and why."""
    refused = []
    # All in one transaction: each would be a snapshot of the lake.
    with lake.transaction():
        for migration in migrations():
            for statement in duckdb.extract_statements(migration.sql):
                try:
                    lake.execute(statement.query)
                except duckdb.BinderException as error:
                    refused.append(f"{statement.query.strip()} -- {error}")
    return refused


def _race(open_: Callable[[], Session]) -> list[str]:
    """What those get who take the same lease at the same moment."""
    got: list[str] = []
    ready = threading.Barrier(RACERS)

    def take(n: int) -> None:
        lake = open_()
        w = Warehouse(lake)
        over = w.leases.get()["token"]
        ready.wait(60)
        try:
            owner = Owner(f"run {n}", None, "host", "machine", n, "0")
            got.append(f"token {w.leases.take(owner, 60, over)}")
        except duckdb.TransactionException as error:
            got.append("conflict" if "conflict" in str(error) else str(error))
        lake.close()

    racers = [threading.Thread(target=take, args=(n,)) for n in range(RACERS)]
    for one in racers:
        one.start()
    for one in racers:
        one.join()
    return sorted(got)


def _main(site: str, folder: str, catalogue: str) -> None:
    def open_() -> Session:
        return _open(Path(site), Path(folder), catalogue)

    lake = open_()
    refused = _migrate(lake)
    w = Warehouse(lake)
    write_all(w, Path(folder))
    said = {"refused": refused, "contents": contents(w), "answers": answers(w)}
    said |= {"race": _race(open_), "token": w.leases.get()["token"]}
    lake.close()
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    _main(*sys.argv[1:])
