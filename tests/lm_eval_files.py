"""Makes folders of lm-evaluation-harness output for the tests of its reader."""

import json
from pathlib import Path
from typing import Any

STAMP = "2025-03-04T05-06-07.089000"


def generated(doc_id: int, value: Any, filter_name: str | None = "strict-match") -> dict[str, Any]:
    """A record of a generation task that is scored by exact_match."""
    record = {
        "doc_id": doc_id,
        "doc": {"question": f"What is {doc_id} plus 1?", "answer": str(doc_id + 1)},
        "target": str(doc_id + 1),
        "arguments": {
            "gen_args_0": {
                "arg_0": f"Question: 1?\nAnswer: 2\n\nQuestion: What is {doc_id} plus 1?\nAnswer:",
                "arg_1": {"until": ["Question:"]},
            }
        },
        "resps": [[f"it is {doc_id + 1}"]],
        "filtered_resps": [str(doc_id + 1)],
        "doc_hash": f"d{doc_id}",
        "prompt_hash": f"p{doc_id}",
        "target_hash": f"t{doc_id}",
        "exact_match": value,
    }
    if filter_name is not None:
        record |= {"filter": filter_name, "metrics": ["exact_match"]}
    return record


def rated(doc_id: int, acc: Any, **more: Any) -> dict[str, Any]:
    """A record of a multiple-choice task in the form of older versions: arguments are lists."""
    prompt = f"Q: pick number {doc_id}\nA:"
    return {
        "doc_id": doc_id,
        "doc": {"query": f"pick number {doc_id}", "choices": ["red", "green"], "gold": 1},
        "target": 1,
        "arguments": [[prompt, " red"], [prompt, " green"]],
        "resps": [[["-1.5", "False"]], [["-0.5", "True"]]],
        "filtered_resps": [["-1.5", "False"], ["-0.5", "True"]],
        "doc_hash": f"d{doc_id}",
        "acc": acc,
    } | more


def write_samples(
    folder: Path, task: str, records: list[Any], stamp: str = STAMP, end: str = "\n"
) -> Path:
    """Write records, or lines as they are, as a samples file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"samples_{task}_{stamp}.jsonl"
    lines = [r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in records]
    path.write_bytes(("\n".join(lines) + end).encode())
    return path


def write_results(
    folder: Path,
    name: str | None = "org/model",
    stamp: str = STAMP,
    tasks: dict[str, dict[str, Any]] | None = None,
    **more: Any,
) -> Path:
    """Write a results file. ``tasks``: task -> its configuration; the version is 3.0 for all."""
    folder.mkdir(parents=True, exist_ok=True)
    tasks = tasks or {}
    path = folder / f"results_{stamp}.json"
    content: dict[str, Any] = {
        "results": {task: {"alias": task} for task in tasks},
        "configs": tasks,
        "versions": dict.fromkeys(tasks, 3.0),
        "n-shot": dict.fromkeys(tasks, 5),
        "config": {"model": "hf", "model_args": f"pretrained={name},dtype=auto", "limit": 10.0},
        "date": 1741064767.5,
        "lm_eval_version": "0.4.13",
        "git_hash": "abc",
        "chat_template_sha": "cafe",
        "model_source": "hf",
        "model_name": name,
    }
    path.write_text(json.dumps(content | more))
    return path


GSM8K = {
    "gsm8k": {
        "task": "gsm8k",
        "output_type": "generate_until",
        "metric_list": [{"metric": "exact_match", "aggregation": "mean"}],
        "filter_list": [{"name": "strict-match"}, {"name": "flexible-extract"}],
    }
}
