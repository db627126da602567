"""Promise 1: same inputs twice, same rows, same snapshot; the second run asks no model anything."""

import contents
import pytest
from nights import Pipeline, published, query, snapshot

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_same_inputs_twice(first_night: Pipeline, after_first: Pipeline) -> None:
    home, before = after_first.folder / "state", first_night.folder / "state"
    second = after_first.locus("run", "nightly")
    assert second.returncode == 0, second.stderr
    assert "no model was asked anything" in second.stdout
    runs = "SELECT run_id FROM evaluation_run ORDER BY ALL"
    assert query(after_first, runs) == query(first_night, runs)
    for folder in ("runs", "parts"):
        names = [{p.name for p in (root / folder).rglob("*")} for root in (home, before)]
        assert names[0] == names[1]
    databases = [root / "warehouse.duckdb" for root in (home, before)]
    assert contents.differences(*map(contents.of_warehouse, databases)) == []
    pointers = [published(night) / "current.json" for night in (after_first, first_night)]
    assert pointers[0].read_bytes() == pointers[1].read_bytes()

    # Built anew from the same rows, it is another snapshot with the same content.
    again = after_first.locus("publish")
    assert again.returncode == 0, again.stderr
    one, other = snapshot(after_first), snapshot(first_night)
    assert one.manifest["parent"] == other.snapshot_id
    assert contents.differences(*(contents.of_snapshot(s.folder) for s in (one, other))) == []
