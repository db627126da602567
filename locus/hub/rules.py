"""Which model of the hub is taken, and as which entry; a reason in words for every other."""

import re
from fnmatch import fnmatchcase
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.hf_api import ModelInfo
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
from pydantic import ValidationError

from locus.hub.settings import WatchSettings
from locus.ids import InvalidIdError, model_id
from locus.registry import ModelSpec
from locus.registry.faults import reasons

_COMMIT = re.compile(r"[0-9a-f]{40}")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
# What transformers loads by itself; with one of them there it never opens a pickled file.
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5")
_LICENSE = "license:"


def name_obstacle(name: object, settings: WatchSettings) -> str | None:
    """Why a model is not taken, by its name alone; None if it may be."""
    if not isinstance(name, str):
        return "its name is no text"
    try:
        model_id(name)
        validate_repo_id(name)
    except (InvalidIdError, HFValidationError):
        return "its name is not a valid id"
    for pattern in settings.deny:
        if fnmatchcase(name, pattern):
            return f"its id matches {pattern!r} of watch.deny"
    if settings.allow and not any(fnmatchcase(name, pattern) for pattern in settings.allow):
        return "its id matches no pattern of watch.allow"
    return None


def listed_obstacle(info: ModelInfo, settings: WatchSettings) -> str | None:
    """Why a model is not taken, by what the hub's list tells; None if it may be."""
    said = name_obstacle(info.id, settings)
    if said:
        return said
    tags = _tags(info)
    for there, why in (
        (info.private, "it is private"),
        (info.gated, "it is gated: its weights can't be loaded without an agreement"),
        (info.disabled, "it is disabled"),
    ):
        if there:
            return why
    if info.library_name != "transformers":
        return f"its library is {_shown(info.library_name)}, not transformers"
    if "custom_code" in tags:
        return "it needs code of its own, which is never run"
    missing = [tag for tag in settings.filters if tag not in _known_tags(info, tags)]
    if missing:
        return f"it has no tag {missing[0]!r}"
    if settings.created_after is not None:
        created = info.created_at
        if created is None:
            return "the hub doesn't tell when it was made"
        if created.date() < settings.created_after:
            return f"it is from {created:%Y-%m-%d}, before watch.created_after"
    if settings.licenses:
        license_name = _license(info)
        if license_name not in settings.licenses:
            return f"its licence is {_shown(license_name)}, not one of watch.licenses"
    return None


def obstacle(info: ModelInfo, settings: WatchSettings) -> str | None:
    """Why a model is not taken, by all that is known of it; None if it is.

    Args:
        info: the hub's answer about the one model.
        settings: what is watched.
    """
    said = listed_obstacle(info, settings)
    if said:
        return said
    if not isinstance(info.sha, str) or not _COMMIT.fullmatch(info.sha):
        return "the hub doesn't tell its commit"
    if "auto_map" in _config(info):
        return "it needs code of its own, which is never run"
    files = [sibling.rfilename for sibling in info.siblings or []]
    if not any(name in files for name in _WEIGHTS):
        pickled = [f for f in files if isinstance(f, str) and f.endswith(_PICKLED)]
        if pickled:
            return f"it has no safetensors weights ({_shown(pickled[0])} is never loaded)"
        return "it has no safetensors weights"
    if settings.most_params_b is not None:
        params_b = _params_b(info)
        if params_b is None:
            return "the hub doesn't tell its size, and watch.most_params_b limits it"
        if params_b > settings.most_params_b:
            return (
                f"it has {params_b:g} billion parameters, and watch.most_params_b is "
                f"{settings.most_params_b:g}"
            )
    return None


def entry(info: ModelInfo, settings: WatchSettings) -> ModelSpec:
    """The entry of `models.yaml` for a model that is taken, pinned to its commit.

    Raises:
        ValueError: the registry refuses it; says why.
    """
    created = info.created_at
    config = _config(info)
    family = config.get("model_type")
    try:
        return ModelSpec(
            id=info.id,
            backend="hf",
            args={"pretrained": info.id},
            revision=info.sha,
            params_b=_params_b(info),
            family=family if isinstance(family, str) and _PLAIN.fullmatch(family) else None,
            license=_license(info),
            # The hub dates everything before 2022-03-03 to the day before.
            released=f"{created:%Y-%m-%d}" if created and created.year > 2022 else None,
            chat_template=settings.chat_template and _has_template(config),
        )
    except ValidationError as error:
        raise ValueError("; ".join(reasons(error, list(ModelSpec.model_fields)))) from error


def _tags(info: ModelInfo) -> list[str]:
    tags: Any = info.tags
    return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []


def _known_tags(info: ModelInfo, tags: list[str]) -> set[str]:
    """Tags, and what the hub's filter takes for one though it is a property of its own."""
    more: tuple[Any, ...] = (info.library_name, info.pipeline_tag)
    return {*tags, *(tag for tag in more if isinstance(tag, str))}


def _config(info: ModelInfo) -> dict[str, Any]:
    config: Any = info.config
    return config if isinstance(config, dict) else {}


def _license(info: ModelInfo) -> str | None:
    for tag in _tags(info):
        name = tag.removeprefix(_LICENSE)
        if name != tag and _PLAIN.fullmatch(name):
            return name
    return None


def _params_b(info: ModelInfo) -> float | None:
    """Parameters in billions, as counted in the safetensors files."""
    total: Any = info.safetensors.total if info.safetensors else None
    if isinstance(total, bool) or not isinstance(total, int) or total <= 0:
        return None
    return round(total / 1e9, 6)


def _has_template(config: dict[str, Any]) -> bool:
    tokenizer = config.get("tokenizer_config")
    inside = tokenizer.get("chat_template") if isinstance(tokenizer, dict) else None
    return bool(inside or config.get("chat_template_jinja"))


def _shown(text: object) -> str:
    return "unknown" if text is None else repr(str(text)[:60])
