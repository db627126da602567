"""`routing/litellm.yaml`: a configuration of LiteLLM's proxy and router.

A model is known by its id here. ``locus-best`` is the one ranked first, ``locus-cheap`` the best
for the money, ``locus-best-<task>`` the first of a task's bucket, all of those with an address.
Topics get no name: their numbers mean something else in the next snapshot.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from locus.publication.emit.endpoints import Endpoint
from locus.publication.emit.served import Served, header, slugs
from locus.routing.table import ALL, TASK, best_for_the_money

BEST, CHEAP = "locus-best", "locus-cheap"

FALLBACKS = 5
"""Models that are tried after one another; LiteLLM follows no more by itself."""

NO_KEY = "no-key-needed"
"""Stands where no key is wanted: without any, LiteLLM sends OpenAI's key to whomever it asks."""


def litellm_yaml(served: Served, chains: Mapping[str, Sequence[str]]) -> str:
    """The file's content.

    Args:
        served: models with an address, and their ranks.
        chains: for each model its stand-ins, nearest first.
    """
    lines = [
        "Configuration of LiteLLM: litellm --config litellm.yaml",
        "Keys are read from the environment variables that are named here.",
    ]
    return header(lines[0], lines[1:], served.missing) + yaml.safe_dump(
        litellm_config(served, chains), sort_keys=False
    )


def litellm_config(served: Served, chains: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The configuration: ``model_list`` and ``router_settings``."""
    ranking = served.ranking()
    fallbacks = {name: _stand_ins(name, chains, ranking) for name in served.endpoints}
    aliases: dict[str, str] = {}
    for wanted, choice in _choices(served).items():
        name = wanted
        while (
            name in served.endpoints or name in served.missing or name in aliases
        ):  # a model may be called so
            name += "-locus"
        aliases[name] = choice[0]
        fallbacks[name] = choice[1:]
    return {
        "model_list": [
            {"model_name": name, "litellm_params": _parameters(one)}
            for name, one in served.endpoints.items()
        ],
        "router_settings": {
            "model_group_alias": aliases,
            "fallbacks": [{name: others} for name, others in fallbacks.items() if others],
        },
    }


def _parameters(one: Endpoint) -> dict[str, str]:
    parameters = {"model": one.model}
    if one.base is not None:
        parameters["api_base"] = one.base
    if one.key_variable is not None:
        parameters["api_key"] = f"os.environ/{one.key_variable}"
    elif one.base is not None:
        parameters["api_key"] = NO_KEY
    return parameters


def _stand_ins(name: str, chains: Mapping[str, Sequence[str]], ranking: Sequence[str]) -> list[str]:
    """Its stand-ins that have an address, nearest first, then others by rank."""
    near = [other for other in chains.get(name, ()) if other in ranking]
    return [m for m in dict.fromkeys([*near, *ranking]) if m != name][:FALLBACKS]


def _choices(served: Served) -> dict[str, list[str]]:
    """For each name that is no model's: who is meant, and who is asked when that one is down."""
    ranking = served.ranking()
    if not ranking:
        return {}
    choices = {BEST: ranking}
    cheap = best_for_the_money(served.table.filter(kind=ALL))
    if cheap is not None:
        choices[CHEAP] = [cheap, *(m for m in ranking if m != cheap)]
    tasks = served.table.filter(kind=TASK)
    names = slugs(sorted(tasks["bucket"].unique()))
    for task, slug in names.items():
        rows = tasks.filter(bucket=task).sort("rank")
        choices[f"{BEST}-{slug}"] = rows["model_id"].to_list()
    return {name: models[: FALLBACKS + 1] for name, models in choices.items()}
