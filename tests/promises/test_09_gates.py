"""Promise 9: a gate keeps the old snapshot, tells people and ends with an exit status of its own.

What each gate measures and where it draws the line: tests/locus/test_gates.py; what it does to
real snapshots: tests/tasks/test_gatekeeping.py.
"""

import json

import duckdb
import pytest
from bell import bell
from nights import Pipeline, published, snapshot

from locus.snapshots import verify

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_gates(after_first: Pipeline) -> None:
    old = snapshot(after_first)
    pointer = (published(after_first) / "current.json").read_bytes()
    # Half of a model's answers are gone, as after a bad import or a damaged backup.
    with duckdb.connect(str(after_first.folder / "state" / "warehouse.duckdb")) as con:
        con.execute(
            "DELETE FROM score WHERE model_id = 'org/b' AND query_id IN (SELECT query_id FROM "
            "query WHERE split = 'train' ORDER BY query_id LIMIT 35)"
        )
    with bell() as ringing:
        after_first.environment["LOCUS_NOTIFY_URLS"] = ringing.url
        night = after_first.locus("run", "nightly")
    assert night.returncode == 4, night.stderr
    said = night.stderr.strip().splitlines()[-1]
    assert said.startswith("error: ")
    assert "rows" in said
    assert (published(after_first) / "current.json").read_bytes() == pointer
    verify(old.folder, old.manifest_sha256)
    assert [one["type"] for one in ringing.rung] == ["failure"]
    assert "not published: " in ringing.rung[0]["title"]
    (kept,) = (published(after_first) / "snapshots").glob("*.blocked")
    results = json.loads((kept / "gates.json").read_text())["results"]
    assert "rows" in {one["name"] for one in results if one["verdict"] == "blocked"}
