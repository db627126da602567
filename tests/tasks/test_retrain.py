"""Retraining in shadow on a real warehouse with real maps: promoted, turned down, rolled back."""

import multiprocessing
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from answered import ENCODER, AnsweredHome, MadeQueries

from locus import shadow
from locus.bank import Array
from locus.embedding import checkpoint
from locus.snapshots import Snapshot
from tasks import retrain
from tasks.embed import read_training, train_if_needed
from tasks.publish import publish_snapshot
from tasks.retrain import (
    PromotionRefusedError,
    Retrained,
    UnknownCheckpointError,
    is_published,
    promote_by_hand,
    remove_orphans,
    retrain_map,
    roll_back,
)
from tasks.settings import TrainingSettings
from warehouse.store import Warehouse

pytestmark = pytest.mark.slow

N_MODELS, N_TRAIN, N_VAL, N_TEST, N_EXTRA = 40, 240, 60, 40, 60
OLD_MODELS = range(24)
LITTLE, ALL_TRAIN = range(50), range(N_TRAIN)
VAL = range(N_TRAIN, N_TRAIN + N_VAL)
TEST = range(N_TRAIN + N_VAL, N_TRAIN + N_VAL + N_TEST)
EXTRA = range(N_TRAIN + N_VAL + N_TEST, N_TRAIN + N_VAL + N_TEST + N_EXTRA)
KINDS = ("sums", "words")


@dataclass(frozen=True)
class Truth:
    """Who answers what: models with three abilities, queries that ask for them."""

    phi_Qp: Array
    p_MQ: Array
    y_MQ: Array

    @classmethod
    def draw(cls, seed: int = 0) -> "Truth":
        rng = np.random.default_rng(seed)
        n = EXTRA.stop
        phi = rng.normal(size=(n, 8)).astype(np.float32)
        asked = phi @ rng.normal(size=(8, 4)) / 2 + 0.5 * rng.normal(size=(n, 4))
        logits = 1.5 * rng.normal(size=(N_MODELS, 3)) @ asked[:, :3].T + asked[:, 3]
        p = (1 / (1 + np.exp(-logits))).astype(np.float32)
        return cls(phi, p, (rng.random(p.shape) < p).astype(np.float32))

    def queries(self) -> MadeQueries:
        numbers = range(EXTRA.stop)
        return MadeQueries(
            ["extra" if q in EXTRA else KINDS[q % 2] for q in numbers],
            ["val" if q in VAL else "test" if q in TEST else "train" for q in numbers],
            self.phi_Qp,
        )


TRUTH = Truth.draw()


class World(AnsweredHome):
    """A home whose map is trained anew."""

    queries = TRUTH.queries()
    reference_queries = 80

    def fill(
        self,
        *queries: range,
        models: range = range(N_MODELS),
        y_MQ: Array = TRUTH.y_MQ,
        copies: int = 1,
    ) -> None:
        """Import answers of models to queries, and file the queries' encodings.

        Args:
            queries: numbers of queries.
            models: numbers of models.
            y_MQ: the answers.
            copies: how many models answer like each; four models an organisation.
        """
        self.file(
            [q for part in queries for q in part],
            {f"org{m // 4}{'abc'[c]}/m{m}": y_MQ[m] for m in models for c in range(copies)},
        )

    def first_map(self) -> str:
        made, new = train_if_needed.fn(self.settings)
        assert new
        return made

    def publish(self) -> Snapshot:
        """The usual path, from the active map to what readers see."""
        return publish_snapshot.fn(self.settings, self.placed())

    def retrain(self, force: bool = False, dry_run: bool = False) -> Retrained:
        return retrain_map.fn(self.settings, force, dry_run)

    def active(self) -> str:
        with Warehouse.open(self.settings.warehouse) as w:
            row = w.checkpoints.active()
        assert row is not None
        return str(row["checkpoint_id"])

    def decisions(self) -> list[tuple[str, str, str | None, bool]]:
        with Warehouse.open(self.settings.warehouse) as w:
            made = w.checkpoints.decisions()
        return [(d["kind"], d["candidate"], d["active"], d["promoted"]) for d in made]

    def folders(self) -> set[str]:
        return {folder.name for folder in self.settings.checkpoints.iterdir()}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "home")


@pytest.fixture(scope="module")
def small_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map of few queries and some models, published."""
    world = World(tmp_path_factory.mktemp("small") / "home")
    world.fill(LITTLE, VAL, TEST, models=OLD_MODELS)
    world.first_map()
    world.publish()
    return world.home


@pytest.fixture(scope="module")
def retrained_home(small_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with five times the queries and more models, retrained."""
    home = tmp_path_factory.mktemp("retrained") / "home"
    shutil.copytree(small_home, home)
    world = World(home)
    world.fill(ALL_TRAIN, VAL, TEST)
    assert world.retrain().promoted
    return home


@pytest.fixture
def small(small_home: Path, tmp_path: Path) -> World:
    return World(Path(shutil.copytree(small_home, tmp_path / "home")))


@pytest.fixture
def retrained(retrained_home: Path, tmp_path: Path) -> World:
    return World(Path(shutil.copytree(retrained_home, tmp_path / "home")))


def test_more_data_wins_and_is_recorded(small: World) -> None:
    first = small.active()
    assert small.decisions() == [("first", first, None, True)]
    assert "no score is new since the active map" in small.retrain().reason
    small.fill(ALL_TRAIN, VAL, TEST)
    rehearsed = small.retrain(dry_run=True)
    assert rehearsed.promoted
    assert (small.active(), small.folders(), len(small.decisions())) == (first, {first}, 1)
    outcome = small.retrain()
    assert outcome.promoted
    assert outcome.candidate is not None
    assert "predicts better" in outcome.reason
    # Neither the time of training nor a rehearsal is part of what is compared.
    assert (outcome.known, outcome.unseen) == (rehearsed.known, rehearsed.unseen)
    assert small.active() == outcome.candidate
    assert small.folders() == {first, outcome.candidate}
    assert small.decisions()[0] == ("retrain", outcome.candidate, first, True)
    assert outcome.known is not None
    assert (outcome.known.n_models, outcome.known.n_queries) == (N_MODELS, N_VAL)
    assert outcome.unseen is None  # 16 models x 60 queries are less than a thousand answers
    with Warehouse.open(small.settings.warehouse) as w:
        recorded = w.checkpoints.decisions(outcome.candidate)[0]
        row = w.checkpoints.get(outcome.candidate)
    assert recorded["metrics"]["known_models"] == outcome.known.to_dict()
    assert recorded["reason"] == outcome.reason
    assert row is not None
    assert (row["parent"], row["n_models"], row["n_queries"]) == (first, N_MODELS, N_TRAIN)
    again = small.retrain()
    assert (again.candidate, len(small.decisions())) == (None, 2)
    forced = small.retrain(force=True)
    assert forced.candidate is not None
    assert not forced.promoted
    assert small.active() == outcome.candidate


def test_models_that_came_later_are_judged_by_twins_without_them(small: World) -> None:
    small.fill(LITTLE, VAL, models=range(len(OLD_MODELS), N_MODELS))
    few = small.retrain(dry_run=True)
    assert few.unseen is None  # 16 models x 60 queries are less than a thousand answers
    small.fill(LITTLE, VAL, models=range(len(OLD_MODELS), N_MODELS), copies=3)
    many = small.retrain(dry_run=True)
    assert many.unseen is not None
    assert many.known is not None
    assert many.unseen.n_models == 3 * 16
    assert many.known.n_models == len(OLD_MODELS) + 3 * 16
    # Twins are other maps than the candidate: they have not learned from these models.
    assert many.unseen.measures["bce"].candidate != many.known.measures["bce"].candidate


@pytest.mark.parametrize("spoiled", ["train", "everything"])
def test_spoiled_scores_are_turned_down(retrained: World, spoiled: str) -> None:
    good = retrained.active()
    rng = np.random.default_rng(1)
    y_MQ = TRUTH.y_MQ.copy()
    whole = slice(0, TEST.stop) if spoiled == "everything" else slice(0, N_TRAIN)
    part = y_MQ[:, whole]
    y_MQ[:, whole] = rng.permuted(part.ravel()).reshape(part.shape)
    retrained.fill(ALL_TRAIN, VAL, TEST, y_MQ=y_MQ)
    outcome = retrained.retrain()
    assert outcome.candidate is not None
    assert not outcome.promoted
    assert "mean score" in outcome.reason
    assert retrained.active() == good
    assert retrained.decisions()[0] == ("retrain", outcome.candidate, good, False)
    # Turned down, it isn't trained again for the same scores; nor is it lost.
    assert "no score is new since the last candidate" in retrained.retrain().reason
    assert promote_by_hand(retrained.settings, outcome.candidate[:12]) == outcome.candidate


def test_equal_maps_change_over_only_for_knowing_more(
    retrained: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Sixty validation queries tell maps apart less finely than the margin asks.
    monkeypatch.setattr(shadow, "MARGIN", 0.02)
    good = retrained.active()
    anew = TRUTH.y_MQ.copy()
    rng = np.random.default_rng(2)
    flipped = rng.random((N_MODELS, N_TRAIN)) < 0.01
    anew[:, :N_TRAIN] = np.where(flipped, 1 - anew[:, :N_TRAIN], anew[:, :N_TRAIN])
    retrained.fill(ALL_TRAIN, y_MQ=anew)
    same = retrained.retrain()
    assert not same.promoted
    assert "nor does it know much more" in same.reason
    assert retrained.active() == good
    retrained.fill(ALL_TRAIN, VAL, models=range(4), y_MQ=anew, copies=2)
    assert "nor does it know much more" in retrained.retrain().reason
    retrained.fill(ALL_TRAIN, VAL, models=range(8), y_MQ=anew, copies=2)
    more = retrained.retrain()
    assert more.promoted
    assert "20% more models (40 -> 48)" in more.reason
    assert retrained.active() == more.candidate


def test_a_query_is_known_by_the_answers_of_eight_models(small: World) -> None:
    known = []
    for n in (7, 8):
        small.fill(EXTRA, models=range(n))
        with Warehouse.open(small.settings.warehouse) as w:
            known.append(read_training(w, ENCODER).learned_from().queries)
    assert known == [{"sums": 25, "words": 25}, {"extra": 60, "sums": 25, "words": 25}]


def test_answers_to_test_queries_decide_nothing(small: World) -> None:
    small.fill(ALL_TRAIN, VAL)
    before = small.retrain(dry_run=True)
    small.fill(TEST, y_MQ=1 - TRUTH.y_MQ)
    after = small.retrain(dry_run=True)
    assert before.known == after.known
    assert before.reason == after.reason


def test_rollback_brings_back_places_predictions_and_publication(retrained: World) -> None:
    settings, new = retrained.settings, retrained.active()
    old = retrained.decisions()[-1][1]
    assert is_published(settings, old)
    assert retrained.publish().manifest["lineage"]["checkpoint_id"] == new
    assert is_published(settings, new)
    with Warehouse.open(settings.warehouse) as w:
        by_new = w.vectors.embeddings(new)
    assert roll_back(settings) == old == retrained.active()
    assert retrained.decisions()[0] == ("rollback", old, new, True)
    assert retrained.publish().manifest["lineage"]["checkpoint_id"] == old
    with Warehouse.open(settings.warehouse) as w:
        by_old, by_new_now = w.vectors.embeddings(old), w.vectors.embeddings(new)
        predicted = w.vectors.predictions(old)
    # All models are on the old map, those that it had not learned from as well.
    assert by_old["model_id"].to_list() == by_new["model_id"].to_list()
    assert predicted["model_id"].n_unique() == N_MODELS
    assert by_new_now.equals(by_new)
    # What was rolled back from does not come back by itself while nothing has changed.
    assert "no score is new" in retrained.retrain().reason
    with pytest.raises(PromotionRefusedError, match="none was active before"):
        roll_back(settings)
    assert promote_by_hand(settings, new) == new
    assert retrained.decisions()[0] == ("by hand", new, old, True)
    assert roll_back(settings) == old


def test_what_cannot_be_used_is_not_promoted(retrained: World) -> None:
    settings, active = retrained.settings, retrained.active()
    old = retrained.decisions()[-1][1]
    before = retrained.decisions()
    with pytest.raises(PromotionRefusedError, match="is the active one already"):
        promote_by_hand(settings, active)
    with pytest.raises(UnknownCheckpointError, match=r"'x' is no checkpoint; there are: \w{16}"):
        promote_by_hand(settings, "x")
    with pytest.raises(UnknownCheckpointError, match="could be any of 2"):
        promote_by_hand(settings, "")
    other = settings.model_copy(update={"encoder": "another/encoder"})
    with pytest.raises(PromotionRefusedError, match=r"set `encoder` \(and .*locus\.toml back"):
        promote_by_hand(other, old)
    weights = settings.checkpoints / old / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(PromotionRefusedError, match=r"active one stays.*has changed since"):
        promote_by_hand(settings, old)
    with pytest.raises(PromotionRefusedError, match=r"active one stays.*has changed since"):
        roll_back(settings)
    shutil.rmtree(settings.checkpoints / old)
    with pytest.raises(PromotionRefusedError, match=r"active one stays.*can't be read"):
        roll_back(settings)
    assert (retrained.active(), retrained.decisions()) == (active, before)


def test_too_little_or_no_map_trains_nothing(world: World) -> None:
    world.fill(LITTLE, range(N_TRAIN, N_TRAIN + 40), models=OLD_MODELS)
    assert "no map for 'some/encoder' to compare with" in world.retrain().reason
    first = world.first_map()
    world.fill(ALL_TRAIN, models=OLD_MODELS)
    outcome = world.retrain(force=True)
    assert "960 validation answers of 24 models to 40 queries" in outcome.reason
    assert "at least 1000 of 8 models to 50 queries" in outcome.reason
    assert outcome.headline().startswith("nothing trained")
    assert (world.folders(), len(world.decisions())) == ({first}, 1)
    other = world.settings.model_copy(update={"encoder": "another/encoder"})
    assert "no map for 'another/encoder'" in retrain_map.fn(other).reason


def test_a_damaged_active_map_is_told_and_replaced_if_asked(small: World) -> None:
    small.fill(ALL_TRAIN, VAL)
    first = small.active()
    (small.settings.checkpoints / first / "config.json").unlink()
    with pytest.raises(checkpoint.CheckpointError, match=r"can't be read.*retrain --force"):
        small.retrain()
    assert len(small.decisions()) == 1
    outcome = small.retrain(force=True)
    assert (outcome.promoted, outcome.known) == (True, None)
    assert "the active map can't be read" in outcome.reason
    assert small.publish().manifest["lineage"]["checkpoint_id"] == outcome.candidate
    with pytest.raises(PromotionRefusedError, match="can't be read"):
        roll_back(small.settings)


def test_candidates_turned_down_are_kept_for_a_while(
    small: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrain, "KEPT_REJECTED", 1)
    first = small.active()
    made = []
    for seed in (1, 2, 3):
        other = small.settings.model_copy(update={"training": TrainingSettings(seed=seed)})
        outcome = retrain_map.fn(other, force=True)
        assert not outcome.promoted
        made.append(outcome.candidate)
    assert small.folders() == {first, made[-1]}
    with Warehouse.open(small.settings.warehouse) as w:
        assert w.checkpoints.list().height == 4
    with pytest.raises(PromotionRefusedError, match="can't be read"):
        promote_by_hand(small.settings, str(made[0]))


def _retrain_in(home: Path) -> None:
    os.environ["PREFECT_LOGGING_TO_API_ENABLED"] = "false"
    retrain_map.fn(World(home).settings)


def test_killed_between_saving_and_recording(small: World) -> None:
    small.fill(ALL_TRAIN, VAL, TEST)
    first = small.active()
    process = multiprocessing.get_context("spawn").Process(target=_retrain_in, args=(small.home,))
    process.start()
    assert process.pid is not None
    # The checkpoint is there before maps are compared, its row only after that.
    while not any(len(n) == 64 and n != first for n in small.folders()):
        assert process.is_alive(), "ended by itself"
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (orphan,) = small.folders() - {first}
    # Nothing but a folder: everything else is as before, and works.
    assert (small.active(), len(small.decisions())) == (first, 1)
    small.publish()
    assert is_published(small.settings, first)
    outcome = small.retrain()
    assert outcome.promoted
    assert outcome.candidate is not None
    assert small.folders() - {orphan} == {first, outcome.candidate}
    assert orphan == outcome.candidate or orphan not in small.folders()


def test_what_is_published_is_no_orphan(small: World) -> None:
    """A warehouse restored from before the promotion: readers still use the newer checkpoint."""
    backup = small.home.parent / "backup.duckdb"
    shutil.copy(small.settings.warehouse, backup)
    small.fill(ALL_TRAIN, VAL, TEST)
    assert small.retrain().promoted
    newer = small.active()
    small.publish()
    shutil.copy(backup, small.settings.warehouse)
    assert small.active() != newer
    (small.settings.checkpoints / ("0" * 64)).mkdir()
    assert remove_orphans(small.settings) == ["0" * 64]
    assert newer in small.folders()
