"""Promise 11: one bad model blocks no other."""

from nights import Pipeline, query, snapshot, status_of


def test_one_bad_model_blocks_no_other(hard_night: Pipeline) -> None:
    status, said = status_of(hard_night)
    assert status == 3
    assert "org/broken: ValueError: Unrecognized model" in said.splitlines()[-1]
    ended = "SELECT status, error IS NULL FROM evaluation_run WHERE model_id = '{}'"
    assert query(hard_night, ended.format("org/broken")) == [("failed", False)]
    assert query(hard_night, "SELECT count(*) FROM score WHERE model_id = 'org/broken'") == [(0,)]
    # The other new one is asked, placed and published.
    assert query(hard_night, ended.format("org/late"))[0][0] == "finished"
    assert snapshot(hard_night).manifest["counts"]["models"] == 3
    table = snapshot(hard_night).folder / "routing" / "table.json"
    assert "org/late" in table.read_text()
    assert "org/broken" not in table.read_text()
