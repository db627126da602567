"""Retrain: a candidate in the shadow of the active map, compared, then promoted or turned down.

Belongs here: training, comparing and recording, and which checkpoint is the active one. Does not:
the rule (`locus.shadow`); placing and publishing by the new map, which is the usual path. Callers
hold the pipeline's lock.
"""

import logging
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from locus import shadow
from locus.bank import Array
from locus.embedding import checkpoint
from locus.embedding.maps import ModelMap
from locus.shadow import Comparison, Decision, LearnedFrom
from tasks.embed import NotEnoughScoresError, Training, learn, read_training, save_map
from tasks.lineage import git_sha
from tasks.publish import parent_snapshot
from tasks.settings import Settings
from warehouse.store import Warehouse

log = logging.getLogger("locus.pipeline")

KEPT_REJECTED = 3
"""Candidates turned down whose files are kept, so that one can still be promoted by hand."""

_ID = re.compile(r"[0-9a-f]{64}")


class UnknownCheckpointError(ValueError):
    """No checkpoint, or more than one, goes by that name; the message says which there are."""


class PromotionRefusedError(RuntimeError):
    """A checkpoint can't become the active one; the message says why and what to do."""


@dataclass(frozen=True)
class Retrained:
    """What came of it.

    Attributes:
        reason: in words, whatever it was.
        active: checkpoint that was active before; None if there was none.
        candidate: the candidate; None if none was trained.
        promoted: whether it became the active one (would, in a dry run).
        known: both maps on all models; None if nothing was compared.
        unseen: both maps on models that neither learned from; None where there are too few.
        dry_run: nothing was kept.
    """

    reason: str
    active: str | None = None
    candidate: str | None = None
    promoted: bool = False
    known: Comparison | None = None
    unseen: Comparison | None = None
    dry_run: bool = False

    def headline(self) -> str:
        """The outcome in one line."""
        if self.candidate is None:
            return f"nothing trained: {self.reason}"
        verb = "promoted" if self.promoted else "turned down"
        if self.dry_run:
            return f"dry run: a candidate would be {verb}: {self.reason}"
        return f"{verb} {self.candidate[:16]}: {self.reason}"


@task(name="retrain", cache_policy=NO_CACHE)
def retrain_map(settings: Settings, force: bool = False, dry_run: bool = False) -> Retrained:
    """Train a candidate on what is stored now, compare it with the active map, decide, record.

    Nothing is trained where there is no map to compare with, where no score is new since the
    active map or the last candidate was trained, or where there is too little to judge by.

    Args:
        settings: the pipeline's settings.
        force: train although no score is new, or although the active map can't be read.
        dry_run: train, compare and say; keep and record nothing.

    Raises:
        CheckpointError: the active checkpoint is damaged, and this is not forced.
    """
    identity = settings.encoder_identity
    if not dry_run:
        remove_orphans(settings)
    with Warehouse.open(settings.warehouse) as warehouse:
        active = warehouse.checkpoints.active()
        if active is None or active["encoder"] != identity:
            return Retrained(
                f"there is no map for {identity!r} to compare with yet; `locus run nightly` or "
                "`locus publish` makes the first"
            )
        active_id = str(active["checkpoint_id"])
        if not force and (why := _nothing_new(warehouse, active, settings)):
            return Retrained(why, active_id)
        try:
            data = read_training(warehouse, identity)
        except NotEnoughScoresError as error:
            return Retrained(str(error), active_id)
    if why := shadow.too_little(data.val.values_MQ):
        return Retrained(why, active_id)
    loaded = _active(settings, active_id, identity, force)
    learned = learn(data, settings.training)
    with _folder(settings, dry_run) as folder:
        row = save_map(settings, identity, data, learned, active=active_id, folder=folder)
        candidate_id = str(row["checkpoint_id"])
        # Read back: what is compared is what would be in use.
        candidate = checkpoint.load(folder / candidate_id, identity)
    decision, metrics, known, unseen = _judge(settings, identity, data, loaded, candidate.map)
    if not dry_run:
        with Warehouse.open(settings.warehouse) as warehouse, warehouse.transaction():
            warehouse.checkpoints.add(row, activate=False)
            warehouse.checkpoints.decide(
                "retrain",
                candidate_id,
                decision.promote,
                decision.reason,
                metrics=metrics,
                git_sha=git_sha(),
            )
        _forget_rejected(settings)
    outcome = Retrained(
        decision.reason, active_id, candidate_id, decision.promote, known, unseen, dry_run
    )
    log.info("%s", outcome.headline())
    return outcome


def _nothing_new(warehouse: Warehouse, active: dict[str, Any], settings: Settings) -> str | None:
    """Why there is nothing to learn anew; None if there is.

    The last candidate counts as well: turned down, it would be again; rolled back from, it must
    not come back before something has changed.
    """
    digest, method = warehouse.checkpoints.training_digest(), settings.training.method
    past = [(active, f"the active map ({active['checkpoint_id'][:16]})")]
    for made in warehouse.checkpoints.decisions():
        if made["kind"] == "retrain":
            row = warehouse.checkpoints.get(made["candidate"])
            if row is not None and made["active"] == active["checkpoint_id"]:
                past.append((row, f"the last candidate ({made['decided_at']:%Y-%m-%d})"))
            break
    for row, name in past:
        config = row["config"] or {}
        if (config.get("scores_digest"), config.get("method")) == (digest, method):
            return f"no score is new since {name} was trained; --force trains all the same"
    return None


def _active(
    settings: Settings, active_id: str, identity: str, force: bool
) -> checkpoint.Checkpoint | None:
    """The active checkpoint; None if it can't be read and is to be replaced all the same."""
    try:
        return checkpoint.load(settings.checkpoints / active_id, identity)
    except checkpoint.CheckpointError as error:
        if not force:
            raise checkpoint.CheckpointError(
                f"{error}. Or: `locus retrain --force` replaces it, `locus checkpoints rollback` "
                "goes back to the one before"
            ) from error
        log.warning("the active checkpoint is to be replaced: %s", error)
        return None


@contextmanager
def _folder(settings: Settings, dry_run: bool) -> Iterator[Path]:
    """Where the candidate's checkpoint is written; gone afterwards in a dry run."""
    if not dry_run:
        yield settings.checkpoints
        return
    settings.checkpoints.mkdir(parents=True, exist_ok=True)
    # Named as a half-built one: whoever heals after a kill removes it.
    with tempfile.TemporaryDirectory(prefix=".building-", dir=settings.checkpoints) as folder:
        yield Path(folder)


def _judge(
    settings: Settings,
    identity: str,
    data: Training,
    active: checkpoint.Checkpoint | None,
    candidate: ModelMap,
) -> tuple[Decision, dict[str, Any], Comparison | None, Comparison | None]:
    """Decision, what is recorded with it, and both comparisons."""
    seed = settings.training.seed
    y_MT = data.val.values_MQ
    candidate_MT = _predicted(candidate, identity, data)
    means_MT = np.broadcast_to(shadow.own_means(data.train.values_MQ)[:, None], y_MT.shape)
    over_means = shadow.compare(means_MT.astype(np.float32), candidate_MT, y_MT, seed)
    known, unseen, why, known_by_active = None, None, "the active map can't be read", None
    if active is not None:
        known_by_active = LearnedFrom.from_facts(active.facts)
        active_MT = _predicted(active.map, identity, data)
        known = shadow.compare(active_MT, candidate_MT, y_MT, seed)
        unseen, why = _on_unseen(settings, identity, data, active_MT, known_by_active)
    more = shadow.knows_more(known_by_active, data.learned_from())
    decision = shadow.decide(known, over_means.measures["bce"], unseen, more)
    metrics = {
        "known_models": known.to_dict() if known else {"not_measured": why},
        # The first of the two is not the active map here.
        "over_means": {
            "means" if name == "active" else name: value
            for name, value in over_means.measures["bce"].to_dict().items()
        },
        "unseen_models": unseen.to_dict() if unseen else {"not_measured": why},
        "knows_more": more,
        "margin": shadow.MARGIN,
        "split": "val",
    }
    return decision, metrics, known, unseen


def _on_unseen(
    settings: Settings,
    identity: str,
    data: Training,
    active_MT: Array,
    known_by_active: LearnedFrom | None,
) -> tuple[Comparison | None, str]:
    """Both maps on models that came after the active one, each left out of a candidate's twin.

    Returns:
        The comparison; or None, and why there is none.
    """
    if known_by_active is None:
        return None, "the active checkpoint does not say which models it learned from"
    if settings.training.method == "attention":
        return None, "a twin of the attention kind takes too long to train"
    before = set(known_by_active.models)
    new = [i for i, model in enumerate(data.train.models) if model not in before]
    if shadow.too_little(data.val.values_MQ[new]):
        return None, f"{len(new)} models with too few answers came after the active checkpoint"
    twin_MT = np.full_like(active_MT, 0.5)
    for fold in range(shadow.FOLDS):
        rows = [i for i in new if shadow.fold_of(data.train.models[i]) == fold]
        if rows:
            left_out = {data.train.models[i] for i in rows}
            twin = learn(data.without(left_out), settings.training).map
            twin_MT[rows] = _predicted(twin, identity, data, rows)
    pick = np.array(new)
    y_MT = data.val.values_MQ[pick]
    return shadow.compare(active_MT[pick], twin_MT[pick], y_MT, settings.training.seed), ""


def _predicted(
    model_map: ModelMap, identity: str, data: Training, rows: list[int] | None = None
) -> Array:
    """P(correct) of models on the validation queries by a map that places them itself, [M, V].

    Placed by all their training scores, and predicted, as the pipeline does it.

    Args:
        model_map: the map.
        identity: of the sentence encoder.
        data: scores and features.
        rows: models; all by default.
    """
    values = data.train.values_MQ if rows is None else data.train.values_MQ[rows]
    placed = model_map.embed(data.train.queries, data.train_x, values)
    p_TM = model_map.predictor(identity).probabilities(placed.z_Md, data.val_x)
    return np.ascontiguousarray(p_TM.T)


def remove_orphans(settings: Settings) -> list[str]:
    """Remove checkpoints' folders that no row names: a run was killed before it recorded them.

    One that the published snapshot was made by stays, whatever the warehouse says: readers use it.

    Returns:
        Ids of the checkpoints removed.
    """
    if not settings.checkpoints.is_dir():
        return []
    with Warehouse.open(settings.warehouse) as warehouse:
        recorded = set(warehouse.checkpoints.list()["checkpoint_id"])
    orphans = [
        folder.name
        for folder in sorted(settings.checkpoints.iterdir())
        if _ID.fullmatch(folder.name) and folder.name not in recorded | _published(settings)
    ]
    for name in orphans:
        shutil.rmtree(settings.checkpoints / name)
        log.warning("removed checkpoint %s: the run that made it was killed", name[:16])
    return orphans


def _published(settings: Settings) -> set[str]:
    """The checkpoint of the current snapshot."""
    snapshot = parent_snapshot(settings.published)
    return {str(snapshot.manifest["lineage"]["checkpoint_id"])} if snapshot else set()


def is_published(settings: Settings, checkpoint_id: str) -> bool:
    """Whether what is published was made by this checkpoint."""
    return checkpoint_id in _published(settings)


def _forget_rejected(settings: Settings) -> None:
    """Remove files of candidates turned down, but for the newest; their rows stay."""
    with Warehouse.open(settings.warehouse) as warehouse:
        made, active = warehouse.checkpoints.decisions(), warehouse.checkpoints.active()
    used = {one["candidate"] for one in made if one["promoted"]} | _published(settings)
    used |= {str(active["checkpoint_id"])} if active else set()
    rejected = [one["candidate"] for one in made if one["candidate"] not in used]
    for name in list(dict.fromkeys(rejected))[KEPT_REJECTED:]:
        shutil.rmtree(settings.checkpoints / name, ignore_errors=True)


def find_checkpoint(warehouse: Warehouse, name: str) -> str:
    """The id that begins like this.

    Raises:
        UnknownCheckpointError: none does, or more than one.
    """
    ids = warehouse.checkpoints.list()["checkpoint_id"].to_list()
    found = [one for one in ids if one.startswith(name)]
    if len(found) != 1:
        known = ", ".join(one[:16] for one in ids) or "none"
        what = "is no checkpoint" if not found else f"could be any of {len(found)} checkpoints"
        raise UnknownCheckpointError(f"{name!r} {what}; there are: {known}")
    return str(found[0])


def promote_by_hand(settings: Settings, name: str) -> str:
    """Make a checkpoint the active one, because somebody says so.

    Args:
        settings: the pipeline's settings.
        name: its id, or how it begins.

    Returns:
        The checkpoint's id.

    Raises:
        PromotionRefusedError: it is active already, can't be read, or is of another encoder.
        UnknownCheckpointError: there is none of that name.
    """
    return _change_over(settings, name, "by hand", "promoted by hand")


def roll_back(settings: Settings) -> str:
    """Make the checkpoint active that was before the active one.

    Returns:
        The checkpoint's id.

    Raises:
        PromotionRefusedError: there is none, it can't be read, or is of another encoder.
    """
    with Warehouse.open(settings.warehouse) as warehouse:
        active, before = warehouse.checkpoints.active(), warehouse.checkpoints.before()
    if active is None or before is None:
        raise PromotionRefusedError(
            "there is no checkpoint to roll back to: none was active before the active one; "
            "`locus checkpoints list` shows all, `locus checkpoints promote ID` takes any of them"
        )
    return _change_over(settings, before, "rollback", f"back from {active['checkpoint_id'][:16]}")


def _change_over(settings: Settings, name: str, kind: str, reason: str) -> str:
    identity = settings.encoder_identity
    with Warehouse.open(settings.warehouse) as warehouse:
        checkpoint_id = find_checkpoint(warehouse, name)
        active = warehouse.checkpoints.active()
    if active is not None and active["checkpoint_id"] == checkpoint_id:
        raise PromotionRefusedError(f"checkpoint {checkpoint_id[:16]} is the active one already")
    try:
        checkpoint.load(settings.checkpoints / checkpoint_id, identity)
    except checkpoint.CheckpointError as error:
        raise PromotionRefusedError(
            f"checkpoint {checkpoint_id[:16]} was not promoted, the active one stays: {error}"
        ) from error
    with Warehouse.open(settings.warehouse) as warehouse:
        warehouse.checkpoints.decide(kind, checkpoint_id, True, reason, git_sha=git_sha())
    log.info("checkpoint %s is active: %s", checkpoint_id[:16], reason)
    return checkpoint_id
