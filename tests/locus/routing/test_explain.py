"""Why a model was chosen: the words hold the numbers of the decision."""

import numpy as np

from locus.routing.explain import likeness, reason
from locus.routing.policy import Policy, choose
from locus.routing.routed import Choice, InTopic, Topic

P = np.array([[0.9, 0.8, 0.8], [0.2, 0.3, 0.3]])
COST = np.array([4.0, 1.0, np.nan])
LOWER = P - 0.1
NAMES = ["a", "b", "c"]


def why(policy: Policy, row: int = 0) -> str:
    decision = choose(P, policy, cost_M=COST if policy.asks_cost else None, lower_TM=LOWER)
    return reason(policy, decision, row, NAMES, P[row], COST, LOWER)


def test_reasons() -> None:
    assert why(Policy()) == "a has the highest p, 0.900, of 3 that may answer; 0.100 ahead of b"
    assert "tied with 1 more" in why(Policy(), 1)
    aware = why(Policy("cost-aware", price_weight=0.1))
    assert "0.800 - 0.1 x 1 USD = 0.700, of 2 that may answer; 0.200 ahead of a" in aware
    assert "dearer than 2 may not answer" in why(Policy(price_cap=2))
    assert "b has p 0.800 for 1 USD" in why(Policy("budget", budget=2))
    assert "lower bound, 0.800 (p 0.900)" in why(Policy("lower-bound"))


def test_why_nobody_answers() -> None:
    strict = Policy("abstain", abstain_below=0.5)
    assert why(strict, 1) == ("nobody answers: no p reaches 0.5 (the highest of the pool is 0.300)")
    assert "no lower bound reaches 0.5" in why(Policy("lower-bound", abstain_below=0.5), 1)
    assert "no price is within 0.5 USD" in why(Policy(price_cap=0.5))
    assert "do more for other queries" in why(Policy("budget", budget=1), 1)


def test_what_a_query_is_like() -> None:
    topic = Topic("topic 03", [], 7, 0.5, 0.4, far=False)
    like = "the query is like topic 03 (7 reference queries)"
    assert likeness(topic, []) == like
    for there, said in (
        (InTopic(None, 0, None), f"{like}, of which a has answered none"),
        (
            InTopic(0.5, 4, 0.25),
            f"{like}, where a was right on 50 % of 4 answers (lower bound 0.250)",
        ),
    ):
        assert likeness(topic, [Choice(1, "a", 0.9, None, [], in_topic=there)]) == said
