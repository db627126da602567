"""The routing gate: is the candidate's first choice on held-out queries right less often?"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from locus.gates.facts import FIRST, Beside, Floats, Found, Holds

ALPHA = 0.005
"""One-sided error of the test: at most one night in 200 on which nothing got worse."""

LEAST_QUERIES = 30
"""Held-out queries below which nothing is judged."""

_ROUNDS = 10_000
_Z = 2.575829  # normal quantile of 1 - ALPHA


def routing(candidate: Holds, parent: Holds | None, beside: Beside | None, limit: float) -> Found:
    """Drop in accuracy on held-out queries; beyond the limit, and beyond chance."""
    if parent is None:
        return "routing", True, None, limit, FIRST
    if beside is None or not len(beside.right_T):
        return _routing_apart(candidate, parent, limit)
    n = len(beside.right_T)
    now, before = float(beside.right_T.mean()), float(beside.right_parent_T.mean())
    if n < LEAST_QUERIES:
        said = f"{n} held-out queries are too few to judge by: at least {LEAST_QUERIES}"
        return "routing", True, before - now, limit, said
    p = worse_by_chance(beside.right_T, beside.right_parent_T)
    said = f"right first choice on {n} held-out queries: {now:.3f}, was {before:.3f} (p {p:.2g})"
    if before - now <= limit or p > ALPHA:
        return "routing", True, before - now, limit, said
    return "routing", False, before - now, limit, f"{said}, {_WORSE.format(limit=limit)}"


_WORSE = (
    "a drop of more than {limit:.1%} that chance does not explain. Look at what changed last "
    "(scores of a run, a new map): `locus checkpoints rollback` brings the former map back"
)


def _routing_apart(candidate: Holds, parent: Holds, limit: float) -> Found:
    """The same from two published figures with intervals, taken as independent.

    On the same queries they are not; then the difference is surer than is assumed here, and this
    errs by letting pass.
    """
    rows = [r for r in (candidate.routed, parent.routed) if r is not None]
    if len(rows) < 2 or min(int(r["n"]) for r in rows) < LEAST_QUERIES:
        return "routing", True, None, limit, "too few held-out queries to judge by"
    (now, now_error), (before, before_error) = (_with_error(r) for r in rows)
    z = (before - now) / float(np.hypot(now_error, before_error))
    said = f"right first choice on held-out queries: {now:.3f}, was {before:.3f}"
    if before - now <= limit or z <= _Z:
        return "routing", True, before - now, limit, said
    return "routing", False, before - now, limit, f"{said}, {_WORSE.format(limit=limit)}"


def _with_error(routed: Mapping[str, Any]) -> tuple[float, float]:
    """Accuracy and its standard error; no interval of all right or all wrong is taken for sure."""
    n, share = int(routed["n"]), float(routed["hit1"])
    q = (share * n + 1) / (n + 2)
    half = (float(routed["high"]) - float(routed["low"])) / 2
    return share, max(half / 1.959964, float(np.sqrt(q * (1 - q) / n)))


def worse_by_chance(right_T: Floats, right_parent_T: Floats, seed: int = 0) -> float:
    """One-sided p of the candidate being so much worse, if it is no worse than its parent.

    Sign-flip test of paired differences: if neither is better, each difference is as likely to be
    the other way round. With right and wrong only it is McNemar's test; graded scores are judged
    as well. Only queries on which the two differ tell anything.

    Args:
        right_T: scores of the candidate's choices.
        right_parent_T: scores of the parent's choices on the same queries.
        seed: of the flips.

    Raises:
        ValueError: lengths differ.
    """
    if len(right_T) != len(right_parent_T):
        raise ValueError(f"{len(right_T)} scores beside {len(right_parent_T)}: pair them by query")
    gap = np.asarray(right_T, dtype=np.float64) - np.asarray(right_parent_T, dtype=np.float64)
    gap = gap[gap != 0]
    if not len(gap):
        return 1.0
    rng = np.random.default_rng(seed)
    seen, as_bad = gap.sum(), 0
    for _ in range(_ROUNDS // 1000):
        signs = rng.integers(0, 2, size=(1000, len(gap)), dtype=np.int8)
        flipped = (2.0 * signs - 1.0) @ np.abs(gap)
        as_bad += int((flipped <= seen + 1e-9).sum())
    return (as_bad + 1) / (_ROUNDS + 1)
