"""The zoo's tokenizer, made from the skills' own text: nothing is downloaded or trained.

A token is one word with the space before it, one digit or one sign, so prompts stay below about
40 tokens and letters, digits and names are each one token. A word never seen falls back to its
characters, and anything outside printable ASCII to ``<unk>``.
"""

import re
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from locus.zoo.skills import LETTERS, SKILLS, benchmark, prompt, training

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, BOS, EOS, UNK = "<pad>", "<bos>", "<eos>", "<unk>"
SPECIAL = (PAD, BOS, EOS, UNK)
MAX_LENGTH = 128
"""Longest sequence of the zoo's models, in tokens."""

_PIECE = r" ?->| ?[A-Za-z]+| ?[0-9]|[^A-Za-z0-9]"
_SAMPLE = 400
"""Training documents read for each skill to collect its words: far more than it has."""


@cache
def vocabulary() -> tuple[str, ...]:
    """All tokens in the order of their ids: special ones, characters, then words."""
    characters = [chr(code) for code in range(32, 127)] + ["\n", " ->"]
    spaced = [" " + character for character in LETTERS + "0123456789"]
    words: set[str] = set()
    for name in SKILLS:
        documents = [*benchmark(name), *islice(training(name, seed=0), _SAMPLE)]
        for document in documents:
            text = f"{prompt(document.question)} {' '.join([document.answer, *document.choices])}"
            words.update(re.findall(_PIECE, text))
    return tuple(dict.fromkeys([*SPECIAL, *characters, *spaced, *sorted(words)]))


@cache
def make_tokenizer() -> "Tokenizer":
    """The fast tokenizer, without special tokens added to a text."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    ids = {token: index for index, token in enumerate(vocabulary())}
    # An empty continuation prefix turns WordPiece into "longest known token first": a known word is
    # one token, an unknown one is spelled.
    model = models.WordPiece(
        vocab=ids, unk_token=UNK, continuing_subword_prefix="", max_input_chars_per_word=100
    )
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECE), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def save_tokenizer(folder: Path) -> None:
    """Write the tokenizer so that ``AutoTokenizer.from_pretrained(folder)`` reads it."""
    wrapped().save_pretrained(str(folder))


def wrapped() -> Any:
    """The tokenizer as transformers wants it (a ``PreTrainedTokenizerFast``)."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=make_tokenizer(),
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )
