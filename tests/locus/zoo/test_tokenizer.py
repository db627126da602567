"""The tokenizer: short prompts, text that comes back unchanged, nothing unknown."""

from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locus.zoo.skills import SKILLS, benchmark, prompt, training
from locus.zoo.tokenizer import EOS, PAD, UNK, make_tokenizer, save_tokenizer, vocabulary


@pytest.mark.parametrize("name", sorted(SKILLS))
def test_documents_are_short_and_known_and_come_back(name: str) -> None:
    tokenizer = make_tokenizer()
    for document in [*benchmark(name), *islice(training(name, seed=7), 200)]:
        asked = prompt(document.question)
        whole = tokenizer.encode(f"{asked} {document.answer}")
        # lm-eval and training cut the same text at the same token.
        assert whole.ids[: len(tokenizer.encode(asked).ids)] == tokenizer.encode(asked).ids
        assert len(whole.ids) < 64
        assert UNK not in whole.tokens
        assert tokenizer.decode(whole.ids) == f"{asked} {document.answer}"


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
def test_any_printable_ascii_comes_back(text: str) -> None:
    encoded = make_tokenizer().encode(text, add_special_tokens=False)
    if not any(special in text for special in ("<pad>", "<bos>", "<eos>", "<unk>")):
        assert make_tokenizer().decode(encoded.ids, skip_special_tokens=False) == text


def test_a_word_never_seen_is_spelled_and_a_strange_sign_is_unknown() -> None:
    tokens = make_tokenizer().encode("Xylo é").tokens
    assert tokens[:4] == list("Xylo")
    assert UNK in tokens


def test_the_saved_tokenizer_is_the_same(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    save_tokenizer(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = prompt(benchmark("compare")[0].question)
    assert loaded(text)["input_ids"] == make_tokenizer().encode(text).ids
    assert loaded.decode(loaded(text)["input_ids"]) == text
    assert (loaded.pad_token, loaded.eos_token) == (PAD, EOS)
    assert len(loaded) == len(vocabulary()) == len(set(vocabulary()))
