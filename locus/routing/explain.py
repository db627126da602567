"""Why a model was chosen, in one line for people."""

from collections.abc import Sequence

import numpy as np

from locus.routing.policy import Decision, Floats, Policy
from locus.routing.routed import Choice, Topic

# Predictions end a little below 1, where the best models of a large pool meet.
_TIED = 5e-7


def reason(
    policy: Policy,
    decision: Decision,
    row: int,
    models: Sequence[str],
    p_M: Floats,
    price_M: Floats,
    lower_TM: Floats | None,
) -> str:
    """Why the first choice of a query came first, and by how much; or why nobody answers.

    Args:
        policy: what was asked for.
        decision: what `locus.routing.policy.choose` gave.
        row: the query.
        models: ids of the pool.
        p_M: predicted P(correct) of the pool on this query.
        price_M: prices of the pool, USD per million tokens; NaN where unknown.
        lower_TM: lower bounds; None where the map knows none.
    """
    ranking = decision.ranking_TM[row]
    ranking = ranking[ranking >= 0]
    if not len(ranking):
        return "nobody answers: " + _why_nobody(policy, p_M)
    first = int(ranking[0])
    text = f"{models[first]} has {_what(policy, first, row, p_M, price_M, lower_TM)}"
    text += f", of {len(ranking)} that may answer"
    if len(ranking) > 1:
        second = int(ranking[1])
        # Under a budget the chosen one need not have the highest worth.
        if policy.kind != "budget":
            gap_M = decision.value_TM[row, 0] - decision.value_TM[row, 1 : len(ranking)]
            tied = int((gap_M < _TIED).sum())
            text += (
                f"; tied with {tied} more, the first is taken"
                if tied
                else f"; {gap_M[0]:.3f} ahead of {models[second]}"
            )
    if policy.price_cap is not None:
        text += f"; dearer than {policy.price_cap:g} may not answer"
    if policy.abstain_below is not None:
        what = "lower bound" if policy.threshold_on == "lower" else "p"
        text += f"; {what} below {policy.abstain_below:g} may not answer"
    return text


def likeness(topic: Topic, choices: Sequence[Choice]) -> str:
    """What topic a query is like, and how its first choice did there; or that it is like none.

    Args:
        topic: the query's topic.
        choices: its candidates, best first; none where nobody answers.
    """
    # A topic without words has its number alone.
    name = f"topic '{', '.join(topic.words)}'" if topic.words else topic.name
    if topic.far:
        return (
            f"the query is far from every topic, so little is known of its kind: cosine "
            f"{topic.cosine:.3f} to {name}, the nearest, and 99 % of the queries that topics were "
            f"learned from have {topic.edge:.3f} or more"
        )
    text = f"the query is like {name} ({topic.n_reference} reference queries)"
    if not choices or (there := choices[0].in_topic) is None:
        return text
    first = choices[0].model_id
    if there.observed_accuracy is None:
        text += f", of which {first} has answered none"
    else:
        share = f"{100 * there.observed_accuracy:.0f} %"
        text += f", where {first} was right on {share} of {there.n_observed} answers"
    return text + ("" if there.lower_bound is None else f" (lower bound {there.lower_bound:.3f})")


def _what(
    policy: Policy, first: int, row: int, p_M: Floats, price_M: Floats, lower_TM: Floats | None
) -> str:
    p = f"p {p_M[first]:.3f}"
    price = f"{price_M[first]:g} USD"
    if policy.kind == "cost-aware":
        weight = float(policy.price_weight or 0)
        worth = p_M[first] - weight * price_M[first]
        return f"the highest p - {weight:g} x price: {p[2:]} - {weight:g} x {price} = {worth:.3f}"
    if policy.kind == "budget":
        return f"{p} for {price}, the best use of {policy.budget:g} USD over all queries together"
    if policy.kind == "lower-bound" and lower_TM is not None:
        return f"the highest lower bound, {lower_TM[row, first]:.3f} ({p})"
    return f"the highest p, {p_M[first]:.3f}"


def _why_nobody(policy: Policy, p_M: Floats) -> str:
    reasons = []
    if policy.abstain_below is not None:
        what = "lower bound" if policy.threshold_on == "lower" else "p"
        reasons.append(f"no {what} reaches {policy.abstain_below:g}")
        if policy.threshold_on == "p":
            reasons[-1] += f" (the highest of the pool is {np.max(p_M):.3f})"
    if policy.price_cap is not None:
        reasons.append(f"no price is within {policy.price_cap:g} USD")
    if policy.kind == "budget":
        reasons.append(f"{policy.budget:g} USD don't pay for it, or do more for other queries")
    return " or ".join(reasons)
