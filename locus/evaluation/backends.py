"""lm-eval's backends: which arguments each takes, what it can't be asked, and which key it needs.

Nothing is loaded or asked here, and lm-eval isn't imported: the registry checks arguments by these
tables, and the launcher gives a worker the one key that its backend needs. Whether lm-eval has a
backend of some name is seen where it is loaded (`locus.evaluation.harness.load_local`).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from locus.evaluation.trust import check_weights

# Argument that names the environment variable of a service's key. lm-eval doesn't know it.
KEY_ARGUMENT = "api_key_env"
# lm-eval hands some of these to a service or writes them into its logs; a registry is a file that
# people share. `add_bos_token`, `think_end_token` and the like are no secrets.
FORBIDDEN_NAMES = (
    r"token|(.*_)?(headers?|(auth|access|api|hf|bearer|session)_?token)"
    r"|.*(api_?key|secret|passw|credential|authorization|bearer|private_?key|access_?key).*"
)
# Only variables that hold keys of services: a registry must not be able to send others away.
KEY_VARIABLE = r"[A-Z][A-Z0-9_]{0,60}_API_KEY"
_FORBIDDEN = re.compile(FORBIDDEN_NAMES, re.IGNORECASE)
_KEY_VARIABLE = re.compile(KEY_VARIABLE)
_NUMBERS = ("timeout", "max_retries", "num_concurrent", "max_length")

# Backends that load weights from a folder or the hub; some are other names of `hf`.
WEIGHTS = ("hf", "hf-auto", "huggingface", "hf-multimodal", "vllm", "vllm-vlm")
_VLLM = ("vllm", "vllm-vlm")
_VLLM_COUNTS = (
    "tensor_parallel_size", "data_parallel_size", "max_model_len", "max_length", "max_gen_toks",
    "max_num_seqs", "max_lora_rank",
)  # fmt: skip
_VLLM_DTYPES = ("auto", "float16", "bfloat16", "float32", "half", "float")
# Other backends of lm-eval's that only write text.
_NO_LIKELIHOODS = (
    "anthropic-completions", "anthropic-chat", "anthropic-chat-completions",
    "litellm", "litellm-chat", "litellm-chat-completions",
)  # fmt: skip


@dataclass(frozen=True)
class Service:
    """A kind of service.

    Attributes:
        chat: whether it takes messages (and gives no log-likelihoods) rather than a text.
        key_variable: environment variable of its key; None where no key is sent unless
            ``args.api_key_env`` names one.
        url: its address where ``args.base_url`` is not given; None where it must be.
    """

    chat: bool
    key_variable: str | None
    url: str | None


SERVICES = {
    "local-completions": Service(chat=False, key_variable=None, url=None),
    "local-chat-completions": Service(chat=True, key_variable=None, url=None),
    "openai-chat-completions": Service(
        chat=True,
        key_variable="OPENAI_API_KEY",
        url="https://api.openai.com/v1/chat/completions",
    ),
}


def address(backend: str, args: Mapping[str, Any]) -> str | None:
    """Address of the service that is asked; None for a model that runs here, and an unknown one."""
    named = args.get("base_url")
    if isinstance(named, str):
        return named
    service = SERVICES.get(backend)
    return service.url if service else None


def key_variable(backend: str, args: Mapping[str, Any]) -> str | None:
    """The environment variable that holds the key a backend needs; None if it needs none.

    A backend that loads weights gets no key, and one that LOCUS knows nothing of gets only the one
    that ``args.api_key_env`` names.
    """
    if backend in WEIGHTS:
        return None
    named = args.get(KEY_ARGUMENT)
    if isinstance(named, str) and _KEY_VARIABLE.fullmatch(named):
        return named
    service = SERVICES.get(backend)
    return service.key_variable if service else None


def obstacle(backend: str, args: Mapping[str, Any], output_type: str | None) -> str | None:
    """Why a backend can't be asked tasks of a type; None if it can, or the type isn't known.

    Args:
        backend: lm-eval backend.
        args: its arguments.
        output_type: lm-eval's name of what a task wants, such as ``multiple_choice``.
    """
    if output_type in (None, "generate_until"):
        return None
    if backend in _NO_LIKELIHOODS:
        return f"backend {backend} gives no log-likelihoods, which {output_type} needs"
    service = SERVICES.get(backend)
    if service is None:
        return None
    if output_type != "multiple_choice":
        return f"services are not asked tasks of type {output_type}"
    if service.chat:
        return "chat services give no log-likelihoods, which multiple choice needs"
    if "tokenizer" not in args:
        return "multiple choice needs args.tokenizer, the service's own tokenizer"
    return None


def check_arguments(backend: str, args: Mapping[str, Any]) -> None:
    """Check the arguments of a backend, as far as they can be known without loading it.

    Raises:
        ValueError: a secret is written out or a model's own code would be run (whatever the
            backend); weights are not named; a service's model or address is missing or malformed;
            a number is none.
    """
    _check_for_all(args)
    if backend in WEIGHTS:
        if not isinstance(args.get("pretrained"), str) or not args["pretrained"].strip():
            raise ValueError(f"backend {backend} needs args.pretrained: a local folder or a hub id")
        if KEY_ARGUMENT in args:
            raise ValueError(
                f"args.{KEY_ARGUMENT} is for services, and backend {backend} asks none"
            )
    if backend in _VLLM:
        _check_vllm(args)
    if backend in SERVICES:
        _check_service(backend, SERVICES[backend], args)


def _check_for_all(args: Mapping[str, Any]) -> None:
    for name, value in args.items():
        if name != KEY_ARGUMENT and _FORBIDDEN.fullmatch(name.replace("-", "_")):
            raise ValueError(
                f"args.{name} is refused: a key is never written to a file; put it into an "
                f"environment variable and name that in args.{KEY_ARGUMENT}"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"args.{name} is {value}, which is no finite number")
        if isinstance(value, str) and _holds_login(value):
            raise ValueError(
                f"args.{name} holds a user, password or query, which would be written to files: "
                f"put the key into an environment variable and name that in args.{KEY_ARGUMENT}"
            )
    if args.get("trust_remote_code") not in (None, False):
        raise ValueError(
            "args.trust_remote_code is refused: a file that people share must not let code run; an "
            "owner of this machine trusts one version in evaluation.trusted_code of locus.toml"
        )
    check_weights(args)
    named = args.get(KEY_ARGUMENT)
    if named is not None and not (isinstance(named, str) and _KEY_VARIABLE.fullmatch(named)):
        raise ValueError(
            f"args.{KEY_ARGUMENT} names an environment variable that ends in _API_KEY, such as "
            "EXAMPLE_API_KEY (the name, not the key)"
        )


def _holds_login(value: str) -> bool:
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.username or parts.password)


def _check_vllm(args: Mapping[str, Any]) -> None:
    for name in _VLLM_COUNTS:
        value = args.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"args.{name} is a whole number greater than 0, not {value!r}")
    share = args.get("gpu_memory_utilization", 0.9)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise ValueError(
            f"args.gpu_memory_utilization is a share of the memory, above 0 and at most 1, not "
            f"{share!r}"
        )
    if args.get("dtype", "auto") not in _VLLM_DTYPES:
        raise ValueError(f"args.dtype is one of {', '.join(_VLLM_DTYPES)}, not {args['dtype']!r}")
    if "max_length" in args and "max_model_len" in args:
        raise ValueError("args.max_length and args.max_model_len are the same: give one of them")


def _check_service(backend: str, service: Service, args: Mapping[str, Any]) -> None:
    if not isinstance(args.get("model"), str) or not args["model"]:
        raise ValueError(f"backend {backend} needs args.model: the model's name at the service")
    for name in _NUMBERS:
        value = args.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ValueError(f"args.{name} is a number greater than 0, not {value!r}")
    url = args.get("base_url")
    if url is None and service.url is not None:
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
    try:
        # As whoever connects does: a label that is empty or too long is found out here.
        parts.hostname.encode("idna")
        _ = parts.port
    except ValueError as error:
        raise ValueError(
            "args.base_url names a host or port that can't be: write it like "
            f"http://127.0.0.1:8000/v1{end}"
        ) from error
    if parts.username or parts.password or parts.query:
        raise ValueError(
            "args.base_url holds a user, password or query, which would be written to files: put "
            f"the key into an environment variable and name that in args.{KEY_ARGUMENT}"
        )
