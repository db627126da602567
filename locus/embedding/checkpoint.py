"""Checkpoints: weights as safetensors, settings and facts as JSON, named by their content.

Nothing is unpickled, ever: a checkpoint from a stranger can hold wrong numbers but no code.
"""

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from locus.durable import sync
from locus.embedding.maps import KINDS, ModelMap

FORMAT = 2
_WEIGHTS = "model.safetensors"
_CONFIG = "config.json"


class CheckpointError(RuntimeError):
    """A checkpoint that can't be trusted or read; the message names the folder and the fault."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        checkpoint_id: SHA-256 over weights and settings.
        map: places models and gives their predictor.
        encoder: identity of the sentence encoder it was trained with.
        facts: everything else that was recorded.
    """

    checkpoint_id: str
    map: ModelMap
    encoder: str
    facts: dict[str, Any]


def _identity(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in (_CONFIG, _WEIGHTS):
        digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()


def save(model_map: ModelMap, encoder: str, facts: dict[str, Any], parent: Path) -> str:
    """Write a checkpoint to ``parent/<id>/``; the same content is the same folder.

    The folder is built beside and renamed, so that a half-written checkpoint is never seen.

    Returns:
        The checkpoint's id.
    """
    from safetensors.numpy import save_file

    parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=parent))
    try:
        weights = {k: np.ascontiguousarray(v) for k, v in model_map.arrays().items()}
        save_file(weights, building / _WEIGHTS)
        config = {
            "format": FORMAT,
            "kind": model_map.kind,
            "settings": model_map.settings(),
            "encoder": encoder,
            "facts": facts,
        }
        (building / _CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
        checkpoint_id = _identity(building)
        target = parent / checkpoint_id
        if not target.exists():
            for name in (_WEIGHTS, _CONFIG):
                sync(building / name)
            building.rename(target)
        return checkpoint_id
    finally:
        shutil.rmtree(building, ignore_errors=True)


def load(folder: Path, encoder: str | None = None) -> Checkpoint:
    """Read a checkpoint and check that its content is what its name says.

    Args:
        folder: ``<checkpoints>/<id>``.
        encoder: identity of the sentence encoder in use; None checks nothing.

    Raises:
        CheckpointError: missing files, a changed byte, another format or sentence encoder, or
            weights that don't fit.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        config = json.loads((folder / _CONFIG).read_text())
        found = _identity(folder)
        if found != folder.name:
            raise CheckpointError(
                f"checkpoint {folder} has changed since it was written (content is {found[:12]}); "
                "restore it from a backup, or train anew"
            )
        if config["format"] != FORMAT:
            raise CheckpointError(
                f"checkpoint {folder} has format {config['format']}, this version reads {FORMAT}: "
                "train anew"
            )
        if encoder is not None and config["encoder"] != encoder:
            raise CheckpointError(
                f"checkpoint {folder} was made with the sentence encoder {config['encoder']!r} and "
                f"the one in use is {encoder!r}: set `encoder` (and `encoder_precision`) in "
                "locus.toml back, or train anew"
            )
        if config["kind"] not in KINDS:
            raise CheckpointError(
                f"checkpoint {folder} is of the kind {config['kind']!r}; "
                f"known are {', '.join(sorted(KINDS))}: install the version that made it, or train "
                "anew"
            )
        model_map = KINDS[config["kind"]].load(load_file(folder / _WEIGHTS), config["settings"])
        made_with, facts = str(config["encoder"]), dict(config["facts"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"checkpoint {folder} can't be read: {error}; restore it from a backup, or train anew"
        ) from error
    return Checkpoint(found, model_map, made_with, facts)
