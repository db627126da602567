"""What people see of a run in Prefect: its name, its plan, how far it is, and what came of it.

Nothing here may end a run: an artifact that the server doesn't take is logged and left out. Outside
of a flow run there is nobody to show anything.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.context import FlowRunContext
from prefect.runtime import flow_run

from flows.outcome import Outcome
from locus.budget import Ledger
from locus.snapshots import Snapshot
from tasks.artifacts import leave
from tasks.estimate import Expected
from tasks.markdown import cell, line, plain, run_name, versioned
from tasks.plan import PlannedModel

log = logging.getLogger("locus.pipeline")

EVERY_S = 5.0
"""Seconds between two updates of the progress."""

PATIENCE_S = 10.0
"""Seconds that a run waits at most for the last one."""

NAMED = 2
"""Models or tasks that the name of a run spells out."""


def timed(flow: str) -> Callable[[], str]:
    """Names of a flow's runs: when they began, such as ``nightly-2026-11-24T02:00Z``."""

    def name() -> str:
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}"
        return run_name(flow, now, *_manner(flow_run.get_parameters()))

    return name


def of_what(flow: str) -> Callable[[], str]:
    """Names of a flow's runs: which models and tasks, such as ``add-model-org/late@1a2b3c``."""

    def name() -> str:
        given = flow_run.get_parameters()
        if "model_id" in given:
            what = [versioned(str(given["model_id"]), given.get("revision"))]
        else:
            what = [_some(given[one]) for one in ("tasks", "models") if given.get(one)] or ["all"]
        return run_name(flow, *what, *_manner(given))

    return name


def _manner(given: Mapping[str, Any]) -> list[str]:
    """How a run differs from an ordinary one."""
    return [word.replace("_", "-") for word in ("dry_run", "force", "accept") if given.get(word)]


def _some(names: Sequence[str]) -> str:
    rest = len(names) - NAMED
    return ",".join(names[:NAMED]) + (f"+{rest}" if rest > 0 else "")


def show(name: str, outcome: Outcome) -> None:
    """Log the outcome and leave it, with a link to the report, as artifacts of the flow run."""
    log.info("%s: %s", name, outcome.headline())
    show_page(f"{name}-outcome", outcome_page(outcome))
    if outcome.snapshot:
        show_report(outcome.snapshot)


def show_page(key: str, markdown: str) -> None:
    """Leave a page whose strangers' text went through `tasks.markdown`."""
    leave(create_markdown_artifact, key=key, markdown=markdown)


def show_report(snapshot: Snapshot) -> None:
    """Leave a link to a snapshot's report; it opens on the machine that holds the file."""
    report = (snapshot.folder / "similarity" / "report.html").absolute()
    leave(
        create_link_artifact,
        key="report",
        link=report.as_uri(),
        link_text=snapshot.snapshot_id,
        description=f"Report of what was published: {cell(str(report))}",
    )


def show_plan(
    planned: Sequence[PlannedModel], expected: Mapping[str, Expected], key: str = "plan"
) -> None:
    """Leave the table of who is asked how much, and what that is expected to take."""
    if planned:
        leave(
            create_table_artifact,
            key=key,
            table=plan_rows(planned, expected),
            description="What is asked next, and what that is expected to take",
        )


def show_results(outcome: Outcome) -> None:
    """Leave the table of how each model's evaluation ended."""
    if rows := outcome.result_rows():
        leave(create_table_artifact, key="results", table=rows, description="How each model ended")


@contextmanager
def progress(outcome: Outcome, ledger: Ledger) -> Iterator[None]:
    """One bar for all models of the run: queries asked of queries planned so far.

    It is read off the run's ledger, to which each finished chunk is charged, so that asking
    doesn't wait for it. A plan that grows (rounds, canaries, more of known models) sets it
    back.
    """
    if FlowRunContext.get() is None:
        yield
        return
    ended = threading.Event()
    # With the run's context: its server, and its log for what goes wrong.
    thread = threading.Thread(
        target=copy_context().run,
        args=(_follow, lambda: _standing(outcome, ledger), ended),
        name="progress",
        daemon=True,
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(PATIENCE_S)
        if thread.is_alive():
            log.warning("the last progress could not be shown within %.0f s", PATIENCE_S)


def _follow(standing: Callable[[], tuple[int, int]], ended: threading.Event) -> None:
    """Show what is new every few seconds, until the run has asked everything."""
    bar: UUID | None = None
    shown, faults, over = (0, 0), 0, False
    while not over:
        over = ended.wait(EVERY_S)
        done, of = now = standing()
        if now == shown or not of:
            continue
        try:
            bar = _draw(bar, 100 * done / of, f"{done} of {of} queries asked")
            shown = now
        except Exception as error:  # the run goes on, whatever the server does
            faults += 1
            level = logging.WARNING if faults == 1 else logging.DEBUG
            log.log(level, "progress could not be shown: %s", line(str(error)))


def _draw(bar: UUID | None, percent: float, said: str) -> UUID:
    """Make the bar, or move it."""
    made = (
        create_progress_artifact(key="progress", progress=percent, description=said)
        if bar is None
        else update_progress_artifact(bar, progress=percent, description=said)
    )
    # Both are typed for callers in async code too; here they return the id itself.
    if not isinstance(made, UUID):
        raise TypeError("progress is shown outside of an event loop")
    return made


def _standing(outcome: Outcome, ledger: Ledger) -> tuple[int, int]:
    """Queries asked, and planned so far; at most all of them."""
    # Copied at once: the pipeline plans on meanwhile.
    plans = [p.copy() for p in (outcome.plan, outcome.canary_plan, outcome.more_plan)]
    of = sum(one.queries for plan in plans for one in plan.values())
    return min(ledger.spent.queries, of), of


def plan_rows(
    planned: Sequence[PlannedModel], expected: Mapping[str, Expected]
) -> list[dict[str, Any]]:
    """A row for each model: what it is asked, who chose it, what it is expected to take."""
    rows = []
    for one in planned:
        takes = expected[one.model.spec.id]
        chosen = [f"{n} by {who}" for who, n in one.plan.chosen_by.items()]
        chosen += [f"{one.plan.later} later, by its answers"] if one.plan.later else []
        rows.append(
            {
                "model": line(one.model.spec.id),
                "revision": line(one.model.revision),
                "queries": takes.queries,
                "training queries": line(", ".join(chosen)) or "none",
                "tokens": round(takes.tokens_in + takes.tokens_out),
                "usd": None if takes.usd is None else round(takes.usd, 4),
                "minutes": None if takes.seconds is None else round(takes.seconds / 60, 2),
                "reckoned from": "its answers" if takes.measured else "lengths of texts",
            }
        )
    return rows


def outcome_page(outcome: Outcome) -> str:
    """The outcome as Markdown."""
    lines = [plain(outcome.headline()), ""]
    why = {**outcome.stopped, **outcome.failed}
    if outcome.plan:
        lines += ["| model | queries | ended early because |", "|---|---|---|"]
        lines += [
            f"| {cell(model)} | {expected.queries} | {cell(why.get(model, ''))} |"
            for model, expected in sorted(outcome.plan.items())
        ]
    if outcome.more_plan:
        lines += ["", "| known model | more queries | ended early because |", "|---|---|---|"]
        lines += [
            f"| {cell(model)} | {expected.queries} | {cell(why.get(model, ''))} |"
            for model, expected in sorted(outcome.more_plan.items())
        ]
    for title, found in (("Left alone", outcome.resting), ("Changed", outcome.drifted)):
        if found:
            lines += ["", f"| {title} | why |", "|---|---|"]
            lines += [f"| {cell(model)} | {cell(said)} |" for model, said in sorted(found.items())]
    return "\n".join(lines)
