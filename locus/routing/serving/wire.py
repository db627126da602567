"""What goes over the wire: requests with their limits, and answers."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from locus.routing.policy import Kind, Policy

QUERIES_MOST = 256
CHARACTERS_MOST = 100_000
MESSAGES_MOST = 2048
NAMES_MOST = 1024
CHOICES_MOST = 100

_NEEDS: dict[str, str] = {
    "cost-aware": "lambda",
    "budget": "budget",
    "abstain": "abstain_below",
}

Text = Annotated[str, StringConstraints(min_length=1, max_length=CHARACTERS_MOST, pattern=r"\S")]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class _Asked(BaseModel):
    # Strict: a number in quotes is a mistake of the caller, who should hear of it.
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class PolicyAsked(_Asked):
    """How to choose; prices are USD for a million tokens read, plus a million written if known."""

    kind: Kind = Field(
        default="best",
        description="best: highest p_correct. cost-aware: highest p_correct - lambda x price. "
        "budget: most right answers expected that the budget pays for, over all queries of the "
        "request together. lower-bound: highest lower bound. abstain: best, and nobody below "
        "abstain_below.",
    )
    price_weight: float | None = Field(
        default=None,
        alias="lambda",
        ge=0,
        description="Right answers that 1 USD per Mtok is worth; with cost-aware.",
    )
    budget: float | None = Field(
        default=None,
        ge=0,
        description="USD per Mtok that all queries of the request may cost together; with budget.",
    )
    max_price: float | None = Field(
        default=None, ge=0, description="Dearest model that may answer; with any kind."
    )
    abstain_below: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Nobody answers a query where every p_correct (lower-bound: lower bound) is "
        "below this; with any kind.",
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        given = {
            "lambda": self.price_weight,
            "budget": self.budget,
            "abstain_below": self.abstain_below,
        }
        needed = _NEEDS.get(self.kind)
        if needed and given[needed] is None:
            raise ValueError(f"the kind {self.kind} needs {needed}")
        for name in ("lambda", "budget"):
            if given[name] is not None and name != needed:
                raise ValueError(f"the kind {self.kind} would ignore {name}: leave it out")
        return self

    def policy(self) -> Policy:
        """As `locus.routing.policy` knows it."""
        return Policy(
            self.kind,
            price_weight=self.price_weight,
            budget=self.budget,
            price_cap=self.max_price,
            abstain_below=self.abstain_below,
        )


class Part(BaseModel):
    """A part of a message; only the text of parts of the type ``text`` counts."""

    model_config = ConfigDict(strict=True)

    type: str = Field(max_length=64)
    text: str | None = Field(default=None, max_length=CHARACTERS_MOST)


class Message(BaseModel):
    """A message of a chat, as OpenAI's API has them; other fields are let pass."""

    model_config = ConfigDict(strict=True)

    role: str = Field(max_length=64)
    content: (
        Annotated[str, Field(max_length=CHARACTERS_MOST)]
        | Annotated[list[Part], Field(max_length=MESSAGES_MOST)]
        | None
    ) = None


class RouteAsked(_Asked):
    """Queries, or a chat, and who may answer them."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["queries"]}, {"required": ["messages"]}],
            "examples": [
                {"queries": ["What is 5 plus 9, and what is 9 minus 2?"], "k": 2},
                {
                    "messages": [
                        {"role": "system", "content": "Be brief."},
                        {"role": "user", "content": "Which city is the capital of Peru?"},
                    ],
                    "policy": {"kind": "cost-aware", "lambda": 0.2},
                    "explain": True,
                },
            ],
        }
    )

    queries: list[Text] = Field(
        default=[],
        min_length=1,
        max_length=QUERIES_MOST,
        description="What will be asked, one text a query.",
    )
    messages: list[Message] = Field(
        default=[],
        min_length=1,
        max_length=MESSAGES_MOST,
        description="Instead of queries: a chat, whose last user message is the query.",
    )
    k: int = Field(default=3, ge=1, le=CHOICES_MOST, description="Candidates for each query.")
    policy: PolicyAsked = Field(default_factory=PolicyAsked, description="How to choose.")
    only: list[ModelName] = Field(
        default=[], max_length=NAMES_MOST, description="The only models that may answer."
    )
    exclude: list[ModelName] = Field(
        default=[], max_length=NAMES_MOST, description="Models that may not answer."
    )
    unavailable: list[ModelName] = Field(
        default=[],
        max_length=NAMES_MOST,
        description="Models that are down: they may not answer, and `away` says who steps in.",
    )
    confidence: float = Field(
        default=0.95, ge=0.5, lt=1, description="Of the lower bounds, one-sided."
    )
    explain: bool = Field(default=False, description="Say for every query why.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.queries) == bool(self.messages):
            raise ValueError("give either queries or messages")
        if self.messages and not self.texts()[0].strip():
            raise ValueError("messages: there is no text of a user to route by")
        return self

    def texts(self) -> list[str]:
        """The queries."""
        if self.queries:
            return list(self.queries)
        return [last_user_text(m.model_dump() for m in self.messages)]


class InTopicTold(BaseModel):
    """How a model did in the query's topic, on queries that it was asked."""

    observed_accuracy: float | None = Field(
        description="Mean score of its answers there; null where it has answered none."
    )
    n_observed: int = Field(description="Answers behind it; none to test queries.")
    lower_bound: float | None = Field(
        description="Calibrated 95 % lower bound of its accuracy there; null where unknown."
    )


class ChoiceTold(BaseModel):
    """A candidate; the first one should be asked."""

    rank: int = Field(description="1 is best.")
    model_id: str
    p_correct: float = Field(description="Predicted probability that it answers correctly.")
    lower_bound: float | None = Field(
        description="p_correct less the doubt about the model's place; null where unknown."
    )
    price_usd_per_mtok: float | None = Field(
        description="What policies count: a million tokens read, plus a million written where "
        "that is known; null where unknown."
    )
    price_in_usd_per_mtok: float | None = Field(description="A million tokens read.")
    stand_ins: list[str] = Field(description="Who answers in its place, nearest first.")
    in_topic: InTopicTold | None = Field(
        description="How it did in the query's topic; null where the query has none, or is far."
    )


class TopicTold(BaseModel):
    """The topic of the published map that a query is most like."""

    name: str = Field(description="Its bucket in the snapshot's routing table.")
    words: list[str] = Field(description="Words that tell it from other topics.")
    n_reference: int = Field(description="Reference queries in it.")
    cosine: float = Field(description="Of the query with the topic's centre.")
    edge: float = Field(
        description="99 % of the queries that topics were learned from have this cosine or more."
    )
    far: bool = Field(description="The cosine is below the edge: no topic is like the query.")


class QueryTold(BaseModel):
    """What was found for one query."""

    choices: list[ChoiceTold] = Field(description="Best first; empty where nobody answers.")
    reason: str | None = Field(
        description="Why the first was chosen (with explain), or why nobody answers."
    )
    topic: TopicTold | None = Field(
        description="What the query is like; null where the snapshot has no topics."
    )


class AwayTold(BaseModel):
    """A model that is unavailable."""

    model_id: str
    would_answer: list[int] = Field(
        description="Positions, from 0, of the queries for which it would have been chosen."
    )
    stand_ins: list[str] = Field(description="Models that may answer, nearest to it first.")


class RouteTold(BaseModel):
    """Who should answer."""

    snapshot_id: str = Field(description="The published snapshot that was read.")
    results: list[QueryTold] = Field(description="One for each query, in their order.")
    away: list[AwayTold] = Field(description="One for each unavailable model.")
    unknown_price: list[str] = Field(
        description="Models left out because the policy counts prices and theirs is unknown."
    )
    cost: float | None = Field(
        description="Prices of the first choices together; null where one is unknown."
    )
    expected: float = Field(description="Right answers expected of the first choices.")


class ModelTold(BaseModel):
    """A model, as OpenAI's API lists them."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="When the snapshot was made, seconds since 1970 (UTC).")
    owned_by: str


class ModelsTold(BaseModel):
    """The pool, then the aliases."""

    object: Literal["list"] = "list"
    data: list[ModelTold]


class HealthTold(BaseModel):
    """How the service is."""

    status: Literal["ok", "degraded", "empty"] = Field(
        description="degraded: what is published can't be used, an older snapshot answers. "
        "empty: no snapshot is loaded (yet)."
    )
    snapshot_id: str | None
    age_seconds: float | None = Field(description="Since the snapshot in use was made.")
    problem: str | None = Field(description="What is wrong; the server's log says more.")


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str


def last_user_text(messages: Iterable[Any]) -> str:
    """Text of the last user message of a chat; empty where there is none.

    Args:
        messages: what OpenAI's API takes; anything malformed counts as no text.
    """
    last: Any = None
    for message in messages:
        if isinstance(message, Mapping) and message.get("role") == "user":
            last = message.get("content")
    if isinstance(last, str):
        return last
    parts = last if isinstance(last, list) else []
    texts = [
        part.get("text")
        for part in parts
        if isinstance(part, Mapping) and part.get("type") in ("text", "input_text")
    ]
    return "\n".join(text for text in texts if isinstance(text, str))
