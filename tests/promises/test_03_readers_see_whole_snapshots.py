"""Promise 3: readers see the old or the new snapshot, whole."""

import json
import logging
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from nights import ROOT, Pipeline, copy_of, published, snapshot

from locus.snapshots import Snapshot, all_snapshots, building_folder, make_current, seal

READERS = int(os.environ.get("LOCUS_READERS", "2"))
"""At the same time; `make test-load` has 50."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 if READERS <= 2 else 2400)]

log = logging.getLogger(__name__)

# Reads until its input ends, then says what it saw.
READER = """
import json, os, sys, threading
from pathlib import Path
import duckdb
from locus.snapshots import current, verify
published = Path(sys.argv[1])
os.nice(int(sys.argv[2]))
done = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
seen, faults, reads = set(), [], 0
print("ready", flush=True)
while not done.is_set():
    try:
        found = current(published)
        verify(found.folder, found.manifest_sha256)
        if (found.folder / "warehouse.duckdb").exists():
            with duckdb.connect(str(found.folder / "warehouse.duckdb"), read_only=True) as con:
                n = con.sql("SELECT count(*) FROM score").fetchall()[0][0]
            if n != found.manifest["counts"]["scores"]:
                faults.append(f"{found.snapshot_id}: {n} scores")
        seen.add(found.snapshot_id)
        reads += 1
    except Exception as error:
        faults.append(repr(error))
print(json.dumps({"seen": sorted(seen), "faults": faults, "reads": reads}))
"""


def small(pipeline: Pipeline, text: str) -> Snapshot:
    """A sealed snapshot with hardly anything in it."""
    building = building_folder(published(pipeline))
    (building / "summary.md").write_text(text)
    return seal(building, {"text": text}, datetime.now(UTC))


def test_readers_see_whole_snapshots(second_night: Pipeline, tmp_path: Path) -> None:
    night = copy_of(second_night, tmp_path / "night")
    # What is removed, and when, is another promise's; a slow reader may be at it.
    night.environment["LOCUS_KEEP_SNAPSHOTS"] = "100"
    # Many that do nothing but read would leave a few cores nothing to publish with.
    niceness = "0" if READERS <= 2 else "19"
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, published(night), niceness],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for _ in range(READERS)
    ]
    for reader in readers:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
    real = all_snapshots(published(night))
    for i in range(200):
        make_current(published(night), real[i % 2] if i % 4 else small(night, f"text {i}"))
    make_current(published(night), real[0])
    began = time.monotonic()
    run = night.locus("publish", timeout=240 if READERS <= 2 else 1200)
    assert run.returncode == 0, run.stderr
    took = time.monotonic() - began
    new = snapshot(night)
    said = [json.loads(reader.communicate()[0]) for reader in readers]
    log.info(
        "%d readers, %d reads; `locus publish` took %.0f s beside them",
        READERS, sum(one["reads"] for one in said), took,
    )  # fmt: skip
    for one in said:
        assert one["faults"] == []
        assert one["reads"] > (10 if READERS <= 2 else 0)
    seen = {name for one in said for name in one["seen"]}
    assert seen & {s.snapshot_id for s in real}
    assert new.snapshot_id not in {s.snapshot_id for s in real}
