"""The JSON Schema of `models.yaml`, for editors and for whoever writes the file by program.

It says what can be said without looking at the disk: `load_registry` also checks that a local
folder is there, that ids and first days of prices are unique, and what only some backends want.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from locus import ids
from locus.budget import Budget
from locus.evaluation.backends import FORBIDDEN_NAMES, KEY_ARGUMENT, KEY_VARIABLE, SERVICES, WEIGHTS
from locus.prices import Price
from locus.registry.spec import ModelSpec

_COMMIT = "0123456789abcdef0123456789abcdef01234567"
_ADDRESS = "http://127.0.0.1:8000/v1"

# One model a backend, by what it shows.
EXAMPLES: dict[str, dict[str, Any]] = {
    "hf, a local folder": {
        "id": "org/local",
        "args": {"pretrained": "./models/local"},
        "params_b": 1.5,
    },
    "hf, from the hub": {
        "id": "org/hub",
        "backend": "hf",
        "args": {"pretrained": "org/hub", "dtype": "bfloat16"},
        "revision": _COMMIT,
        "chat_template": True,
    },
    "vllm": {
        "id": "org/fast",
        "backend": "vllm",
        "args": {
            "pretrained": "org/fast",
            "tensor_parallel_size": 2,
            "gpu_memory_utilization": 0.9,
        },
        "revision": _COMMIT,
        "chat_template": True,
    },
    "local-completions": {
        "id": "org/served",
        "backend": "local-completions",
        "args": {
            "model": "served",
            "base_url": f"{_ADDRESS}/completions",
            "tokenizer": "./models/served",
        },
    },
    "local-chat-completions": {
        "id": "org/chat",
        "backend": "local-chat-completions",
        "args": {
            "model": "chat-large",
            "base_url": "https://api.example.com/v1/chat/completions",
            "api_key_env": "EXAMPLE_API_KEY",
            "num_concurrent": 8,
        },
        "prices": [
            {"in_usd_per_mtok": 0.5, "out_usd_per_mtok": 1.5},
            {"in_usd_per_mtok": 0.25, "out_usd_per_mtok": 1.0, "valid_from": "2026-03-01"},
        ],
        "budget": {"usd": 2.5, "minutes": 30},
    },
    "openai-chat-completions": {
        "id": "openai/some-model",
        "backend": "openai-chat-completions",
        "args": {"model": "some-model"},
        "system_instruction": "Answer briefly.",
        "price_in_usd_per_mtok": 0.15,
        "price_out_usd_per_mtok": 0.6,
        "released": "2026-01",
    },
    "another backend of lm-eval": {
        "id": "anthropic/some-model",
        "backend": "anthropic-chat-completions",
        "args": {"model": "some-model", "api_key_env": "ANTHROPIC_API_KEY"},
        "revision": "2026-01-31",
        "license": "proprietary",
    },
}


class RegistryFile(BaseModel):
    """Models to watch."""

    model_config = ConfigDict(extra="forbid", title="models.yaml")

    models: list[ModelSpec] = Field(description="The models, in any order; every id once.")


class _Plain(GenerateJsonSchema):
    """Without a title for every field, which would only repeat its name."""

    def field_title_should_be_set(self, schema: core_schema.CoreSchema | Any) -> bool:
        return False


def registry_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a whole `models.yaml`."""
    schema = RegistryFile.model_json_schema(schema_generator=_Plain)
    model, parts = schema["$defs"]["ModelSpec"], {"Price": Price, "Budget": Budget}
    for name, described in parts.items():
        part = schema["$defs"][name]
        part["additionalProperties"] = False
        part["description"] = str(described.__doc__).split("\n")[0]
        for field, text in _attribute_docs(described).items():
            part["properties"][field]["description"] = text
    for field in ("in_usd_per_mtok", "out_usd_per_mtok"):
        schema["$defs"]["Price"]["properties"][field]["minimum"] = 0
    properties = model["properties"]
    # The rule of ids stands in `locus.ids` alone.
    properties["id"]["pattern"] = f"^{ids._MODEL_ID.pattern}$"
    properties["id"]["not"] = {"pattern": r"\.\."}
    properties["released"]["anyOf"].append({"type": "integer", "minimum": 1000, "maximum": 9999})
    properties["args"]["properties"] = {
        "trust_remote_code": {
            "const": False,
            "description": "Code from a model never runs by this file; see evaluation.trusted_code "
            "of locus.toml.",
        },
        KEY_ARGUMENT: {
            "type": "string",
            "pattern": f"^{KEY_VARIABLE}$",
            "description": "Environment variable that holds the service's key.",
        },
    }
    secret = {"pattern": f"^({FORBIDDEN_NAMES})$"}
    properties["args"]["propertyNames"] = {
        "anyOf": [{"const": KEY_ARGUMENT}, {"not": {"anyOf": [secret, {"const": "revision"}]}}]
    }
    model["allOf"] = list(_conditions())
    model["examples"] = list(EXAMPLES.values())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "patternProperties": {"^x-": {"description": "Anything; a place for YAML anchors."}},
    }


def _conditions() -> Iterator[dict[str, Any]]:
    """What fields ask of one another."""
    weights: dict[str, Any] = {"properties": {"backend": {"enum": list(WEIGHTS)}}}
    yield {  # A backend that is not given is hf.
        "if": weights,
        "then": {
            "required": ["args"],
            "properties": {
                "args": {
                    "required": ["pretrained"],
                    "properties": {"pretrained": {"type": "string", "minLength": 1}},
                }
            },
        },
    }
    for name, service in SERVICES.items():
        end = "/chat/completions$" if service.chat else "/completions$"
        yield {
            "if": {"properties": {"backend": {"const": name}}, "required": ["backend"]},
            "then": {
                "required": ["args"],
                "properties": {
                    "args": {
                        "required": ["model"] if service.url else ["model", "base_url"],
                        "properties": {
                            "model": {"type": "string", "minLength": 1},
                            "base_url": {"type": "string", "pattern": f"^https?://.*{end}"},
                        },
                    }
                },
            },
        }
    both = ["price_in_usd_per_mtok", "price_out_usd_per_mtok"]
    for one, other in (both, both[::-1]):
        number = {"type": "number"}
        yield {
            "if": {"properties": {one: number}, "required": [one]},
            "then": {"properties": {other: number}, "required": [other]},
        }
        listed = {one: number, "prices": {"minItems": 1}}
        yield {"not": {"properties": listed, "required": [one, "prices"]}}


def _attribute_docs(described: type) -> Mapping[str, str]:
    """What a dataclass' docstring says of each attribute, so that it is said once."""
    lines = str(described.__doc__).partition("Attributes:\n")[2].splitlines()
    found: dict[str, str] = {}
    for line in map(str.strip, lines):
        name, colon, text = line.partition(": ")
        if colon and name.isidentifier():
            found[name] = text[:1].upper() + text[1:]
        elif line and found:
            last = list(found)[-1]
            found[last] += f" {line}"
    return found
