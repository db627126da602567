"""What a run of the real pipeline shows in Prefect, and that it can be backfilled by hand."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from shared_server import ask

from locus.snapshots import current


def run_named(url: str, name: str) -> dict[str, Any]:
    """The newest flow run of a name."""
    asked = {"flow_runs": {"name": {"any_": [name]}}, "sort": "START_TIME_DESC", "limit": 1}
    found = ask(url, "/flow_runs/filter", **asked)
    assert found, f"no run is called {name}"
    run: dict[str, Any] = found[0]
    return run


def left_by(url: str, run: dict[str, Any]) -> dict[str, Any]:
    """Data of a run's artifacts, by key; tables as rows."""
    artifacts = ask(url, "/artifacts/filter", artifacts={"flow_run_id": {"any_": [run["id"]]}})
    return {
        one["key"]: json.loads(one["data"]) if one["type"] == "table" else one["data"]
        for one in artifacts
    }


def check_shown(url: str, name: str, published: Path, broken: str) -> None:
    """A run that asked two models, one of them broken, and published."""
    run = run_named(url, name)
    assert run["state_type"] == "COMPLETED"
    tasks = ask(url, "/task_runs/filter", flow_runs={"id": {"any_": [run["id"]]}})
    names = [task["name"] for task in tasks if task["name"].startswith("evaluate-")]
    left = left_by(url, run)
    assert set(left) == {"plan", "progress", "results", "gates", "report", "backfill-outcome"}
    revisions = {row["model"]: row["revision"] for row in left["plan"]}
    assert sorted(names) == sorted(f"evaluate-{m}@{r[:12]}" for m, r in revisions.items())
    planned = {row["model"]: row["queries"] for row in left["plan"]}
    results = {row["model"]: row for row in left["results"]}
    assert planned.keys() == results.keys()
    done = results.pop(broken)
    assert (done["asked"], done["recorded"], done["ended by"]) == (0, 0, "failure")
    assert done["because"] in left["backfill-outcome"]
    for model, row in results.items():
        assert row["asked"] == row["recorded"] == planned[model] > 0
        assert (row["ended by"], row["because"]) == ("all asked", "")
    share = sum(row["asked"] for row in results.values()) / sum(planned.values())
    assert abs(left["progress"] - 100 * share) < 0.01
    assert {row["verdict"] for row in left["gates"]} <= {"passed", "warned"}
    snapshot = current(published)
    assert left["report"].startswith(f"[{snapshot.snapshot_id}](file:///")
    report = unquote(left["report"].partition("(file://")[2].removesuffix(")"))
    assert Path(report).samefile(snapshot.folder / "similarity" / "report.html")
