"""What a worker process is asked to do, as a JSON file: the one thing that passes to it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


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
class EvaluationRequest:
    """Ask one model some queries.

    Attributes:
        run_id: the evaluation run that the scores belong to.
        model_id: the model, as the registry calls it.
        revision: its revision.
        backend: lm-eval backend.
        args: arguments of that backend.
        queries: query ids to ask, by task.
        task_folders: folders of task configurations.
        parts: folder that answers are written to.
        chunk_size: queries of one part; a crash costs one chunk at most.
        batch_size: sequences of one forward pass.
        device: torch device; None picks CUDA where there is one.
        price_in_usd_per_mtok: price of a million tokens read; None where unknown.
        price_out_usd_per_mtok: price of a million tokens written.
        patience: how long a service is waited for; local models take no notice.
    """

    run_id: str
    model_id: str
    revision: str
    backend: str
    args: dict[str, Any]
    queries: dict[str, list[str]]
    parts: str
    task_folders: list[str] = field(default_factory=list)
    chunk_size: int = 256
    batch_size: int = 32
    device: str | None = None
    price_in_usd_per_mtok: float | None = None
    price_out_usd_per_mtok: float | None = None
    patience: Patience = field(default_factory=Patience)

    @property
    def n_queries(self) -> int:
        """Queries in all."""
        return sum(map(len, self.queries.values()))

    def settings(self) -> dict[str, Any]:
        """What decides an answer besides model and query: part of a part's name."""
        return {"backend": self.backend, "args": self.args, "num_fewshot": "as the task says"}

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "EvaluationRequest":
        """Read what `write` wrote."""
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**content, "patience": Patience(**content.get("patience", {}))})
