"""The flow that scores stored answers by a new metric; no model is asked anything."""

import logging

from prefect import flow

from flows.seen import of_what, show_page
from tasks.lock import pipeline_lock
from tasks.markdown import cell
from tasks.rescore import Rescored, rescore_answers
from tasks.settings import load_settings

log = logging.getLogger("locus.pipeline")


@flow(name="rescore", flow_run_name=of_what("rescore"), persist_result=False)
def rescore(
    tasks: list[str] | None = None,
    models: list[str] | None = None,
    dry_run: bool = False,
    wait_s: float = 0,
) -> Rescored:
    """Score anew what was scored by another metric or filter than is configured now.

    Args:
        tasks: only these of the configured tasks; all by default.
        models: only these models' answers; all by default.
        dry_run: score, and file nothing.
        wait_s: seconds to wait for another run to end.

    Raises:
        PipelineBusyError: another run is going on.
        RescoreFailedError: the tasks can't be loaded.
        RescoreRefusedError: a task or model that isn't there.
    """
    settings = load_settings()
    with pipeline_lock(settings, wait_s):
        outcome = rescore_answers(settings, tasks, models, dry_run)
    log.info("rescore: %s", outcome.headline())
    lines = [
        outcome.headline(),
        "",
        "| task | metric | answers | before | after |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {cell(one.task)} | {cell(one.metric)} | {one.n_answers} | {_mean(one.before)} | "
        f"{_mean(one.after)} |"
        for one in outcome.tasks
    ]
    show_page("rescore-outcome", "\n".join(lines))
    return outcome


def _mean(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
