"""Names of files and folders made from names of strangers: readable, safe, and never the same.

A name that can't be misread is used as the harness would write it; every other one ends in ``@``
and a hash of the original. No model id and no plain name here holds an ``@``, so that the two kinds
never meet. Names that differ in case alone are the same file on some disks and get the hash too.
"""

import re
from collections import Counter
from collections.abc import Iterable

from locus.ids import short_hash

# What Windows reserves, whatever the extension.
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")
_PLAIN_TASK = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,119}")
_TASK_KEPT = 80


def harness_name(model_id: str) -> str:
    """A model id as lm-evaluation-harness writes it in paths: runs of path characters become __."""
    return re.sub(r'["<>:/|\\?*\[\]]+', "__", model_id)


def model_folders(model_ids: Iterable[str]) -> dict[str, str]:
    """The folder of each model; no two are equal, on disks that ignore case either.

    Args:
        model_ids: valid ids (`locus.ids.model_id`).
    """
    plain = {name: harness_name(name) for name in model_ids}
    return _unique(plain, {name for name in plain if not _is_reversible(name)})


def task_names(tasks: Iterable[str]) -> dict[str, str]:
    """A name for each task that can be part of a file's name; tasks' names are any text."""
    plain = {task: re.sub(r"[^A-Za-z0-9]+", "_", task)[:_TASK_KEPT] or "_" for task in tasks}
    doubtful = {t for t in plain if not _PLAIN_TASK.fullmatch(t) or ".." in t}
    plain |= {task: task for task in plain if task not in doubtful}
    return _unique(plain, doubtful)


def _is_reversible(model_id: str) -> bool:
    """Whether no other id gives the same name: every ``__`` in it was a ``/``, and only that."""
    parts = model_id.split("/")
    return not (
        ":" in model_id
        or "__" in model_id
        or (len(parts) > 1 and any(p.startswith("_") or p.endswith("_") for p in parts))
        or model_id.endswith(".")
        or _RESERVED.fullmatch(model_id)
    )


def _unique(plain: dict[str, str], hashed: set[str]) -> dict[str, str]:
    counts = Counter(name.casefold() for name in plain.values())
    return {
        original: f"{name}@{short_hash(original)}"
        if original in hashed or counts[name.casefold()] > 1
        else name
        for original, name in plain.items()
    }
