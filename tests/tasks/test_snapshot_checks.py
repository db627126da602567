"""Damage a published snapshot in every file, seal it again, and see that it is found."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from answered import ENCODER, AnsweredHome, MadeQueries
from damages import CANNED, DAMAGES, DOC, TABLE, TENSORS, rows, sealed_again, write
from typer.testing import CliRunner

from flows.cli.app import app
from locus.publication import build as building_of
from locus.publication.checks import CheckFailedError, missing_since
from locus.snapshots import Snapshot, SnapshotError, current, make_current
from tasks import publish as publishing
from tasks.checks import check_built, check_snapshot
from tasks.publish import blocked_folder, is_blocked, publish_snapshot
from tasks.settings import Settings
from warehouse.store import Warehouse

N, MODELS = 200, [f"org/m{i}" for i in range(12)]
SPLITS = ("train", "train", "train", "val", "test")
RNG = np.random.default_rng(5)
KIND_Q = np.arange(N) % 2
PHI_Qp = RNG.normal(size=(N, 8)).astype(np.float32)
PHI_Qp[:, 0] += 3.0 * KIND_Q
REGISTRY = {
    "models": [
        {
            "id": f"org/m{i}",
            "backend": "local-chat-completions",
            "args": {"model": f"m{i}", "base_url": "http://127.0.0.1:9/v1/chat/completions"},
            "price_in_usd_per_mtok": i + 1.0,
            "price_out_usd_per_mtok": i + 1.0,
        }
        for i in range(3)
    ]
}


class World(AnsweredHome):
    """Twelve models, half of them good at one task, half at the other."""

    queries = MadeQueries(
        ["sums", "physics"] * (N // 2), [SPLITS[q // 2 % len(SPLITS)] for q in range(N)], PHI_Qp
    )
    reference_queries = N

    @property
    def settings(self) -> Settings:
        return super().settings.model_copy(update={"models_file": self.home / "models.yaml"})

    def fill(self, numbers: range) -> None:
        good = np.where(np.arange(len(MODELS))[:, None] % 2 == KIND_Q, 0.85, 0.3)
        y_MQ = (np.random.default_rng(6).random(good.shape) < good).astype(np.float32)
        self.file(numbers, dict(zip(MODELS, y_MQ, strict=True)))

    def publish(self) -> Snapshot:
        return publish_snapshot.fn(self.settings, self.placed())


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one snapshot."""
    world = World(tmp_path_factory.mktemp("checked") / "home")
    world.home.mkdir()
    (world.home / "models.yaml").write_text(yaml.safe_dump(REGISTRY))
    world.fill(range(N - 20))
    world.publish()
    return world.home


@pytest.fixture
def world(first: Path, tmp_path: Path) -> World:
    return World(Path(shutil.copytree(first, tmp_path / "home")))


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found(first: Path, tmp_path: Path, name: str) -> None:
    file, damage, said = DAMAGES[name]
    damaged = sealed_again(current(first / "published"), tmp_path, damage)
    with pytest.raises(CheckFailedError, match=said) as raised:
        check_snapshot(damaged)
    assert raised.value.file == file
    assert str(raised.value).startswith(f"snapshot {damaged.snapshot_id}: {file}: ")


def test_every_file_is_opened(first: Path) -> None:
    snapshot = current(first / "published")
    assert {one.file for one in check_snapshot(snapshot)} == set(snapshot.manifest["files"])
    canned = json.loads((snapshot.folder / CANNED).read_text())
    # Edge cases are among them, and what they were routed to says nothing of the router's form.
    features = np.array([query["features"] for query in canned["queries"]], np.float32)
    assert not features[[q["name"] == "nothing" for q in canned["queries"]]].any()
    assert all(len(query["choices"]) == 3 for query in canned["queries"])


def test_a_new_snapshot_has_all_files_and_no_other(first: Path, tmp_path: Path) -> None:
    snapshot = current(first / "published")
    older = sealed_again(snapshot, tmp_path, lambda folder: (folder / CANNED).unlink())
    # One that was published before there were canned queries is whole without them.
    assert CANNED not in {one.file for one in check_snapshot(older)}
    with pytest.raises(CheckFailedError, match=r"canned\.json: is missing"):
        check_built(older, None)
    more = sealed_again(snapshot, tmp_path, write("routing/notes.txt", "x"))
    with pytest.raises(CheckFailedError, match="a file that nobody checks"):
        check_built(more, None)
    schema = "routing/table.schema.json"
    loose = sealed_again(snapshot, tmp_path, write(schema, "{}"))
    with pytest.raises(CheckFailedError, match="not the schema of this version"):
        check_built(loose, None)
    assert missing_since(older, snapshot) == [f"file {CANNED} is gone"]
    fewer = rows(TABLE, lambda frame: frame.filter(pl.col("bucket") != "physics"))
    assert missing_since(sealed_again(snapshot, tmp_path, fewer), snapshot) == [
        "task 'physics' has no bucket any more"
    ]


def test_a_damaged_one_is_never_current(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    file, damage, _ = DAMAGES["a score is gone"]
    before = current(world.settings.published)
    checkpoint_id = world.placed()

    def damaging(content: Any, folder: Path) -> Any:
        facts = building_of.build(content, folder)
        damage(folder)
        return facts

    with monkeypatch.context() as patched:
        patched.setattr(publishing, "build", damaging)
        with pytest.raises(CheckFailedError, match="the old one stays") as raised:
            publish_snapshot.fn(world.settings, checkpoint_id)
    assert current(world.settings.published) == before
    with Warehouse.open(world.settings.warehouse) as warehouse:
        assert warehouse.snapshots.list()["snapshot_id"].to_list() == [before.snapshot_id]
    # It is kept beside, to be looked at, and the next run publishes though nothing is new.
    kept = blocked_folder(Snapshot("", before.folder.with_name(raised.value.snapshot_id), {}, ""))
    assert str(kept) in str(raised.value)
    said = json.loads((kept / "checks.json").read_text())
    assert said["file"] == raised.value.file == file
    assert is_blocked(world.settings.published)
    after = publish_snapshot.fn(world.settings, checkpoint_id)
    assert current(world.settings.published) == after
    assert not is_blocked(world.settings.published)


def test_scores_that_come_in_meanwhile_are_for_the_next_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def imported_meanwhile(content: Any, folder: Path) -> Any:
        world.fill(range(N - 20, N))
        return building_of.build(content, folder)

    checkpoint_id = world.placed()
    with monkeypatch.context() as patched:
        patched.setattr(publishing, "build", imported_meanwhile)
        snapshot = publish_snapshot.fn(world.settings, checkpoint_id)
    assert snapshot.manifest["counts"]["scores"] == len(MODELS) * (N - 20)
    # Counted by the check of the copy, too, or it had not been published.
    assert current(world.settings.published) == snapshot


def test_by_the_command_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    config = world.home.parent / "locus.toml"
    config.write_text(f'home = "home"\nencoder = "{ENCODER}"\n')
    monkeypatch.setenv("LOCUS_CONFIG", str(config))
    run = CliRunner()
    now = current(world.settings.published)
    found = run.invoke(app, ["snapshots", "check"])
    assert found.exit_code == 0, found.exception
    assert f"snapshot {now.snapshot_id} is whole" in found.stdout
    assert "14 queries routed as when it was built" in found.stdout
    damaged = sealed_again(now, world.settings.published, DAMAGES["another best"][1])
    listed = run.invoke(app, ["snapshots", "check", damaged.snapshot_id, "--format", "json"])
    assert listed.exit_code == 1
    assert isinstance(listed.exception, SnapshotError)
    assert f"{damaged.snapshot_id}: {DOC}: best of bucket 'sums'" in str(listed.exception)
    # The current one is whole still; bytes count there too.
    rows_of = json.loads(run.invoke(app, ["snapshots", "check", "--format", "json"]).stdout)
    assert {row["file"] for row in rows_of} == set(now.manifest["files"])
    (now.folder / TENSORS).write_text("x")
    make_current(world.settings.published, now)
    changed = run.invoke(app, ["snapshots", "check"])
    assert "tensors.tsv has changed since it was sealed" in str(changed.exception)
