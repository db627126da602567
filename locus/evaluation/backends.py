"""lm-eval's backends that ask a service over HTTP: their arguments, and which key each needs.

Nothing is asked here; `locus.evaluation.service` does that. The registry checks arguments by this
table, and the launcher gives a worker the one key that its backend needs.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

# Argument that names the environment variable of a service's key. lm-eval doesn't know it.
KEY_ARGUMENT = "api_key_env"
# Only variables that hold keys of services: a registry must not be able to send others away.
_KEY_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,60}_API_KEY")
_SECRET_ARGUMENTS = ("auth_token", "header", "headers", "api_key")
_NUMBERS = ("timeout", "max_retries", "num_concurrent", "max_length")


@dataclass(frozen=True)
class Service:
    """A kind of service.

    Attributes:
        chat: whether it takes messages (and gives no log-likelihoods) rather than a text.
        key_variable: environment variable of its key; None where no key is sent unless
            ``args.api_key_env`` names one.
        needs_url: whether ``args.base_url`` must be given.
    """

    chat: bool
    key_variable: str | None
    needs_url: bool


SERVICES = {
    "local-completions": Service(chat=False, key_variable=None, needs_url=True),
    "local-chat-completions": Service(chat=True, key_variable=None, needs_url=True),
    "openai-chat-completions": Service(chat=True, key_variable="OPENAI_API_KEY", needs_url=False),
}


def key_variable(backend: str, args: Mapping[str, Any]) -> str | None:
    """The environment variable that holds the key a backend needs; None if it needs none."""
    service = SERVICES.get(backend)
    if service is None:
        return None
    named = args.get(KEY_ARGUMENT)
    if isinstance(named, str) and _KEY_VARIABLE.fullmatch(named):
        return named
    return service.key_variable


def obstacle(backend: str, args: Mapping[str, Any], output_type: str | None) -> str | None:
    """Why a backend can't be asked tasks of a type; None if it can, or the type isn't known.

    Args:
        backend: lm-eval backend.
        args: its arguments.
        output_type: lm-eval's name of what a task wants, such as ``multiple_choice``.
    """
    service = SERVICES.get(backend)
    if service is None or output_type in (None, "generate_until"):
        return None
    if output_type != "multiple_choice":
        return f"services are not asked tasks of type {output_type}"
    if service.chat:
        return "chat services give no log-likelihoods, which multiple choice needs"
    if "tokenizer" not in args:
        return "multiple choice needs args.tokenizer, the service's own tokenizer"
    return None


def check_arguments(backend: str, args: Mapping[str, Any]) -> None:
    """Check the arguments of a service's backend; any other backend passes.

    Raises:
        ValueError: the model or address is missing or malformed, a number is none, or a secret
            is written out.
    """
    service = SERVICES.get(backend)
    if service is None:
        return
    for name in _SECRET_ARGUMENTS:
        if name in args:
            raise ValueError(
                f"args.{name} is refused: a key is never written to a file; put it into an "
                f"environment variable and name that in args.{KEY_ARGUMENT}"
            )
    if not isinstance(args.get("model"), str) or not args["model"]:
        raise ValueError(f"backend {backend} needs args.model: the model's name at the service")
    for name in _NUMBERS:
        value = args.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ValueError(f"args.{name} is a number greater than 0, not {value!r}")
    named = args.get(KEY_ARGUMENT)
    if named is not None and not (isinstance(named, str) and _KEY_VARIABLE.fullmatch(named)):
        raise ValueError(
            f"args.{KEY_ARGUMENT} names an environment variable that ends in _API_KEY, such as "
            "EXAMPLE_API_KEY (the name, not the key)"
        )
    url = args.get("base_url")
    if url is None and not service.needs_url:
        return
    end = "/chat/completions" if service.chat else "/completions"
    parts = urlsplit(url) if isinstance(url, str) else None
    if (
        parts is None
        or parts.scheme not in ("http", "https")
        or not parts.hostname
        or not parts.path.endswith(end)
    ):
        raise ValueError(
            f"backend {backend} needs args.base_url: an address that ends in {end}, such as "
            f"http://127.0.0.1:8000/v1{end}"
        )
    if parts.username or parts.password or parts.query:
        raise ValueError(
            "args.base_url holds a user, password or query, which would be written to files: put "
            f"the key into an environment variable and name that in args.{KEY_ARGUMENT}"
        )
