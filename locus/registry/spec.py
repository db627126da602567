"""One model of the registry: its fields, what each must be, and what follows from them."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from locus.budget import Budget
from locus.evaluation.backends import WEIGHTS, check_arguments
from locus.ids import MODEL_ID_MAX, model_id
from locus.prices import Price, price_on
from locus.registry.faults import is_text, shown
from locus.registry.revision import folder_of, folder_revision

Scalar = str | int | float | bool
BACKEND = r"^[a-z][a-z0-9_-]{0,40}$"
RELEASED = r"^\d{4}(-\d{2}(-\d{2})?)?$"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_WHOLE_MOST = 2**63 - 1
_PRICE_FIELDS = tuple(field.name for field in fields(Price))


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number, and larger than any other
        return False


def _price(value: Any) -> Price:
    """A price as it stands in YAML."""
    entry = asdict(value) if isinstance(value, Price) else value
    if not isinstance(entry, Mapping):
        raise ValueError(
            "a price is written as {in_usd_per_mtok: 0.1, out_usd_per_mtok: 0.3, valid_from: "
            "2026-01-01}"
        )
    unknown = [name for name in entry if name not in _PRICE_FIELDS]
    if unknown:
        raise ValueError(f"{shown(unknown[0])} is no part of a price: {', '.join(_PRICE_FIELDS)}")
    numbers = []
    for name in ("in_usd_per_mtok", "out_usd_per_mtok"):
        if name not in entry:
            raise ValueError(f"{name} is missing")
        number = entry[name]
        if (
            isinstance(number, bool)
            or not isinstance(number, int | float)
            or not _is_finite(number)
            or number < 0
        ):
            raise ValueError(f"{name} is a finite number, 0 or more, not {shown(number)!r}")
        numbers.append(float(number))
    return Price(numbers[0], numbers[1], _day(entry.get("valid_from")))


def _day(value: Any) -> date | None:
    """A day, as YAML reads it unquoted (a date) or quoted (text)."""
    if value is None or (isinstance(value, date) and not isinstance(value, datetime)):
        return value
    if isinstance(value, str) and _DAY.fullmatch(value):
        try:
            return date.fromisoformat(value)
        except ValueError as error:
            raise ValueError(f"valid_from: there is no day {value}") from error
    raise ValueError(f"valid_from is a day such as 2026-01-31, not {shown(value)!r}")


def _arguments(value: Any) -> Any:
    """Arguments that are names with plain values; a value is never repeated, it may be a key."""
    if not isinstance(value, Mapping):
        raise ValueError("args are names and values, such as {pretrained: ./models/x}")
    for name, one in value.items():
        if not isinstance(name, str) or not name or not is_text(name):
            raise ValueError("a name of an argument is text")
        if not isinstance(one, str | int | float | bool):
            raise ValueError(
                f"{name} is a text, a number, true or false, not {type(one).__name__}; text that "
                "looks like something else goes in quotes"
            )
        if isinstance(one, str) and not is_text(one):
            raise ValueError(f"{name} holds half of a character, so it is no text")
        if isinstance(one, int) and abs(one) > _WHOLE_MOST:
            raise ValueError(f"{name} is a whole number of more than 64 bits")
    return value


class ModelSpec(BaseModel):
    """A model to watch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(
        max_length=MODEL_ID_MAX,
        description="The model's id, for example org/name. Scores are filed under it for ever.",
    )
    backend: str = Field(
        default="hf",
        pattern=BACKEND,
        description="The lm-eval backend that runs it: hf, vllm, local-completions, "
        "local-chat-completions, openai-chat-completions, or any other that lm-eval has.",
    )
    args: Annotated[dict[str, Scalar], BeforeValidator(_arguments)] = Field(
        default_factory=dict,
        description="What the backend is given. For weights, pretrained: a local folder (relative "
        "to this file) or a hub id. For a service, model, base_url and api_key_env, the name of "
        "the environment variable that holds its key; never the key itself.",
    )
    revision: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Commit of a hub model, 40 hexadecimal digits. A local folder needs none: its "
        "content is its revision. For a service, any text of yours; change it when the model "
        "behind the address has changed, and it is asked anew.",
    )
    params_b: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="Parameters, in billions."
    )
    family: str | None = Field(
        default=None, max_length=200, description="Architecture or lineage, for example qwen3."
    )
    license: str | None = Field(default=None, max_length=200, description="Name of its licence.")
    released: str | None = Field(
        default=None,
        pattern=RELEASED,
        description="Day, month or year of its release: 2026-01-31, 2026-01 or 2026.",
    )
    price_in_usd_per_mtok: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="Price of a million tokens read, in US dollars, if it has never changed; "
        "together with price_out_usd_per_mtok.",
    )
    price_out_usd_per_mtok: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="Price of a million tokens written, in US dollars, if it has never changed.",
    )
    prices: tuple[Annotated[Price, BeforeValidator(_price)], ...] = Field(
        default=(),
        description="Prices with their first days (UTC), where they have changed; instead of the "
        "two above. A score costs what was valid on its day.",
    )
    chat_template: bool = Field(
        default=False,
        description="Put questions through the tokenizer's chat template. Services of chat always "
        "get messages.",
    )
    system_instruction: str | None = Field(
        default=None,
        min_length=1,
        max_length=20_000,
        description="What the model is told before every question.",
    )
    budget: Budget = Field(
        default=Budget(),
        description="The most that one run may spend on this model; what is left out is not "
        "limited by it.",
    )

    @field_validator("id")
    @classmethod
    def _valid_id(cls, value: str) -> str:
        return model_id(value)

    @field_validator("released", mode="before")
    @classmethod
    def _date_as_text(cls, value: Any) -> Any:
        """YAML reads 2026-01-01 as a date and 2026 as a number."""
        if isinstance(value, date) and not isinstance(value, datetime):
            return value.isoformat()
        return str(value) if type(value) is int else value

    @field_validator("prices")
    @classmethod
    def _one_price_a_day(cls, value: tuple[Price, ...]) -> tuple[Price, ...]:
        days = [price.valid_from for price in value]
        twice = next((day for day in days if days.count(day) > 1), None)
        if len(set(days)) < len(days):
            said = f"{twice} is the first day" if twice else "no first day is given"
            raise ValueError(f"{said} of more than one price; give each its own valid_from")
        return value

    @field_validator("budget")
    @classmethod
    def _finite_budget(cls, value: Budget) -> Budget:
        for name, limit in asdict(value).items():
            if limit is not None and not _is_finite(limit):
                raise ValueError(
                    f"{name} is {shown(limit)}, which is no finite number; leave it out"
                )
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "ModelSpec":
        if "revision" in self.args:
            raise ValueError("args.revision is refused: write `revision` beside `args`, not in it")
        check_arguments(self.backend, self.args)
        commit = _COMMIT.fullmatch(self.revision or "")
        if self.backend in WEIGHTS and self.local_folder is None and not commit:
            raise ValueError(
                f"{self.args['pretrained']!r} is no local folder, and a hub model needs "
                "`revision`, the 40 digits of a commit, so that it can't change unseen"
            )
        given = [self.price_in_usd_per_mtok, self.price_out_usd_per_mtok]
        if self.prices and given != [None, None]:
            raise ValueError(
                "prices stand beside price_in_usd_per_mtok or price_out_usd_per_mtok: give either "
                "the list or the two"
            )
        if given.count(None) == 1:
            lacking = "in" if given[0] is None else "out"
            raise ValueError(
                f"price_{lacking}_usd_per_mtok is missing: both prices are given, or none"
            )
        return self

    @property
    def org(self) -> str | None:
        """What stands before the first slash of the id."""
        return self.id.split("/")[0] if "/" in self.id else None

    @property
    def local_folder(self) -> Path | None:
        """The folder of a model whose weights are here; None for everything else."""
        pretrained = self.args.get("pretrained")
        if self.backend not in WEIGHTS or not isinstance(pretrained, str):
            return None
        return folder_of(pretrained)

    def backend_args(self) -> dict[str, Scalar]:
        """What the backend is given: `args`, and the commit of a hub model."""
        if self.backend not in WEIGHTS or self.local_folder is not None:
            return dict(self.args)
        pinned: dict[str, Scalar] = {**self.args, "revision": str(self.revision)}
        if self.backend.startswith("vllm") and "tokenizer" not in self.args:
            # Left to itself, lm-eval takes the tokenizer of the newest commit.
            pinned.setdefault("tokenizer_revision", str(self.revision))
        return pinned

    def price_list(self) -> tuple[Price, ...]:
        """Its prices, those of no known first day first; empty where unknown."""
        if self.prices:
            return tuple(sorted(self.prices, key=lambda p: p.valid_from or date.min))
        if self.price_in_usd_per_mtok is None or self.price_out_usd_per_mtok is None:
            return ()
        return (Price(self.price_in_usd_per_mtok, self.price_out_usd_per_mtok),)

    def price_now(self, day: date) -> Price | None:
        """The price on a day (UTC); None where none is known for it."""
        return price_on(self.price_list(), day)

    def resolved_revision(self) -> str:
        """The revision that scores are filed under.

        The commit of a hub model, the content of a local folder; for another backend the given
        revision, or ``unversioned``.
        """
        folder = self.local_folder
        if folder is not None:
            return folder_revision(folder)
        return self.revision or "unversioned"
