"""Makes answers as the warehouse hands them over, for the tests of the formats."""

import json
from datetime import UTC, datetime
from typing import Any

import polars as pl

from locus.exports.answers import ANSWERS

TIME = datetime(2025, 3, 4, 5, 6, 7, 89_000, UTC)


def answer(number: int, score: float | None = 1.0, **more: Any) -> dict[str, Any]:
    """One answer to a question of a generation task."""
    question = f"What is {number} plus 1?"
    return {
        "model_id": "org/model",
        "revision": "import",
        "query_id": f"q-{number:024x}",
        "status": "ok" if score is not None else "error",
        "score": score,
        "metric": "exact_match",
        "filter": "strict",
        "metrics": json.dumps({"exact_match,strict": score, "exact_match,loose": 1.0}),
        "response": f"it is {number + 1}",
        "doc_hash": f"d{number}",
        "scored_at": TIME,
        "task": "sums",
        "task_version": "3.0",
        "split": "train",
        "text": question,
        "target": str(number + 1),
        "doc": json.dumps({"question": question, "answer": number + 1}),
        "source_id": str(number),
        "source": "lm-eval-log",
        "output_type": "generate_until",
        "primary_metric": "exact_match",
    } | more


def frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Answers with all columns; what is not given is null."""
    return pl.DataFrame([dict.fromkeys(ANSWERS) | row for row in rows], schema=ANSWERS)
