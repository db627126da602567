"""Where a model of the registry can be asked by others, as far as the registry says so.

Keys are named by their environment variables, never written.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from locus.evaluation.backends import SERVICES, address, key_variable
from locus.registry.spec import ModelSpec

_CHAT, _TEXT = "/chat/completions", "/completions"
# lm-eval's backends whose model LiteLLM finds by its name alone.
_BY_NAME = {
    "litellm": "",
    "litellm-chat": "",
    "litellm-chat-completions": "",
    "anthropic-completions": "anthropic/",
    "anthropic-chat": "anthropic/",
    "anthropic-chat-completions": "anthropic/",
}
# Whoever reads such a value in a configuration puts the variable's content in its place: a model
# with such an id would make a router show a secret as the name of a model.
_EXPANDED = "os.environ/"


@dataclass(frozen=True)
class Endpoint:
    """Where a model is asked.

    Attributes:
        model_id: its id here.
        model: what LiteLLM calls it: ``provider/name``.
        name: what the service calls it.
        base: address that ``/chat/completions`` or ``/completions`` is put after; None where the
            provider has one that everybody knows.
        chat: whether it is known to take messages.
        key_variable: environment variable of its key; None where the registry names none.
    """

    model_id: str
    model: str
    name: str
    base: str | None
    chat: bool
    key_variable: str | None


def endpoints(specs: Iterable[ModelSpec]) -> list[Endpoint]:
    """The models that have an address; weights that run here have none and are left out.

    Args:
        specs: the registry's models.
    """
    return [found for spec in specs if (found := _endpoint(spec)) is not None]


def _endpoint(spec: ModelSpec) -> Endpoint | None:
    name = spec.args.get("model")
    if not isinstance(name, str) or not name or _is_expanded(spec.id) or _is_expanded(name):
        return None
    key = key_variable(spec.backend, spec.args)
    service = SERVICES.get(spec.backend)
    if service is None:
        prefix = _BY_NAME.get(spec.backend)
        if prefix is None or (not prefix and "/" not in name):
            return None
        named = spec.args.get("base_url")
        base = named if isinstance(named, str) else None
        return Endpoint(spec.id, prefix + name, name, base, "chat" in spec.backend, key)
    url = address(spec.backend, spec.args)
    if url is None:
        return None
    # The registry vouches for one path; a server of text completions need not take messages.
    end = _CHAT if service.chat else _TEXT
    provider = "openai" if service.chat else "text-completion-openai"
    base = url.rstrip("/").removesuffix(end)
    return Endpoint(spec.id, f"{provider}/{name}", name, base, service.chat, key)


def _is_expanded(text: str) -> bool:
    return text.lower().startswith(_EXPANDED)
