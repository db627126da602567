"""What a router answers; see `locus.routing.router`."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locus.routing.policy import Ints


@dataclass(frozen=True)
class Topic:
    """The learned topic that a query is most like.

    Attributes:
        name: its bucket in the snapshot's routing table.
        words: words that tell it from the other topics.
        n_reference: reference queries in it.
        cosine: of the query with the topic's centre.
        edge: 99 % of the queries that topics were learned from have this cosine or more.
        far: whether the query has less: no topic says anything about it.
    """

    name: str
    words: list[str]
    n_reference: int
    cosine: float
    edge: float
    far: bool


@dataclass(frozen=True)
class InTopic:
    """How a model did in a query's topic.

    Attributes:
        observed_accuracy: its mean score on train and val queries; None where it answered none.
        n_observed: answers behind it.
        lower_bound: calibrated lower bound (95 %) of its accuracy there; None where unknown.
    """

    observed_accuracy: float | None
    n_observed: int
    lower_bound: float | None


@dataclass(frozen=True)
class Choice:
    """One candidate for a query.

    Attributes:
        rank: 1 is best.
        model_id: the model.
        p_correct: predicted probability that it answers correctly.
        price_in_usd_per_mtok: its price for a million tokens read; None where unknown.
        stand_ins: who answers in its place, nearest first.
        lower_bound: p_correct less what the doubt about the model's place may take from it (normal
            approximation, clipped to [0, 1]); None where the map knows no doubt.
        price_usd_per_mtok: what policies count: a million tokens read, plus a million written
            where that price is known; None where unknown.
        in_topic: how it did in the query's topic; None where the query is far from every topic,
            or its topic is unknown.
    """

    rank: int
    model_id: str
    p_correct: float
    price_in_usd_per_mtok: float | None
    stand_ins: list[str]
    lower_bound: float | None = None
    price_usd_per_mtok: float | None = None
    in_topic: InTopic | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Away:
    """A model that can't be asked now.

    Attributes:
        model_id: the model.
        would_answer: positions of the queries that it would have been chosen for.
        stand_ins: models that may answer, nearest to it first.
    """

    model_id: str
    would_answer: list[int]
    stand_ins: list[str]


@dataclass(frozen=True)
class Routed:
    """What `Router.decide` found, for T queries.

    Attributes:
        choices: for each query the candidates, best first; empty where nobody answers.
        reasons: for each query why the first one was chosen, or why nobody answers; empty texts
            where no explanation was asked for.
        away: one for each unavailable model.
        unknown_price: models left out because the policy asks for a price and theirs is unknown.
        cost: price of the first choices together; None where one is unknown.
        expected: right answers expected of the first choices together.
        topics: for each query the topic that it is most like; None where the snapshot has no
            topics, or no explanation was asked for.
    """

    choices: list[list[Choice]]
    reasons: list[str]
    away: list[Away]
    unknown_price: list[str]
    cost: float | None
    expected: float
    topics: list[Topic | None]


@dataclass(frozen=True)
class Selected:
    """What `Router.select` chose, for T queries.

    Attributes:
        chosen_T: position in `Router.models`, int64; -1 where nobody answers.
        p_T: predicted probability that the chosen one answers correctly, float32; NaN for nobody.
        lower_T: its lower bound, as `Choice.lower_bound`; None where the map knows no doubt.
    """

    chosen_T: Ints
    p_T: NDArray[np.float32]
    lower_T: NDArray[np.float32] | None
