"""Reading `models.yaml` and adding to it."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from locus.durable import whole_file
from locus.registry.document import DocumentError, read_document
from locus.registry.faults import RegistryError, reasons, shown
from locus.registry.revision import folder_of
from locus.registry.spec import ModelSpec

_NAME_SHOWN = 100


def load_registry(path: Path) -> list[ModelSpec]:
    """Read `models.yaml`.

    Relative folders are taken from the registry's own folder. Besides ``models``, keys that begin
    with ``x-`` may stand there, as a place for YAML anchors.

    Raises:
        RegistryError: unreadable, wrong in any field, or an id that appears twice. The message
            names every fault, not only the first.
    """
    try:
        content = read_document(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RegistryError(
            f"there is no registry at {path}: `locus init` writes one to start from"
        ) from error
    except (OSError, UnicodeDecodeError, DocumentError) as error:
        raise RegistryError(f"{path} can't be read as YAML: {_one_line(error)}") from error
    entries = content.get("models") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise RegistryError(f"{path} needs a list under the key `models`")
    faults = [
        f"{shown(key, _NAME_SHOWN)!r} is no key of this file: only `models`, and x-... for anchors"
        for key in content
        if key != "models" and not shown(key).startswith("x-")
    ]
    specs = []
    for position, entry in enumerate(entries, start=1):
        name = shown(
            entry.get("id", "without id") if isinstance(entry, dict) else entry, _NAME_SHOWN
        )
        try:
            specs.append(ModelSpec.model_validate(_anchored(entry, path.parent)))
        except ValidationError as error:
            faults += [
                f"model {position} ({name!r}): {text}"
                for text in reasons(error, list(ModelSpec.model_fields))
            ]
    faults += [f"{twice!r} appears more than once" for twice in _duplicates(s.id for s in specs)]
    if faults:
        raise RegistryError(f"{path} has {len(faults)} fault(s):\n  " + "\n  ".join(faults))
    return specs


def append_model(path: Path, spec: ModelSpec) -> None:
    """Add a model to `models.yaml`, in one step; comments in the file stay as they are.

    Raises:
        RegistryError: the id is there already, the file is not a valid registry, or its list is not
            written so that an entry can be put at its end.
    """
    import yaml

    known: list[ModelSpec] = []
    if path.exists():
        known = load_registry(path)
        if any(one.id == spec.id for one in known):
            raise RegistryError(f"{spec.id!r} is in {path} already")
        before = path.read_text(encoding="utf-8").rstrip() + "\n"
        if before.rstrip().endswith("models: []"):
            before = before.rstrip()[: -len("models: []")] + "models:\n"
    else:
        before = "models:\n"
    facts = spec.model_dump(exclude_none=True, exclude_defaults=True)
    entry = {"id": spec.id, "backend": spec.backend, "args": spec.args, **facts}
    listed = yaml.safe_dump([entry], sort_keys=False, allow_unicode=True)
    if yaml.safe_load(listed) != [entry]:  # some line ends of Unicode must be escaped
        listed = yaml.safe_dump([entry], sort_keys=False)
    # The new entry takes the indentation of those that are there.
    first = re.search(r"^( *)- ", before, flags=re.MULTILINE)
    indent = first.group(1) if first else "  "
    text = before + "".join(f"{indent}{line}\n" for line in listed.rstrip("\n").split("\n"))
    with whole_file(path) as stream:
        stream.write(text.encode())
        stream.flush()
        try:
            whole = [one.id for one in load_registry(Path(stream.name))] == [
                *(one.id for one in known), spec.id
            ]  # fmt: skip
        except RegistryError as error:
            raise _by_hand(path, listed) from error
        if not whole:
            raise _by_hand(path, listed)


def _by_hand(path: Path, listed: str) -> RegistryError:
    return RegistryError(
        f"{path} does not end with its list of models, one `- id: ...` below another, so nothing "
        f"can be put at its end; add this by hand:\n{listed}"
    )


def _anchored(entry: Any, parent: Path) -> Any:
    """A relative local folder, taken from the registry's folder."""
    if not isinstance(entry, dict) or not isinstance(entry.get("args"), dict):
        return entry
    pretrained = entry["args"].get("pretrained")
    folder = folder_of(pretrained, parent) if isinstance(pretrained, str) else None
    if folder is None:
        return entry
    return {**entry, "args": {**entry["args"], "pretrained": str(folder)}}


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
