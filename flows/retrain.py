"""The flows that change the map: retrain in shadow, promote by hand, roll back."""

import logging
from dataclasses import dataclass

from prefect import flow

from flows.outcome import Outcome
from flows.pipeline import place_and_publish
from flows.seen import show_page, show_report, timed
from locus.snapshots import Snapshot
from tasks.encode import encode_queries
from tasks.lock import pipeline_lock
from tasks.markdown import plain
from tasks.notify import notify
from tasks.retrain import Retrained, is_published, promote_by_hand, retrain_map, roll_back
from tasks.settings import Settings, load_settings

log = logging.getLogger("locus.pipeline")


@dataclass(frozen=True)
class RetrainOutcome:
    """What a run of `retrain` did.

    Attributes:
        retrained: what came of the candidate.
        snapshot: what was published by the active map; None if what is published stays.
    """

    retrained: Retrained
    snapshot: Snapshot | None = None

    def headline(self) -> str:
        """The run in one line."""
        said = self.retrained.headline()
        return f"{said}; published {self.snapshot.snapshot_id}" if self.snapshot else said


@flow(name="retrain", flow_run_name=timed("retrain"), persist_result=False)
def retrain(dry_run: bool = False, force: bool = False, wait_s: float = 0) -> RetrainOutcome:
    """Train a candidate map; promote it and publish by it only if it beats the active one.

    Also publishes where an earlier run was killed between promotion and publication.

    Args:
        dry_run: train, compare and say; keep, promote and publish nothing (but the encodings of
            new queries).
        force: train although no score is new, or although the active map can't be read.
        wait_s: seconds to wait for another run to end.

    Raises:
        CheckpointError: the active checkpoint is damaged, and this is not forced.
        PipelineBusyError: another run is going on.
    """
    settings = load_settings()
    snapshot = None
    with pipeline_lock(settings, wait_s):
        encode_queries(settings)
        retrained = retrain_map(settings, force, dry_run)
        if not dry_run and retrained.active is not None:
            snapshot = _published_by_active(settings, retrained)
    outcome = RetrainOutcome(retrained, snapshot)
    log.info("retrain: %s", outcome.headline())
    if retrained.candidate is not None and not dry_run:
        notify(settings.notify, "retrain", "LOCUS: a map was retrained", outcome.headline())
    show_page("retrain-outcome", _page(outcome))
    if snapshot is not None:
        show_report(snapshot)
    return outcome


def _published_by_active(settings: Settings, retrained: Retrained) -> Snapshot | None:
    """Publish, unless what is published was made by the active map already."""
    active = retrained.candidate if retrained.promoted else retrained.active
    if active is None or is_published(settings, active):
        return None
    outcome = Outcome()
    place_and_publish(settings, outcome, may_train=False, always=True)
    return outcome.snapshot


def promote(name: str, wait_s: float = 0) -> str:
    """Make a checkpoint the active one by hand; publishing by it is `flows.publish`'s.

    Args:
        name: its id, or how it begins.
        wait_s: seconds to wait for another run to end.

    Returns:
        The checkpoint's id.

    Raises:
        PipelineBusyError: another run is going on.
        PromotionRefusedError: it is active already, can't be read, or is of another encoder.
        UnknownCheckpointError: there is none of that name.
    """
    settings = load_settings()
    with pipeline_lock(settings, wait_s):
        return promote_by_hand(settings, name)


def rollback(wait_s: float = 0) -> str:
    """Make the checkpoint active that was before the active one.

    Args:
        wait_s: seconds to wait for another run to end.

    Returns:
        The checkpoint's id.

    Raises:
        PipelineBusyError: another run is going on.
        PromotionRefusedError: there is none, it can't be read, or is of another encoder.
    """
    settings = load_settings()
    with pipeline_lock(settings, wait_s):
        return roll_back(settings)


def _page(outcome: RetrainOutcome) -> str:
    """The outcome and both comparisons as Markdown."""
    lines = [plain(outcome.headline())]
    for title, compared in (
        ("All models", outcome.retrained.known),
        ("Models that neither map learned from", outcome.retrained.unseen),
    ):
        if compared is None:
            continue
        lines += [
            "",
            f"{title}: {compared.n_answers} answers of {compared.n_models} models to "
            f"{compared.n_queries} validation queries",
            "",
            "| measure | active | candidate | difference and 95 % interval |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {name} | {found.active:.4f} | {found.candidate:.4f} | {found} |"
            for name, found in compared.measures.items()
        ]
    return "\n".join(lines)
