"""`routing/semantic-router.yaml`: a configuration of vLLM's Semantic Router.

Form: its canonical configuration v0.3 (https://vllm-sr.ai/schemas/router-config-v0.3.schema.json,
also in the package vllm-sr 0.4.0, whose command ``vllm-sr config validate`` checks a file).

The router tells questions by two of its signals here: a topic by its words, and the 14 categories
of its own classifier, where a task's name says one. Other tasks are told by no signal: their scores
are listed, and no decision rests on them.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import yaml

from locus.publication.emit.endpoints import Endpoint
from locus.publication.emit.served import Served, header, slugs
from locus.routing.table import ALL, TASK, TOPIC

VERSION = "v0.3"

CANDIDATES = 5
"""Models of a decision, by rank; the router takes the first."""

# What the router's classifier of domains knows, besides `other`.
_CATEGORIES = (
    "biology", "business", "chemistry", "computer science", "economics", "engineering", "health",
    "history", "law", "math", "philosophy", "physics", "psychology",
)  # fmt: skip
_OPENAI = "https://api.openai.com/"
_BY_CATEGORY, _BY_TOPIC, _BY_DEFAULT = 200, 100, 0


def semantic_router_yaml(served: Served, words: Mapping[str, Sequence[str]]) -> str:
    """The file's content.

    Args:
        served: models with an address, and their ranks; only those that take messages are used.
        words: words of each topic.
    """
    usable = {name: one for name, one in served.endpoints.items() if one.chat and one.base}
    others = sorted({*served.missing, *served.endpoints} - set(usable))
    table = served.table.filter(pl.col("model_id").is_in(list(usable)))
    return header(
        "Configuration of vLLM Semantic Router: vllm-sr serve --config semantic-router.yaml",
        [
            "Scores are lower bounds of accuracy (95 %), or predicted accuracy without bounds.",
            "Keys are read from the environment variables that are named here.",
        ],
        others,
    ) + yaml.safe_dump(semantic_router_config(usable, table, words), sort_keys=False)


def semantic_router_config(
    usable: dict[str, Endpoint], table: pl.DataFrame, words: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """The configuration.

    Args:
        usable: models that the router can ask, by id.
        table: their rows of the routing table.
        words: words of each topic.
    """
    ranked = table.sort("bucket", "rank")
    names = slugs(sorted(table["bucket"].unique()))
    rows = {str(b): part for (b,), part in ranked.group_by("bucket", maintain_order=True)}
    kind = {bucket: part["kind"][0] for bucket, part in rows.items()}
    categories = _categories(rows, kind)
    topics = [b for b in rows if kind[b] == TOPIC and words.get(b)]
    decisions = [
        *(_decision(names[b], rows[b], "domain", _BY_CATEGORY) for b in categories),
        *(_decision(names[b], rows[b], "keyword", _BY_TOPIC) for b in topics),
        *(_decision(names[b], rows[b], None, _BY_DEFAULT) for b in rows if kind[b] == ALL),
    ]
    best = next((rows[b]["model_id"][0] for b in rows if kind[b] == ALL), None)
    return {
        "version": VERSION,
        "listeners": [{"name": "locus", "address": "127.0.0.1", "port": 8899, "timeout": "300s"}],
        "providers": {
            "defaults": {"model": best} if best else {},
            "models": [_provider(one, table) for one in usable.values()],
        },
        "routing": {
            "modelCards": [{"name": name} for name in usable],
            "signals": {
                "keywords": [
                    {"name": names[b], "operator": "OR", "keywords": list(words[b])} for b in topics
                ],
                "domains": [
                    _domain(b, names[b], rows[b], categories.get(b))
                    for b in rows
                    if kind[b] == TASK
                ],
            },
            "decisions": decisions,
        },
    }


def _provider(one: Endpoint, table: pl.DataFrame) -> dict[str, Any]:
    base = str(one.base)
    backend: dict[str, Any] = {
        "name": "primary",
        "provider": "openai" if base.startswith(_OPENAI) else "vllm",
        "base_url": base,
    }
    if one.key_variable is not None:
        backend["api_key_env"] = one.key_variable
    entry: dict[str, Any] = {
        "name": one.model_id,
        "provider_model_id": one.name,
        "backend_refs": [backend],
    }
    row = table.filter(model_id=one.model_id).row(0, named=True)
    prices = row["price_in_usd_per_mtok"], row["price_out_usd_per_mtok"]
    if None not in prices:
        entry["pricing"] = {
            "currency": "USD", "prompt_per_1m": prices[0], "completion_per_1m": prices[1],
        }  # fmt: skip
    return entry


def _categories(rows: dict[str, pl.DataFrame], kind: dict[str, str]) -> dict[str, str]:
    """The tasks that stand for a category of the router: of those named so, the largest."""
    largest: dict[str, tuple[int, str]] = {}
    for bucket in sorted(b for b in rows if kind[b] == TASK):
        category = _category(bucket)
        size = rows[bucket]["n_reference"][0]
        if category is not None and size > largest.get(category, (0, ""))[0]:
            largest[category] = (size, bucket)
    return {bucket: category for category, (_, bucket) in sorted(largest.items())}


def _category(task: str) -> str | None:
    """The one category whose words the task's name holds; None if there is none, or several."""
    said = " " + " ".join(re.findall(r"[a-z]+", task.lower())) + " "
    found = [category for category in _CATEGORIES if f" {category} " in said]
    return found[0] if len(found) == 1 else None


def _domain(task: str, name: str, rows: pl.DataFrame, category: str | None) -> dict[str, Any]:
    domain: dict[str, Any] = {"name": name, "description": _plain(f"Task {task}")}
    if category is not None:
        domain["mmlu_categories"] = [category]
    scores = rows.select("model_id", pl.coalesce("lower_bound", "p_correct"))
    domain["model_scores"] = [
        {"model": model, "score": round(score, 4)} for model, score in scores.iter_rows()
    ]
    return domain


def _decision(name: str, rows: pl.DataFrame, signal: str | None, priority: int) -> dict[str, Any]:
    return {
        "name": name,
        "priority": priority,
        "rules": {
            "operator": "AND",
            "conditions": [] if signal is None else [{"type": signal, "name": name}],
        },
        "modelRefs": [
            {"model": model, "use_reasoning": False} for model in rows["model_id"].head(CANDIDATES)
        ],
        "algorithm": {"type": "static"},
    }


def _plain(text: str) -> str:
    """Letters, digits and a little else: a task's name is a stranger's text."""
    return re.sub(r"[^\w .:/+-]+", " ", text)[:200].strip()
