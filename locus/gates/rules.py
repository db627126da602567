"""The gates, one function each: what is measured, whether it is within the limit, and the words."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import polars as pl

from locus.gates.accuracy import routing
from locus.gates.facts import FIRST, Asked, Beside, Found, GateResult, Holds, Watched
from locus.gates.settings import GATES, GateSettings, UnknownGateError
from locus.similarity import wilson

LEAST_DRIFTED = 3
"""Models that must drift together before that is more than each one's own affair."""

FAR = 3.0
"""Standard deviations of a place beyond which a model has moved far."""

FAR_AT_LEAST = 0.02
"""Movement, in P(correct), that is never far, however sure the place."""

UNSURE = 0.1
"""Taken for the uncertainty of a place where the map knows none, in P(correct)."""


def check(
    candidate: Holds,
    parent: Holds | None,
    beside: Beside | None,
    settings: GateSettings,
    *,
    asked: Mapping[str, Asked] | None = None,
    watched: Watched | None = None,
    accept: Collection[str] = (),
) -> list[GateResult]:
    """Ask every gate that is not off.

    Args:
        candidate: what was built.
        parent: what readers see; None before the first snapshot.
        beside: both on the same queries; None where that could not be computed.
        settings: limits and levels.
        asked: this run's queries by model; canaries don't count.
        watched: this run's canaries.
        accept: gates whose failure a person accepts, this once.

    Raises:
        UnknownGateError: ``accept`` names something else.
    """
    if unknown := sorted(set(accept) - set(GATES)):
        raise UnknownGateError(
            f"{', '.join(map(repr, unknown))} can't be accepted; gates are: {', '.join(GATES)}"
        )
    found = [
        _coverage(candidate, parent, settings.coverage.limit),
        _errors(asked or {}, settings.errors.limit),
        _rows(candidate, parent, settings.rows.limit),
        _models(candidate, parent, settings.models.limit),
        routing(candidate, parent, beside, settings.routing.limit),
        _canaries(watched or Watched(), settings.canaries.limit),
        _moved(candidate, parent, beside, settings.moved.limit),
        _choices(beside, settings.choices.limit),
    ]
    results = [_empty(candidate)]
    for name, passed, value, limit, reason in found:
        level = settings.gate(name).level
        if level != "off":
            accepted = not passed and name in accept
            results.append(GateResult(name, passed, value, limit, reason, level, accepted))
    return results


def _empty(candidate: Holds) -> GateResult:
    n = int(candidate.answers["n"].sum())
    there = bool(candidate.models) and n > 0
    reason = f"{len(candidate.models)} models, {n} scores"
    if not there:
        reason += ": there is nothing in it; import scores or run `locus run nightly`, then publish"
    return GateResult("empty", there, float(n), 1.0, reason)


def _coverage(candidate: Holds, parent: Holds | None, limit: float) -> Found:
    """Share of models with any answer to a task, of the task where it is least.

    A task is judged once it was covered: a new one, which a budget lets come in over some nights,
    holds nobody up.
    """
    if parent is None:
        return "coverage", True, None, limit, FIRST
    before, now = _covered(parent), _covered(candidate)
    judged = sorted((now.get(t, 0.0), t) for t, share in before.items() if share >= limit)
    if not judged:
        return "coverage", True, None, limit, f"no task was answered by {limit:.0%} of the models"
    below = [(share, task) for share, task in judged if share < limit]
    least, task = judged[0]
    if not below:
        reason = f"every known task has answers of at least {least:.0%} of the models ({task!r})"
        return "coverage", True, least, limit, reason
    reason = (
        f"{len(below)} of {len(judged)} tasks have answers of fewer than {limit:.0%} of the "
        f"{len(candidate.models)} models: "
        + ", ".join(f"{name!r} {share:.0%} (was {before[name]:.0%})" for share, name in below[:3])
        + "; ask the models these tasks (`locus run nightly`), or accept that they are not asked"
    )
    return "coverage", False, least, limit, reason


def _covered(holds: Holds) -> dict[str, float]:
    """By task, the share of models with an answer to it."""
    with_any = holds.answers.filter(pl.col("n") > 0).group_by("task").agg(pl.len())
    return {task: n / max(1, len(holds.models)) for task, n in with_any.iter_rows()}


def _errors(asked: Mapping[str, Asked], limit: float) -> Found:
    """Share of queries without an answer, one model left out: one bad model blocks no other."""
    if not asked:
        return "errors", True, None, limit, "no model was asked anything"
    n, without = sum(a.n for a in asked.values()), sum(a.without for a in asked.values())
    worst = max(asked, key=lambda model: (asked[model].without, model))
    all_said = f"{without} of {n} queries ended without an answer"
    bad = [model for model, a in asked.items() if a.n and a.without / a.n > limit]
    rest, rest_without = n - asked[worst].n, without - asked[worst].without
    if rest <= 0:
        return "errors", True, without / max(n, 1), limit, f"{all_said}, of one model alone"
    share = rest_without / rest
    low = float(wilson(np.array([float(rest_without)]), np.array([rest]))[0][0])
    # Of a handful of queries two can fail by chance: the lower bound must be beyond the limit.
    if low <= limit:
        more = f", most of them of {_names(bad)}" if bad else ""
        return "errors", True, share, limit, all_said + more
    reason = (
        f"{all_said}; without {worst!r}, which has most of them, still {share:.0%} of {rest} "
        f"(limit {limit:.0%}): {_names(bad)} are affected. The run's log says why; mend the "
        "services or settings, then `locus run nightly` asks these queries again"
    )
    return "errors", False, share, limit, reason


def _rows(candidate: Holds, parent: Holds | None, limit: float) -> Found:
    """Share of the parent's scores that are gone, of models that both have."""
    if parent is None:
        return "rows", True, None, limit, FIRST
    both = sorted(candidate.models & parent.models)
    of = pl.col("model_id").is_in(both)
    before, now = parent.answers.filter(of), candidate.answers.filter(of)
    n_before, n_now = int(before["n"].sum()), int(now["n"].sum())
    if not n_before:
        return "rows", True, None, limit, "no model with scores is in both"
    # Per model and task: new scores elsewhere must not hide what is gone.
    both_counts = before.join(now, on=["model_id", "task"], how="left", suffix="_now")
    lost = both_counts.with_columns(
        lost=(pl.col("n") - pl.col("n_now").fill_null(0)).clip(lower_bound=0)
    )
    gone = int(lost["lost"].sum())
    share = gone / n_before
    if share <= limit:
        return "rows", True, share, limit, f"{n_now} scores of models in both, were {n_before}"
    tasks = lost.group_by("task").agg(pl.col("lost").sum()).sort("lost", "task", descending=True)
    named = [task for task, n in tasks.head(3).iter_rows() if n]
    reason = (
        f"{gone} of {n_before} scores are gone ({share:.0%}, limit {limit:.0%}), most of "
        f"{_names(named)}. Scores are only ever added: look whether the warehouse was restored "
        "from an older copy"
    )
    return "rows", False, share, limit, reason


def _models(candidate: Holds, parent: Holds | None, limit: float) -> Found:
    """Share of the parent's models that are gone."""
    if parent is None:
        return "models", True, None, limit, FIRST
    gone = sorted(parent.models - candidate.models)
    share = len(gone) / max(1, len(parent.models))
    if share <= limit:
        said = f"{len(candidate.models)} models, were {len(parent.models)}"
        return "models", True, share, limit, said + (f"; gone: {_names(gone)}" if gone else "")
    reason = (
        f"{len(gone)} of {len(parent.models)} models are gone ({share:.0%}, limit {limit:.0%}): "
        f"{_names(gone)}. If you took them out, accept it; else look whether their scores are "
        "still in the warehouse"
    )
    return "models", False, share, limit, reason


def _canaries(watched: Watched, limit: float) -> Found:
    """Share of watched models that changed; many at once speak of us rather than of them."""
    n = len(watched.drifted)
    if not watched.n:
        return "canaries", True, None, limit, "no canary was asked"
    share = n / watched.n
    said = f"{n} of {watched.n} watched models changed behind their address since the parent"
    if n < LEAST_DRIFTED or share <= limit:
        return "canaries", True, share, limit, said
    reason = (
        f"{said} ({_names(watched.drifted)}): so many at once point to how they are asked (a new "
        "version of the harness, a proxy in between) rather than to the models. Find out; if they "
        "did change, accept it"
    )
    return "canaries", False, share, limit, reason


def _moved(candidate: Holds, parent: Holds | None, beside: Beside | None, limit: float) -> Found:
    """Share of models that moved far beyond their uncertainty, on one and the same map."""
    if parent is None:
        return "moved", True, None, limit, FIRST
    if candidate.checkpoint_id != parent.checkpoint_id:
        said = "the map is another one, on which places do not compare: routing is judged instead"
        return "moved", True, None, limit, said
    if beside is None or not beside.moved:
        return "moved", True, None, limit, "no model is in both"
    far = [
        model
        for model, by in beside.moved.items()
        if by > FAR_AT_LEAST + FAR * _known(beside.unsure.get(model, float("nan")))
    ]
    share = len(far) / len(beside.moved)
    said = f"{len(far)} of {len(beside.moved)} models moved far beyond their uncertainty"
    if share <= limit:
        return "moved", True, share, limit, said + (f": {_names(far)}" if far else "")
    reason = (
        f"{said} (limit {limit:.0%}), such as {_names(far)}: new answers contradict the old ones. "
        "Look at what came in last (an import, another metric), or accept it"
    )
    return "moved", False, share, limit, reason


def _known(unsure: float) -> float:
    return unsure if np.isfinite(unsure) else UNSURE


def _choices(beside: Beside | None, limit: float) -> Found:
    """Share of reference queries that would go to another model, of models in both."""
    if beside is None or not beside.n_reference:
        return "choices", True, None, limit, "no reference query is in both"
    share = beside.n_changed / beside.n_reference
    said = f"{beside.n_changed} of {beside.n_reference} reference queries have another best model"
    if share <= limit:
        return "choices", True, share, limit, said
    reason = f"{said} (limit {limit:.0%}): compare the routing tables of both snapshots"
    return "choices", False, share, limit, reason


def _names(names: Sequence[str], most: int = 3) -> str:
    """Some names, quoted: they may be anybody's text."""
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "") or "none"
