"""Which of a task's metrics is the score of a query, and what a document's score is.

The rule, with its reasons, is in docs/imports.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from locus.imports.lm_eval_documents import Document

# In the order of preference where the task's configuration does not decide.
PREFERRED = (
    "exact_match",
    "acc_norm",
    "acc",
    "prompt_level_strict_acc",
    "pass@1",
    "pass_at_1",
    "em",
    "mc1",
    "mc2",
    "f1",
)


@dataclass(frozen=True)
class Choice:
    """The metric that is a task's score, and the filter (None: the first of the file)."""

    metric: str
    filter: str | None = None


def choose(
    wanted: str | None, listed: Iterable[str], documents: list[Document]
) -> tuple[Choice | None, list[str]]:
    """Choose the metric of a task.

    Args:
        wanted: what the user asked for, 'metric' or 'metric,filter'; None if nothing.
        listed: the metrics of the task's configuration, in order; empty if unknown.
        documents: all documents of the task.

    Returns:
        The choice, None if no metric can be a score; and the metrics that come before it in the
        order but were passed over (or all of them, if there is no choice).
    """
    if wanted is not None:
        # A filter's name may hold a comma, a metric's does not.
        metric, _, name = wanted.partition(",")
        return Choice(metric, name or None), []
    logged: dict[str, int] = {}
    fit: dict[str, int] = {}
    for document in documents:
        for metrics in document.metrics.values():
            for metric, value in metrics.items():
                logged[metric] = logged.get(metric, 0) + 1
                if as_score(value) is not None:
                    fit[metric] = fit.get(metric, 0) + 1
    order = _order(list(listed), logged)
    passed: list[str] = []
    for metric in order:
        # One broken value does not unseat a metric: it is a problem of its line.
        if 2 * fit.get(metric, 0) >= logged[metric]:
            return Choice(metric), passed
        passed.append(metric)
    return None, passed


def _order(listed: list[str], logged: Iterable[str]) -> list[str]:
    """The metrics that were logged, in the order in which they are tried."""
    wanted = list(listed)
    if "acc" in wanted and "acc_norm" in wanted:
        # What leaderboards report; and the choice must not depend on whether results are there.
        wanted.remove("acc_norm")
        wanted.insert(wanted.index("acc"), "acc_norm")
    wanted += [*PREFERRED, *sorted(logged)]
    here = set(logged)
    return [metric for metric in dict.fromkeys(wanted) if metric in here]


def as_score(value: Any) -> float | None:
    """``value`` as a score within [0, 1]; None if it is not one."""
    # A truth value is a number too.
    return float(value) if isinstance(value, (float, int)) and 0 <= value <= 1 else None


def document_score(
    document: Document, metric: str, name: str
) -> tuple[str, float | None, str | None]:
    """The score of a document: (status, score, what is wrong).

    Args:
        document: with the metrics of all its filters.
        metric: the metric that is the score.
        name: the filter.
    """
    if name not in document.metrics:
        have = ", ".join(document.metrics)
        return "error", None, f"no record for filter {name}; there are: {have}"
    if metric not in document.metrics[name]:
        have = ", ".join(document.metrics[name])
        return "error", None, f"metric {metric} was not logged; there are: {have}"
    value = document.metrics[name][metric]
    if value is None:
        return "error", None, None
    score = as_score(value)
    if score is None:
        return "error", None, f"metric {metric} is {_shown(value)}: expected a number within [0, 1]"
    if document.is_empty and not score:
        return "empty", None, None
    return "ok", score, None


def _shown(value: Any) -> str:
    """A value that is no score, as a message says it."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int):
        return str(value) if abs(value) < 10**12 else "a huge number"
    return "a list" if isinstance(value, list) else f"of type {type(value).__name__}"
