"""What lm-eval logs of a question, as a row of `locus.frames.SCORES`."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from locus.evaluation.asked import FAULT
from locus.evaluation.questions import HarnessError, Identities, Question, primary_metric
from locus.evaluation.service import SEVERITY, Outcome
from locus.ids import QueryId

Sample = Mapping[str, Any]


@dataclass(frozen=True)
class Scoring:
    """Which of a task's values is the score.

    Attributes:
        task: the loaded task.
        metric: its metric.
        filter: the filter that the answer went through.
    """

    task: Any
    metric: str
    filter: str

    @classmethod
    def of(cls, task: Any, wanted: str | None) -> "Scoring":
        """See `primary_metric`."""
        return cls(task, *primary_metric(task, wanted))

    def fault(self, what: str) -> HarnessError:
        """The metric is none that can be a score."""
        return HarnessError(
            f"task {self.task.config.task!r}: metric {self.metric!r} gave {what}, and a score is a "
            "number from 0 to 1; name another metric in locus.toml, or list another first in the "
            "task's metric_list"
        )


def grouped(
    task: Any, samples: Iterable[Sample], asked: Iterable[Question]
) -> dict[QueryId, list[Sample]]:
    """Rows of each question (one per filter), identified by their documents.

    Raises:
        HarnessError: they are not of exactly the questions that were asked.
    """
    asked = list(asked)
    identities = Identities(task, asked)
    found: dict[QueryId, list[Sample]] = defaultdict(list)
    for sample in samples:
        found[identities.of(sample["doc"])].append(sample)
    wanted = {q.query_id for q in asked}
    if set(found) != wanted:
        raise HarnessError(
            f"task {task.config.task!r}: asked {len(wanted)} queries, {len(wanted - set(found))} "
            f"of them were not answered and {len(set(found) - wanted)} others were; nothing "
            "is kept. Take the task out of `tasks` in locus.toml, and tell whoever wrote it"
        )
    return found


def check_metric(scoring: Scoring, samples: Iterable[Sample]) -> None:
    """Check that a metric that a task lists is one that it gives.

    Raises:
        HarnessError: of several documents that were scored, none has it.
    """
    scored = [s for s in samples if s["filter"] == scoring.filter and FAULT not in s["metrics"]]
    if len(scored) > 1 and not any(scoring.metric in s["metrics"] for s in scored):
        given = sorted({name for s in scored for name in s["metrics"]})
        raise HarnessError(
            f"task {scoring.task.config.task!r} lists metric {scoring.metric!r} and does not give "
            f"it for single documents: it gives {', '.join(given) or 'none'}; name one of them as "
            "`metric` of the task in locus.toml"
        )


def local_row(lm: Any, scoring: Scoring, samples: Sequence[Sample]) -> dict[str, Any]:
    """A question that a model was asked that can't fail; its scoring can."""
    tokens_in, tokens_out = _tokens(lm, scoring.task, samples[0])
    return {
        **_frame_of(scoring, samples[0]),
        "response": _response(scoring.task, samples[0]),
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        **scored_fields(scoring, samples),
    }


def service_row(
    scoring: Scoring, samples: Sequence[Sample], outcomes: Sequence[Outcome]
) -> dict[str, Any]:
    """A question that a service was asked: its status is the worst of its requests'."""
    worst = max(outcomes, key=lambda outcome: SEVERITY.index(outcome.status))
    read = [o.tokens_in for o in outcomes]
    written = [o.tokens_out for o in outcomes]
    row = {
        **_frame_of(scoring, samples[0]),
        "status": worst.status,
        "detail": worst.detail,
        "tokens_in": None if None in read else sum(n for n in read if n is not None),
        "tokens_out": None if None in written else sum(n for n in written if n is not None),
        "latency_ms": sum(o.latency_ms for o in outcomes),
    }
    if worst.status == "ok":
        response = _response(scoring.task, samples[0])
        return {**row, "response": response, **scored_fields(scoring, samples)}
    said = worst.value if isinstance(worst.value, str) else None
    return {**row, "score": None, "metrics": None, "response": said}


def scored_fields(scoring: Scoring, samples: Sequence[Sample]) -> dict[str, Any]:
    """Status, score and all metrics of a question that was answered."""
    metrics = {
        f"{name},{sample['filter']}": number
        for sample in samples
        for name in sample["metrics"]
        if (number := _number(sample[name])) is not None and math.isfinite(number)
    }
    kept = json.dumps(metrics, sort_keys=True)
    sample = next(s for s in samples if s["filter"] == scoring.filter)
    if FAULT in sample["metrics"]:
        return _unscored(sample[FAULT], kept)
    value = sample[scoring.metric] if scoring.metric in sample["metrics"] else None
    score = _number(value)
    if value is None or (score is not None and math.isnan(score)):
        return _unscored(f"metric {scoring.metric} gave {value}", kept)
    if score is None:
        raise scoring.fault(f"a value of type {type(value).__name__}")
    if not 0 <= score <= 1:
        raise scoring.fault(repr(score))
    return {"status": "ok", "score": score, "metrics": kept}


def _unscored(why: str, metrics: str) -> dict[str, Any]:
    return {"status": "error", "score": None, "detail": why, "metrics": metrics}


def _number(value: Any) -> float | None:
    """A number of Python's or numpy's; None for anything else."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    return float(value) if isinstance(value, int | float) else None


def _frame_of(scoring: Scoring, sample: Sample) -> dict[str, Any]:
    """What a row says whatever came of it."""
    return {
        "metric": scoring.metric,
        "filter": scoring.filter,
        "doc_hash": sample["doc_hash"],
        "prompt_hash": sample["prompt_hash"],
        "target_hash": sample["target_hash"],
        "scored_at": datetime.now(UTC),
    }


def _response(task: Any, sample: Sample) -> str:
    """What the model answered: its text, or for multiple choice the log-likelihoods as JSON."""
    if task.OUTPUT_TYPE == "generate_until":
        return str(sample["resps"][0][0])
    return json.dumps(sample["resps"], default=str)


def _tokens(lm: Any, task: Any, sample: Sample) -> tuple[int | None, int | None]:
    """Tokens read and written by the local tokenizer; None where there is none."""
    encode = getattr(lm, "tok_encode", None)
    if encode is None:
        return None, None
    generates = task.OUTPUT_TYPE == "generate_until"
    read = sum(
        len(encode(str(a[0]) if generates else str(a[0]) + str(a[1])))
        for a in sample["arguments"]
        if len(a) > 1
    )
    written = sum(len(encode(str(r[0]))) for r in sample["resps"]) if generates else 0
    return read, written
