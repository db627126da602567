"""A small home with everything in it: answers, a part, a map, two snapshots, a registry."""

import shutil
from datetime import datetime
from pathlib import Path
from typing import ClassVar

import numpy as np
from answered import AnsweredHome, MadeQueries

from locus.evaluation.parts import write_part
from locus.snapshots import Snapshot, building_folder, current, make_current, seal
from tasks.doctor import Finding, State, diagnose
from tasks.publish import publish_snapshot
from tasks.record import record_parts
from tasks.settings import Settings
from warehouse.connection import now
from warehouse.store import Warehouse

N = 60
SPLITS = ("train", "train", "train", "val", "test")
RNG = np.random.default_rng(0)
_SEALED = {"schema_version", "snapshot_id", "created_at", "files"}
MODELS = ("org/a", "org/b", "org/c")
REGISTRY = """\
models:
- id: org/a
  backend: local-chat-completions
  args: {model: large, base_url: "http://127.0.0.1:9/v1/chat/completions"}
"""


class KeptHome(AnsweredHome):
    """A home of three models, and what a night does to it without Prefect."""

    queries: ClassVar[MadeQueries] = MadeQueries(
        ["sums", "rhymes"] * (N // 2),
        [SPLITS[q % len(SPLITS)] for q in range(N)],
        RNG.normal(size=(N, 8)).astype(np.float32),
    )
    reference_queries: ClassVar[int] = N

    @property
    def settings(self) -> Settings:
        registry = self.home.parent / "models.yaml"
        return super().settings.model_copy(update={"models_file": registry})

    def ask(self, run_id: str, model: str, numbers: range, *, record: bool = True) -> Path:
        """A model answers queries; its part is recorded and the run ended, or left as by a kill."""
        with Warehouse.open(self.settings.warehouse) as w:
            ids = sorted(q for q, number in self.ids(w).items() if number in numbers)
            w.scores.start_run(run_id, "lm-eval", model, "r", {}, {}, None, len(ids))
            rows = [
                {"model_id": model, "revision": "r", "query_id": q, "status": "ok", "score": 1.0,
                 "metric": "acc", "filter": "none", "scored_at": now()}
                for q in ids
            ]  # fmt: skip
            part = self.settings.parts / "model" / f"{run_id}.parquet"
            write_part(rows, part)
            if record:
                assert record_parts(w, run_id, [part]) == (len(ids), None)
                w.scores.finish_run(run_id, "finished")
        return part

    def publish(self) -> Snapshot:
        """Place every model by the active map, and publish."""
        return publish_snapshot.fn(self.settings, self.placed())

    def publish_again(self, at: datetime) -> Snapshot:
        """Publish the current snapshot's files once more, as of another time."""
        published = self.settings.published
        old = current(published)
        building = building_folder(published)
        shutil.copytree(old.folder, building, dirs_exist_ok=True)
        (building / "manifest.json").unlink()
        facts = {k: v for k, v in old.manifest.items() if k not in _SEALED}
        snapshot = seal(building, {**facts, "parent": old.snapshot_id}, at)
        with Warehouse.open(self.settings.warehouse) as w:
            w.snapshots.add(
                {
                    "snapshot_id": snapshot.snapshot_id,
                    "created_at": at,
                    "manifest_sha256": snapshot.manifest_sha256,
                    "n_models": 3,
                    "n_queries": N,
                    "n_scores": 3 * N,
                }
            )
            w.audit("publish", snapshot.snapshot_id)
        make_current(published, snapshot)
        return snapshot

    def doctor(self, **at: datetime) -> dict[str, list[Finding]]:
        """What is not as it should be, by item."""
        found: dict[str, list[Finding]] = {}
        for one in diagnose(self.settings, at.get("now", now())):
            if one.state is not State.ok:
                found.setdefault(one.item, []).append(one)
        return found


def make_home(folder: Path) -> KeptHome:
    """Fill a new folder: `home/`, and beside it `models.yaml` and `locus.toml`."""
    made = KeptHome(folder / "home")
    made.file(range(N), {name: RNG.integers(0, 2, N).astype(np.float32) for name in MODELS})
    (folder / "models.yaml").write_text(REGISTRY)
    (folder / "locus.toml").write_text(
        f'home = "home"\nencoder = "some/encoder"\nreference_queries = {N}\n'
    )
    made.ask("run-a", "org/a", range(20))
    made.publish()
    made.publish_again(now())
    return made
