"""Promise 13 again, in quantity: record, embed and publish killed at a thousand instants.

`LOCUS_SHORT_KILLS=1000` kills so often (`make test-kills`). Whole nights, models and imports are
killed in the file beside this one, which can't do it so often.
"""

import logging
import os
import random
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import ClassVar

import contents
import duckdb
import numpy as np
import pytest
from answered import AnsweredHome, MadeQueries
from short_loops import (
    ASKED,
    ENCODER,
    PER_PART,
    PHASES,
    REFERENCE,
    REVISION,
    Ended,
    Loop,
    Smith,
    answer,
    settings_of,
    smith,
)

from locus.snapshots import current, verify
from tasks.heal import heal_interrupted
from tasks.publish import publish_snapshot
from tasks.settings import Settings
from warehouse import contracts
from warehouse.store import Warehouse

log = logging.getLogger(__name__)

N_KILLS = int(os.environ.get("LOCUS_SHORT_KILLS", "10"))
SEED = int(os.environ.get("LOCUS_KILLS_SEED", "0"))
PER_HOME = 100
# How often a phase is aimed at; publishing takes the longest.
AIMS = {
    "starting": 1, "healing": 2, "recording": 6, "embedding": 4, "scoring": 2, "publishing": 6,
    "ending": 1,
}  # fmt: skip
N = 80
SPLITS = ("train", "train", "train", "val", "test")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 10 * N_KILLS)]

# Runs of which the warehouse has more or fewer scores than it was given.
_HALF_RUNS = """
SELECT run_id FROM (SELECT run_id, sum(n_rows) AS n FROM score_part GROUP BY ALL) AS given
FULL JOIN (SELECT run_id, count(*) AS n FROM score GROUP BY ALL) AS held USING (run_id)
WHERE given.n IS DISTINCT FROM held.n
"""
_HALF_PREDICTED = "SELECT model_id FROM prediction GROUP BY ALL HAVING count(*) <> ?"


class Home(AnsweredHome):
    """Three models that were imported, and a map of them; nothing of those that are asked."""

    queries: ClassVar[MadeQueries] = MadeQueries(
        ["sums", "rhymes"] * (N // 2),
        [SPLITS[q % len(SPLITS)] for q in range(N)],
        np.random.default_rng(0).normal(size=(N, 8)).astype(np.float32),
    )
    reference_queries: ClassVar[int] = REFERENCE

    @property
    def settings(self) -> Settings:
        return settings_of(self.home)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = Home(tmp_path_factory.mktemp("base") / "home")
    assert home.settings.encoder == ENCODER
    models = [f"org/imported-{n}" for n in range(3)]
    home.file(
        range(N), {m: np.array([answer(m, q) for q in range(N)], dtype=np.float32) for m in models}
    )
    with Warehouse.open(home.settings.warehouse) as w:
        known = [{"model_id": model, "source": "registry"} for model in ASKED]
        w.catalogue.add_models(contracts.build(contracts.ModelFrame, known))
    publish_snapshot.fn(home.settings, home.placed())
    return home.home


class Watched:
    """A home, and what was seen of it after each kill."""

    def __init__(self, home: Path, smith: Smith) -> None:
        self.home = home
        self._smith = smith
        self._left: set[Path] = set()
        self._snapshot_id = ""
        self.orphaned: set[int] = set()

    def run(self, loop: Loop) -> Ended:
        """Run a loop; what it leaves is whole, whether it was killed or not."""
        ended = self._smith.run(self.home, loop)
        assert not ended.said, ended.said
        self._look(self.home.with_name("looked-at"))
        now = current(self.home / "published")
        verify(now.folder, now.manifest_sha256)
        assert now.snapshot_id >= self._snapshot_id
        if now.snapshot_id > self._snapshot_id:
            self._snapshot_id = now.snapshot_id
            with duckdb.connect(str(now.folder / "warehouse.duckdb"), read_only=True) as con:
                assert_whole(con)
        left = _left_in(self.home)
        if PHASES.index(ended.phase) > PHASES.index("healing"):
            assert sorted(left & self._left) == [], "left by an earlier loop"
        self._left = left
        return ended

    def _look(self, folder: Path) -> None:
        """Look at a copy, so that the next run finds the warehouse as the dead one has left it."""
        folder.mkdir()
        for file in self.home.glob("warehouse.duckdb*"):
            shutil.copy(file, folder)
        with duckdb.connect(str(folder / "warehouse.duckdb")) as con:
            assert_whole(con)
            held = "SELECT token FROM run_lease WHERE released_at IS NULL"
            self.orphaned |= {token for (token,) in con.sql(held).fetchall()}
        shutil.rmtree(folder)

    def assert_same(self, other: Path) -> None:
        """Nothing is missing, double, other or left lying about."""
        assert self._left == set()
        assert list(self.home.glob("*.wal")) == []
        with duckdb.connect(str(self.home / "warehouse.duckdb"), read_only=True) as con:
            assert con.sql(
                "SELECT count(*) FROM evaluation_run WHERE status = 'running'"
            ).fetchall() == [(0,)]
            taken = "SELECT CAST(detail->>'token' AS BIGINT) - 1 FROM audit_log "
            taken += "WHERE action = 'take over'"
            assert {token for (token,) in con.sql(taken).fetchall()} == self.orphaned
        name = "warehouse.duckdb"
        assert contents.differences(
            contents.of_warehouse(self.home / name), contents.of_warehouse(other / name)
        ) == []  # fmt: skip
        here, there = current(self.home / "published"), current(other / "published")
        assert contents.differences(
            contents.of_snapshot(here.folder), contents.of_snapshot(there.folder)
        ) == []  # fmt: skip


def assert_whole(con: duckdb.DuckDBPyConnection) -> None:
    """No part is half there, no score is there twice, no model is half predicted."""
    assert con.sql(_HALF_RUNS).fetchall() == []
    asked = "SELECT model_id, query_id FROM score WHERE run_id IN (SELECT run_id FROM "
    asked += "evaluation_run WHERE kind = 'lm-eval')"
    held = con.sql(asked).fetchall()
    assert len(held) == len(set(held))
    place = {
        q: n for n, (q,) in enumerate(con.sql("SELECT query_id FROM query ORDER BY 1").fetchall())
    }
    parts = Counter((model, place[query] // PER_PART) for model, query in held)
    assert set(parts.values()) <= {PER_PART}
    assert con.execute(_HALF_PREDICTED, [REFERENCE]).fetchall() == []


def test_killed_in_short_loops(base: Path, tmp_path: Path) -> None:
    draw = random.Random(SEED)  # noqa: S311
    hit: Counter[str] = Counter()
    everything = Loop(parts=len(ASKED) * N)
    n_homes = n_loops = 0
    started = time.monotonic()
    with smith() as running:
        undisturbed = Watched(tmp_path / "undisturbed" / "home", running)
        shutil.copytree(base, undisturbed.home)
        assert not undisturbed.run(everything).killed
        while hit.total() < N_KILLS:
            home = Watched(tmp_path / f"killed-{n_homes}" / "home", running)
            shutil.copytree(base, home.home)
            n_homes += 1
            until = min(hit.total() + PER_HOME, N_KILLS)
            while hit.total() < until:
                n_loops += 1
                assert n_loops <= 3 * N_KILLS + 30, f"too few were hit: {hit}"
                (phase,) = draw.choices(list(AIMS), list(AIMS.values()))
                loop = Loop(draw.randint(0, 2), phase, draw.random())
                try:
                    ended = home.run(loop)
                except AssertionError as error:
                    error.add_note(
                        f"seed {SEED}, home {n_homes}, after {hit.total()} kills: {loop}"
                    )
                    raise
                hit[ended.phase] += ended.killed
            assert not home.run(everything).killed
            home.assert_same(undisturbed.home)
            shutil.rmtree(home.home.parent)
            log.info("%d kills so far: %s", hit.total(), dict(hit))
    seconds = time.monotonic() - started
    log.info(
        "%d kills in %d loops, %d homes and %.0f s: %s",
        hit.total(), n_loops, n_homes, seconds, dict(hit),
    )  # fmt: skip
    if N_KILLS >= 200:
        phases = ("recording", "embedding", "publishing")
        assert min(hit[phase] for phase in phases) >= N_KILLS / 10


def test_nothing_that_was_half_written_outlasts_the_next_loop(base: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(base, home)
    settings = settings_of(home)
    with Warehouse.open(settings.warehouse) as w:
        w.scores.start_run("killed", "lm-eval", ASKED[0], REVISION, {}, {}, None, PER_PART)
    for folder in ("published/snapshots/.building-x", "published/snapshots/.removing-x"):
        (home / folder).mkdir()
    (home / "runs" / "killed").mkdir(parents=True)
    files = (
        "published/.current-x", ".digests-x", ".last_night-x", ".pipeline-x",
        "runs/killed/.request-x",
    )  # fmt: skip
    for file in files:
        (home / file).touch()
    assert heal_interrupted.fn(settings) == 0
    assert _left_in(home) == set()
    with Warehouse.open(settings.warehouse) as w:
        assert w.scores.open_runs() == []


def _left_in(home: Path) -> set[Path]:
    """What writers and builders use until they are done."""
    return {path for path in home.rglob(".*") if path.suffix != ".lock"}
