"""Configurations of other routers: LiteLLM itself reads and follows one; the other has its form."""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
import pytest
import yaml
from openai_server import MODEL, serving
from pydantic import BaseModel, ConfigDict, Field

from locus.publication.emit.endpoints import endpoints
from locus.publication.emit.litellm import NO_KEY, litellm_yaml
from locus.publication.emit.semantic_router import semantic_router_yaml
from locus.publication.emit.served import Served, served
from locus.registry import load_registry
from locus.routing.table import Bucket, routing_table, task_buckets

HOSTILE = "gsm8k\n- evil: ${HOME}`#"
TASKS = ["mmlu_physics", "mmlu_physics", "GSM8K", HOSTILE, "gsm8k"]
# In order of their ranks among all queries.
MODELS = ["org/best:1", "locus-best", "org/text", "org/local", "os.environ/PATH"]
STAND_INS = {"org/best:1": ["org/local", "org/text", "locus-best"]}


def registry(folder: Path, broken: str, well: str) -> Path:
    chat = {"backend": "local-chat-completions"}
    models: list[dict[str, Any]] = [
        {
            "id": "org/best:1", **chat,
            "args": {"model": MODEL, "base_url": f"{broken}/chat/completions"},
        },
        {
            "id": "locus-best", **chat,
            "args": {
                "model": MODEL, "base_url": f"{well}/chat/completions",
                "api_key_env": "WELL_API_KEY",
            },
        },
        {
            "id": "org/text", "backend": "local-completions",
            "args": {
                "model": MODEL, "base_url": f"{well}/completions", "api_key_env": "WELL_API_KEY"
            },
        },
        {"id": "org/local", "args": {"pretrained": "org/local"}, "revision": "0" * 40},
        {
            "id": "os.environ/PATH", **chat,
            "args": {"model": MODEL, "base_url": f"{well}/chat/completions"},
        },
        {"id": "org/unplaced", "backend": "openai-chat-completions", "args": {"model": "large"}},
    ]  # fmt: skip
    path = folder / "models.yaml"
    path.write_text(yaml.safe_dump({"models": models}))
    return path


def known(path: Path) -> Served:
    p_TM = np.tile(np.array([0.9, 0.89, 0.7, 0.6, 0.5], dtype=np.float32), (len(TASKS), 1))
    p_TM[:2] = [0.8, 0.79, 0.95, 0.6, 0.5]  # the third is first in physics
    models = pl.DataFrame(
        {
            "model_id": MODELS,
            "price_in_usd_per_mtok": [2.0, 1.0, None, None, None],
            "price_out_usd_per_mtok": [2.0, 1.0, None, None, None],
        }
    )
    queries = pl.DataFrame({"query_id": [f"q{n}" for n in range(len(TASKS))], "task": TASKS})
    scores = pl.DataFrame(
        schema={"model_id": pl.String, "query_id": pl.String, "score": pl.Float64}
    )
    topic = Bucket("topic 01", "topic", np.array([0, 2]), ("sum", "digits"))
    table = routing_table(models, queries, p_TM, scores, buckets=[*task_buckets(TASKS), topic])
    return served(table, endpoints(load_registry(path)))


def test_litellm_asks_the_stand_in_when_the_best_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("litellm", reason="LiteLLM is not installed")
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # asks nobody
    monkeypatch.setenv("WELL_API_KEY", "of the well one")
    monkeypatch.setenv("OPENAI_API_KEY", "never to be sent")
    from litellm import Router

    with serving() as broken, serving(key="of the well one") as well:
        text = litellm_yaml(known(registry(tmp_path, broken.root, well.root)), STAND_INS)
        config = yaml.safe_load(text)
        names = [entry["model_name"] for entry in config["model_list"]]
        assert names == ["locus-best", "org/best:1", "org/text"]
        assert '#   "org/local"\n#   "os.environ/PATH"\nmodel_list:' in text
        assert "of the well one" not in text
        router = Router(model_list=config["model_list"], **config["router_settings"], num_retries=0)

        def ask(model: str) -> str:
            message = {"role": "user", "content": "What comes after 41 is 42"}
            return str(
                router.completion(model=model, messages=[message]).choices[0].message.content
            )

        aliases = config["router_settings"]["model_group_alias"]
        # A model has the first name already, and two tasks are called alike.
        assert aliases["locus-best-locus"] == "org/best:1"
        assert aliases["locus-cheap"] == "locus-best"
        assert aliases["locus-best-mmlu-physics"] == "org/text"
        assert len(aliases) == 3 + 3
        broken.fail("500")
        fallbacks = {k: v for one in config["router_settings"]["fallbacks"] for k, v in one.items()}
        assert fallbacks["org/best:1"] == ["org/text", "locus-best"]  # nearest first
        assert fallbacks["locus-best-locus"] == ["locus-best", "org/text"]  # by rank
        assert ask("org/best:1") == "42"
        assert "prompt" in well.asked[-1][1]  # the text service, by its own path
        assert ask("locus-best-locus") == "42"
        assert "messages" in well.asked[-1][1]
        assert ask("locus-best-mmlu-physics") == "42"
        assert {key for _, _, key in broken.asked} == {f"Bearer {NO_KEY}"}
        assert len(well.asked) == 3


# The fields that are used of https://vllm-sr.ai/schemas/router-config-v0.3.schema.json, and what
# `vllm-sr config validate` (package vllm-sr 0.4.0) asks of them.
class Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Listener(Form):
    name: str
    address: str
    port: int
    timeout: str


class BackendRef(Form):
    name: str
    provider: Literal["openai", "vllm"]
    base_url: Annotated[str, Field(pattern="^https?://")]
    api_key_env: str | None = None


class Pricing(Form):
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    prompt_per_1m: Annotated[float, Field(ge=0)]
    completion_per_1m: Annotated[float, Field(ge=0)]


class ProviderModel(Form):
    name: str
    provider_model_id: str
    backend_refs: Annotated[list[BackendRef], Field(min_length=1)]
    pricing: Pricing | None = None


class Defaults(Form):
    model: str | None = None


class Providers(Form):
    defaults: Defaults
    models: list[ProviderModel]


class Card(Form):
    name: str


class Keyword(Form):
    name: str
    operator: Literal["AND", "OR", "NOR"]
    keywords: Annotated[list[str], Field(min_length=1)]


class ModelScore(Form):
    model: str
    score: Annotated[float, Field(ge=0, le=1)]


class Domain(Form):
    name: str
    description: str
    mmlu_categories: list[str] | None = None
    model_scores: list[ModelScore]


class Signals(Form):
    keywords: list[Keyword]
    domains: list[Domain]


class Condition(Form):
    type: Literal["domain", "keyword"]
    name: str


class Rules(Form):
    operator: Literal["AND", "OR", "NOT"]
    conditions: list[Condition]


class ModelRef(Form):
    model: str
    use_reasoning: bool


class Algorithm(Form):
    type: Literal["static"]


class Decision(Form):
    name: str
    priority: int
    rules: Rules
    modelRefs: Annotated[list[ModelRef], Field(min_length=1)]
    algorithm: Algorithm


class Routing(Form):
    modelCards: list[Card]
    signals: Signals
    decisions: list[Decision]


class Configuration(Form):
    version: Literal["v0.3"]
    listeners: list[Listener]
    providers: Providers
    routing: Routing


def test_semantic_router_has_the_published_form(tmp_path: Path) -> None:
    pool = known(registry(tmp_path, "http://127.0.0.1:1/v1", "https://well.example/v1"))
    text = semantic_router_yaml(pool, {"topic 01": ["sum", "digits"]})
    config = Configuration.model_validate(yaml.safe_load(text))
    provided = {model.name: model for model in config.providers.models}
    # The text service is not asked: it isn't known to take messages.
    assert list(provided) == ["locus-best", "org/best:1"]
    assert provided["locus-best"].backend_refs[0].base_url == "https://well.example/v1"
    assert provided["locus-best"].backend_refs[0].api_key_env == "WELL_API_KEY"
    assert [card.name for card in config.routing.modelCards] == list(provided)
    assert config.providers.defaults.model == "org/best:1"
    signals = config.routing.signals
    names = {
        "keyword": {one.name for one in signals.keywords},
        "domain": {one.name for one in signals.domains},
    }
    said = [(d.name, [c.type for c in d.rules.conditions]) for d in config.routing.decisions]
    assert said == [("mmlu-physics", ["domain"]), ("topic-01", ["keyword"]), ("all", [])]
    priorities = [decision.priority for decision in config.routing.decisions]
    assert priorities == sorted(priorities, reverse=True)
    for decision in config.routing.decisions:
        assert all(c.name in names[c.type] for c in decision.rules.conditions)
        assert {ref.model for ref in decision.modelRefs} <= set(provided)
    physics = next(one for one in signals.domains if one.name == "mmlu-physics")
    assert physics.mmlu_categories == ["physics"]
    assert [(s.model, s.score) for s in physics.model_scores] == [
        ("org/best:1", 0.8), ("locus-best", 0.79)
    ]  # fmt: skip
    assert len(names["domain"]) == 4
    assert all(one.mmlu_categories is None for one in signals.domains if one is not physics)
    assert "$" not in text
    assert "evil:" not in [line.split()[0] for line in text.splitlines() if line.split()]


def test_without_any_address_both_say_so(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text("models: []\n")
    pool = known(tmp_path / "models.yaml")
    assert yaml.safe_load(litellm_yaml(pool, {})) == {
        "model_list": [],
        "router_settings": {"model_group_alias": {}, "fallbacks": []},
    }
    config = Configuration.model_validate(yaml.safe_load(semantic_router_yaml(pool, {})))
    assert (config.providers.models, config.routing.decisions) == ([], [])
    assert "(5):" in litellm_yaml(pool, {})
