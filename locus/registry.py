"""The registry of models to watch: `models.yaml`, validated at the edge.

A registry comes from people and from hub watchers, so nothing in it is trusted: ids are checked,
code from a model's repository is never run, and a hub model is pinned to a commit.
"""

import hashlib
import re
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from locus.budget import Budget
from locus.durable import whole_file
from locus.evaluation.backends import check_arguments
from locus.ids import InvalidIdError, model_id
from locus.prices import Price

Scalar = str | int | float | bool
_COMMIT = re.compile(r"[0-9a-f]{40}")
_BLOCK = 1 << 16
_WHOLE_FILE = 1 << 26


class RegistryError(ValueError):
    """A registry that can't be used; the message names the file, the model and the field."""


class ModelSpec(BaseModel):
    """One model of the registry.

    Attributes:
        id: the model's id, for example ``org/name``.
        backend: the lm-eval backend that runs it, for example ``hf``.
        args: what that backend is given, for example ``{pretrained: ./models/x}``; for a service
            its model, address and the name of the variable that holds its key, never the key.
        revision: commit of a hub model (40 hexadecimal digits); a local folder needs none, its
            content is its revision.
        params_b: parameters in billions.
        family: architecture or lineage.
        license: licence name.
        released: date of release, ISO 8601.
        price_in_usd_per_mtok: price of a million tokens read, in US dollars.
        price_out_usd_per_mtok: price of a million tokens written, in US dollars.
        prices: prices with their first days, where they have changed; instead of the two above.
        chat_template: put questions through the tokenizer's chat template.
        system_instruction: what the model is told before every question.
        budget: the most that one run may spend on this model; what is None is not limited by it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    backend: str = Field(default="hf", pattern=r"^[a-z][a-z0-9-]{0,40}$")
    args: dict[str, Scalar] = Field(default_factory=dict)
    revision: str | None = None
    params_b: float | None = Field(default=None, ge=0)
    family: str | None = Field(default=None, max_length=200)
    license: str | None = Field(default=None, max_length=200)
    released: str | None = Field(default=None, max_length=40)
    price_in_usd_per_mtok: float | None = Field(default=None, ge=0)
    price_out_usd_per_mtok: float | None = Field(default=None, ge=0)
    prices: tuple[Price, ...] = ()
    chat_template: bool = False
    system_instruction: str | None = Field(default=None, min_length=1, max_length=20_000)
    budget: Budget = Budget()

    @field_validator("id")
    @classmethod
    def _valid_id(cls, value: str) -> str:
        return model_id(value)

    @field_validator("released", mode="before")
    @classmethod
    def _date_as_text(cls, value: Any) -> Any:
        """YAML reads 2026-01-01 as a date."""
        return value.isoformat() if hasattr(value, "isoformat") else value

    @field_validator("args")
    @classmethod
    def _no_remote_code(cls, value: dict[str, Scalar]) -> dict[str, Scalar]:
        if value.get("trust_remote_code") not in (None, False):
            raise ValueError("trust_remote_code is refused: code from a model is never run")
        return value

    @model_validator(mode="after")
    def _pinned(self) -> "ModelSpec":
        check_arguments(self.backend, self.args)
        if self.backend == "hf":
            if not self.args.get("pretrained"):
                raise ValueError("backend hf needs args.pretrained: a local folder or a hub id")
            if self.local_folder is None and not _COMMIT.fullmatch(self.revision or ""):
                raise ValueError(
                    f"{self.args['pretrained']!r} is no local folder, and a hub model needs "
                    "`revision`, the 40 digits of a commit, so that it can't change unseen"
                )
        return self

    @property
    def org(self) -> str | None:
        """What stands before the first slash of the id."""
        return self.id.split("/")[0] if "/" in self.id else None

    @property
    def local_folder(self) -> Path | None:
        """The folder of a local model; None for everything else."""
        pretrained = self.args.get("pretrained")
        if self.backend != "hf" or not isinstance(pretrained, str):
            return None
        folder = Path(pretrained).expanduser()
        return folder.resolve() if folder.is_dir() else None

    def price_list(self) -> tuple[Price, ...]:
        """Its prices, those of no known first day first; empty where unknown."""
        if self.prices:
            return tuple(sorted(self.prices, key=lambda p: p.valid_from or date.min))
        if self.price_in_usd_per_mtok is None or self.price_out_usd_per_mtok is None:
            return ()
        return (Price(self.price_in_usd_per_mtok, self.price_out_usd_per_mtok),)

    def resolved_revision(self) -> str:
        """The revision that scores are filed under.

        The commit of a hub model, the content of a local folder; for another backend the given
        revision, or ``unversioned``.
        """
        folder = self.local_folder
        if folder is not None:
            return folder_revision(folder)
        return self.revision or "unversioned"


def folder_revision(folder: Path) -> str:
    """A hash of a model folder's content, quick for large weights.

    Files up to 64 MiB are hashed whole; of a larger one the size and 64 blocks spread evenly,
    which a fine-tune changes as surely as it changes the weights.
    """
    digest = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.relative_to(folder).as_posix()}\0{size}\0".encode())
        with file.open("rb") as stream:
            if size <= _WHOLE_FILE:
                digest.update(stream.read())
                continue
            for i in range(64):
                stream.seek((size - _BLOCK) * i // 63)
                digest.update(stream.read(_BLOCK))
    return digest.hexdigest()[:40]


def load_registry(path: Path) -> list[ModelSpec]:
    """Read `models.yaml`.

    Relative folders are taken from the registry's own folder.

    Raises:
        RegistryError: unreadable, wrong in any field, or an id that appears twice. The message
            names every fault, not only the first.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RegistryError(
            f"there is no registry at {path}: `locus init` writes one to start from"
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RegistryError(f"{path} can't be read as YAML: {_one_line(error)}") from error
    entries = content.get("models") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise RegistryError(f"{path} needs a list under the key `models`")
    specs, faults = [], []
    for position, entry in enumerate(entries, start=1):
        name = entry.get("id") if isinstance(entry, dict) else entry
        try:
            specs.append(ModelSpec.model_validate(_anchored(entry, path.parent)))
        except ValidationError as error:
            faults += [f"model {position} ({name!r}): {text}" for text in _reasons(error)]
        except InvalidIdError as error:
            faults.append(f"model {position}: {error}")
    faults += [f"{twice!r} appears more than once" for twice in _duplicates(s.id for s in specs)]
    if faults:
        raise RegistryError(f"{path} has {len(faults)} fault(s):\n  " + "\n  ".join(faults))
    return specs


def append_model(path: Path, spec: ModelSpec) -> None:
    """Add a model to `models.yaml`, in one step; comments in the file stay as they are.

    Raises:
        RegistryError: the id is there already, or the file is not a valid registry.
    """
    import yaml

    if path.exists():
        if any(known.id == spec.id for known in load_registry(path)):
            raise RegistryError(f"{spec.id!r} is in {path} already")
        before = path.read_text(encoding="utf-8").rstrip() + "\n"
        if before.rstrip().endswith("models: []"):
            before = before.rstrip()[: -len("models: []")] + "models:\n"
    else:
        before = "models:\n"
    entry = spec.model_dump(exclude_none=True, exclude_defaults=False)
    listed = yaml.safe_dump([entry], sort_keys=False, allow_unicode=True)
    # The new entry takes the indentation of those that are there.
    first = re.search(r"^( *)- ", before, flags=re.MULTILINE)
    indent = first.group(1) if first else "  "
    text = before + "".join(f"{indent}{line}\n" for line in listed.splitlines())
    with whole_file(path) as stream:
        stream.write(text.encode())
        stream.flush()
        load_registry(Path(stream.name))


def _anchored(entry: Any, parent: Path) -> Any:
    """A relative local folder, taken from the registry's folder."""
    if not isinstance(entry, dict) or not isinstance(entry.get("args"), dict):
        return entry
    pretrained = entry["args"].get("pretrained")
    if isinstance(pretrained, str) and (parent / pretrained).is_dir():
        folder = str((parent / pretrained).resolve())
        return {**entry, "args": {**entry["args"], "pretrained": folder}}
    return entry


def _reasons(error: ValidationError) -> list[str]:
    return [
        f"{'.'.join(str(part) for part in fault['loc']) or 'entry'}: "
        f"{fault['msg'].removeprefix('Value error, ')}"
        for fault in error.errors()
    ]


def _duplicates(ids: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    twice: list[str] = []
    for one in ids:
        if one in seen:
            twice.append(one)
        seen.add(one)
    return sorted(set(twice))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
