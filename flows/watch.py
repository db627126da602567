"""The flow that watches: what is new in models.yaml and on the hub is filed and announced."""

import logging

from prefect import flow

from flows.seen import show_page, timed
from tasks.logs import keep_log
from tasks.markdown import cell, line, plain
from tasks.settings import load_settings
from tasks.watch import Watched, watch_models

log = logging.getLogger("locus.watch")


@flow(name="watch", flow_run_name=timed("watch"), persist_result=False)
def watch(dry_run: bool = False) -> Watched:
    """Look at the registry and the hub once. No model is asked anything here.

    A fault of the hub ends no run: it is logged, shown, and the next look tries again.

    Args:
        dry_run: say what would be done, and do nothing.

    Raises:
        RegistryError: `models.yaml` is faulty.
    """
    settings = load_settings()
    keep_log(settings)
    outcome = watch_models(settings, settings.watch, dry_run)
    log.info("watch: %s", outcome.headline())
    for fault in outcome.failed:
        log.warning("watch: %s", line(fault))
    show_page("watch-outcome", _page(outcome))
    return outcome


def _page(outcome: Watched) -> str:
    lines = [plain(outcome.headline()), "", "| model | what |", "|---|---|"]
    for names, what in (
        (outcome.added, "added"),
        (outcome.followed, "new commit"),
        (outcome.announced, "announced"),
        (outcome.untold, "could not be announced"),
    ):
        lines += [f"| {cell(name)} | {what} |" for name in names]
    lines += [f"| {cell(name)} | {cell(why)} |" for name, why in outcome.left.items()]
    lines += [f"| | {cell(fault)} |" for fault in outcome.failed]
    return "\n".join(lines)
