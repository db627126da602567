"""Promise 13: killed at any instant, the next run goes on from there.

``LOCUS_KILLS=50`` kills fifty times (`make test-kills`), in five homes. Homes take turns: one that
is new, and one that has a published map and a model more to add.
"""

import logging
import os
import random
import shutil
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import contents
import duckdb
import pytest
from killing import PHASES, Night, began, instants
from nights import Pipeline, copy_of, one_more, published, query, snapshot

from locus.snapshots import building_folder, seal, verify
from tasks.heal import heal_interrupted
from tasks.publish import is_behind
from tasks.settings import Settings
from warehouse.store import Warehouse

log = logging.getLogger(__name__)

N_KILLS = int(os.environ.get("LOCUS_KILLS", "4"))
SEED = int(os.environ.get("LOCUS_KILLS_SEED", "0"))
MOST_PER_HOME = 10

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 120 * N_KILLS)]


def assert_same(killed: Pipeline, other: Pipeline) -> None:
    """Nothing is missing, double, other or left lying about."""
    home, theirs = killed.folder / "state", other.folder / "state"
    name = "warehouse.duckdb"
    assert contents.differences(
        contents.of_warehouse(home / name), contents.of_warehouse(theirs / name)
    ) == []  # fmt: skip
    assert query(killed, "SELECT count(*) FROM evaluation_run WHERE status = 'running'") == [(0,)]
    double = "SELECT count(*) - count(DISTINCT (model_id, revision, query_id)) FROM score"
    assert query(killed, double) == [(0,)]
    here = snapshot(killed)
    verify(here.folder, here.manifest_sha256)
    assert contents.differences(
        contents.of_snapshot(here.folder), contents.of_snapshot(snapshot(other).folder)
    ) == []  # fmt: skip
    newest = "SELECT snapshot_id FROM snapshot ORDER BY created_at DESC LIMIT 1"
    assert query(killed, newest) == [(here.snapshot_id,)]
    known = {row[0] for row in query(killed, "SELECT snapshot_id FROM snapshot")}
    assert {path.name for path in (published(killed) / "snapshots").iterdir()} <= known
    left = [path for path in home.rglob(".*") if path.suffix != ".lock"]
    assert left == []
    assert list(home.glob("*.wal")) == []


def test_killed_at_any_instant(
    before: Pipeline, first_night: Pipeline, second_night: Pipeline, tmp_path: Path
) -> None:
    draw = random.Random(SEED)  # noqa: S311
    did: Counter[str] = Counter()
    n_homes = 0
    while did.total() < N_KILLS:
        home = tmp_path / f"home-{n_homes}"
        if n_homes % 2:
            pipeline, same = copy_of(before, home), first_night
        else:
            pipeline, same = one_more(first_night, home), second_night
        n_homes += 1
        assert n_homes <= 2 + 2 * N_KILLS / MOST_PER_HOME, f"too few were hit: {did}"
        for instant in instants(min(MOST_PER_HOME, N_KILLS - did.total()), began(same), draw):
            night = Night(pipeline)
            doing = night.kill_at(instant)
            log.info("aimed at %s: %s", instant, doing)
            if doing is None:
                assert night.process.returncode == 0, night.said
                break
            did[doing] += 1
        else:
            last = pipeline.locus("run", "nightly")
            assert last.returncode == 0, last.stderr
        assert_same(pipeline, same)
    log.info("%d kills in %d homes: %s", did.total(), n_homes, did)
    if N_KILLS >= 50:
        # But for the last: once it has said that it published, there is nothing to go on with.
        hit = {part for doing in did for part in doing.split(" and ")}
        assert {
            *PHASES[:-1],
            "encoding",
            "placing",
            "writing a part",
            "writing the warehouse",
        } <= hit


def test_what_a_killed_night_left_unpublished_is_found(after_first: Pipeline) -> None:
    settings = Settings(home=after_first.folder / "state")
    now = snapshot(after_first)
    checkpoint_id = now.manifest["lineage"]["checkpoint_id"]

    def change(sql: str) -> bool:
        with duckdb.connect(str(settings.warehouse)) as con:
            con.execute(sql)
        return is_behind(settings, checkpoint_id)

    comes_in = (
        "INSERT INTO score_part SELECT 'new ' || kind, run_id, 1, merged_at FROM score_part "
        "JOIN evaluation_run USING (run_id) LIMIT 1"
    )
    assert not is_behind(settings, checkpoint_id)
    # Scores that came in and a model that was placed later, but not what canaries answered.
    assert change(comes_in)
    assert not change("DELETE FROM score_part WHERE part_sha256 LIKE 'new%'")
    assert change("UPDATE model_embedding SET scores_digest = 'another'")
    # Who goes back to a snapshot means to leave that out.
    with Warehouse.open(settings.warehouse) as warehouse:
        held = warehouse.snapshots.held(checkpoint_id)
        warehouse.audit("snapshot rollback", now.snapshot_id, {"holds": held})
    assert not is_behind(settings, checkpoint_id)
    assert change(comes_in)
    assert change("UPDATE evaluation_run SET kind = 'canary'")  # fewer than it was made of

    # A snapshot of a version that wrote down no such word is held to times.
    assert not change("UPDATE audit_log SET detail = NULL")
    assert change("UPDATE model_embedding SET embedded_at = now()")
    assert not change("UPDATE audit_log SET logged_at = now() WHERE action = 'snapshot rollback'")
    assert not change("UPDATE score_part SET merged_at = now()")
    assert change("UPDATE evaluation_run SET kind = 'x'")

    # Sealed, and killed before the gates saw it: nobody may go back to it.
    building = building_folder(settings.published)
    (building / "file").write_text("x")
    unseen = seal(building, {}, datetime.now(UTC))
    older = now.folder.with_name(f"2020{now.snapshot_id[4:]}")
    shutil.copytree(now.folder, older)
    half_written = settings.published / ".current-half"
    half_written.touch()
    heal_interrupted.fn(settings)
    assert not half_written.exists()
    assert not unseen.folder.exists()
    assert now.folder.is_dir()
    assert older.is_dir()
