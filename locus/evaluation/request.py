"""What a worker process is asked to do, as a JSON file: the one thing that passes to it."""

import json
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from locus.durable import whole_file
from locus.prices import Price


@dataclass(frozen=True)
class Patience:
    """How long a service is waited for; no part of what decides an answer.

    Attributes:
        timeout_s: seconds for one attempt, all of it.
        attempts: attempts of one request.
        wait_s: seconds before the second attempt, doubled for each further one, then jittered.
        longest_wait_s: no wait is longer; a service that asks for more is not waited for.
        stop_after: failed requests in a row after which the model is given up until the next run.
    """

    timeout_s: float = 120.0
    attempts: int = 4
    wait_s: float = 1.0
    longest_wait_s: float = 60.0
    stop_after: int = 8


@dataclass(frozen=True)
class Rate:
    """How often a service may be asked.

    Attributes:
        requests_per_minute: requests within a minute; None for no limit.
        tokens_per_minute: tokens read and written within a minute; None for no limit.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


@dataclass(frozen=True)
class Conditions:
    """How questions are put and answers scored: part of what decides a score.

    Attributes:
        chat_template: put questions through the tokenizer's chat template; services of chat always
            get messages.
        system_instruction: what the model is told before every question.
        num_fewshot: examples before a question, by task, instead of the number that the task says.
        metrics: metric that is the score, by task, as ``metric`` or ``metric,filter``, instead of
            the first that the task lists.
    """

    chat_template: bool = False
    system_instruction: str | None = None
    num_fewshot: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationRequest:
    """Ask one model some queries.

    Attributes:
        run_id: the evaluation run that the scores belong to.
        model_id: the model, as the registry calls it.
        revision: its revision.
        backend: lm-eval backend.
        args: arguments of that backend.
        queries: query ids to ask, by task.
        places: where queries stood among their task's documents when it was catalogued; only where
            to look first.
        task_folders: folders of task configurations.
        parts: folder that answers are written to.
        chunk_size: queries of one part; a crash costs one chunk at most.
        batch_size: sequences of one forward pass.
        device: torch device; None picks CUDA where there is one.
        prices: what tokens cost, and since when; empty where unknown.
        conditions: how questions are put and answers scored.
        patience: how long a service is waited for; local models take no notice.
        rate: how often a service may be asked; local models take no notice.
        trusted_code: whether code that comes with the model may run.
    """

    run_id: str
    model_id: str
    revision: str
    backend: str
    args: dict[str, Any]
    queries: dict[str, list[str]]
    parts: str
    places: dict[str, int] = field(default_factory=dict)
    task_folders: list[str] = field(default_factory=list)
    chunk_size: int = 256
    batch_size: int = 32
    device: str | None = None
    prices: tuple[Price, ...] = ()
    conditions: Conditions = field(default_factory=Conditions)
    patience: Patience = field(default_factory=Patience)
    rate: Rate = field(default_factory=Rate)
    trusted_code: bool = False

    @property
    def n_queries(self) -> int:
        """Queries in all."""
        return sum(map(len, self.queries.values()))

    def settings(self) -> dict[str, Any]:
        """What decides an answer besides model and query: part of a part's name."""
        return {"backend": self.backend, "args": self.args, **asdict(self.conditions)}

    def write(self, path: Path) -> None:
        """Write it as JSON, whole or not at all: the next run reads what a killed one has left."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), indent=1, default=_iso)
        with whole_file(path) as stream:
            stream.write((text + "\n").encode())

    @classmethod
    def read(cls, path: Path) -> "EvaluationRequest":
        """Read what `write` wrote."""
        content = json.loads(path.read_text(encoding="utf-8"))
        # Of a version before these were there, as after an update in the middle of a night.
        for gone in ("price_in_usd_per_mtok", "price_out_usd_per_mtok"):
            content.pop(gone, None)
        return cls(
            **{
                **content,
                "prices": tuple(map(_price, content.get("prices", ()))),
                "conditions": Conditions(**content.get("conditions", {})),
                "patience": Patience(**content.get("patience", {})),
                "rate": Rate(**content.get("rate", {})),
            }
        )


def _iso(value: Any) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{value!r} is nothing for JSON")


def _price(content: dict[str, Any]) -> Price:
    since = content["valid_from"]
    return Price(**{**content, "valid_from": None if since is None else date.fromisoformat(since)})
