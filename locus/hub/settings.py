"""What is watched, and what others may send: `[watch]` and `[webhook]` of `locus.toml`."""

from datetime import date
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

_Text = Annotated[str, Field(min_length=1, max_length=200)]


class WatchSettings(BaseModel):
    """Which models of the hub are taken."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    authors: list[_Text] = Field(
        default_factory=list, description="users and organisations whose models are looked at"
    )
    search: list[_Text] = Field(
        default_factory=list,
        description="texts that a model's name contains; with authors, among each one's models",
    )
    filters: list[_Text] = Field(
        default_factory=list,
        description="tags of the hub that a model must all have, such as text-generation",
    )
    allow: list[_Text] = Field(
        default_factory=list,
        description="patterns such as org/*-instruct, one of which a model's id must match; empty: "
        "any id",
    )
    deny: list[_Text] = Field(
        default_factory=list, description="patterns of ids that are left out, whatever else holds"
    )
    most_params_b: PositiveFloat | None = Field(
        default=None,
        description="most parameters, in billions; with it, a model whose size the hub doesn't "
        "tell is left out",
    )
    licenses: list[_Text] = Field(
        default_factory=list,
        description="licences that are taken, as the hub writes them, such as apache-2.0; empty: "
        "any",
    )
    created_after: date | None = Field(
        default=None, description="only models whose repository is from this day (UTC) or later"
    )
    newest: PositiveInt = Field(
        default=20,
        description="models looked at per author and search text in one poll, the newest first",
    )
    follow_revisions: bool = Field(
        default=False,
        description="put a new commit of a watched model into models.yaml, which asks it anew",
    )
    chat_template: bool = Field(
        default=True, description="ask a model through its chat template where it has one"
    )
    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s/@]+(/\S*)?$",
        description="address of the hub; empty: HF_ENDPOINT, or huggingface.co",
    )
    request_timeout_seconds: PositiveFloat = Field(
        default=30, description="longest wait for one whole answer of the hub"
    )
    request_attempts: PositiveInt = Field(
        default=3, description="times a request is sent before it counts as failed"
    )

    @property
    def enabled(self) -> bool:
        """Whether there is anything to look for: an author, a search text or a filter."""
        return bool(self.authors or self.search or self.filters)


class WebhookSettings(BaseModel):
    """What the webhook accepts. Its secret is no setting: it comes from the environment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backends: list[_Text] = Field(
        default_factory=lambda: ["hf", "vllm"],
        description="backends that a sent model may name. A backend of a service sends questions, "
        "and its key, to the address that the sender names",
    )
    wrong_secrets_per_minute: PositiveInt = Field(
        default=10, description="wrong secrets from one address after which it is refused a while"
    )
