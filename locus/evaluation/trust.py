"""What a model's files may do: hold numbers. Code of its own runs only where an owner has said so.

What belongs here: the rules for weights and for code that come with a model, as lm-eval's backends
are told them. Nothing is loaded here.
"""

from collections.abc import Mapping
from typing import Any

# Of the lm-eval backends that load weights with transformers.
TRANSFORMERS = ("hf", "hf-auto", "huggingface", "hf-multimodal")
# What vLLM calls formats that can't hold code; `auto` falls back to pickles.
_VLLM_FORMATS = ("safetensors", "gguf", "dummy")


def check_weights(args: Mapping[str, Any]) -> None:
    """Check that arguments ask for no weights that are unpickled.

    Raises:
        ValueError: names the argument.
    """
    if args.get("use_safetensors") not in (None, True):
        raise ValueError("args.use_safetensors is always true: pickled weights are never loaded")
    if args.get("load_format", _VLLM_FORMATS[0]) not in _VLLM_FORMATS:
        raise ValueError(
            f"args.load_format is one of {', '.join(_VLLM_FORMATS)}: pickled weights are never "
            "loaded"
        )


def weights(backend: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """What a backend is told so that it unpickles nothing."""
    if backend.startswith("vllm"):
        return {"load_format": _VLLM_FORMATS[0]}
    if backend in TRANSFORMERS and "gguf_file" not in args:
        return {"use_safetensors": True}
    return {}


def check_code(args: Mapping[str, Any]) -> None:
    """Check that the code that comes with a model lies beside its weights.

    Code of another repository is not pinned by the model's revision, so nobody has read it.

    Args:
        args: arguments of a transformers backend.

    Raises:
        ValueError: it lies elsewhere.
    """
    from transformers import PretrainedConfig

    pinned = {name: args[name] for name in ("revision", "subfolder") if name in args}
    settings, _ = PretrainedConfig.get_config_dict(args["pretrained"], **pinned)
    elsewhere = [where for where in _places(settings.get("auto_map")) if "--" in where]
    if elsewhere:
        raise ValueError(
            f"its code lies in another repository ({elsewhere[0][:100]!r}), which its revision "
            "does not pin; it is not run"
        )


def _places(auto_map: Any) -> list[str]:
    """Where classes lie: a text or several for each."""
    if not isinstance(auto_map, Mapping):
        return []
    return [
        str(place)
        for places in auto_map.values()
        for place in (places if isinstance(places, list | tuple) else [places])
    ]


def advice(error: Exception, name: str, revision: str) -> str | None:
    """What to do about a model that can't be loaded by these rules; None for other errors.

    Args:
        error: what loading raised.
        name: the model's id.
        revision: its revision.
    """
    said = str(error)
    if "trust_remote_code" in said:
        return (
            "it needs code of its own, which is not run unasked; read it, and if you trust this "
            f'very version put "{name}@{revision}" into evaluation.trusted_code of locus.toml'
        )
    if isinstance(error, OSError) and "safetensors" in said:
        return (
            "it has no safetensors weights, and pickled ones are never loaded; convert them "
            "(from_pretrained, then save_pretrained) on a machine that may run strangers' code"
        )
    return None
