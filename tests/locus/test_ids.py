"""Identifiers at the edge."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locus.ids import InvalidIdError, model_id, query_id, split_of

HOSTILE = [
    "", " ", "a b", "../x", "a/../b", "a/..", "/etc/passwd", "a//b", "a/", "~/x", "a\nb", "a\x00b",
    "a'b", 'a"b', "a;drop table model", "<script>", "a\\b", "$(id)", "`id`", "a\u202eb", "é",
    "😀", "x" * 201, "a/b/c/d/e", "-rf", ".hidden", "a|b", "a*", "%2e%2e/x", "a/.b",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_model_ids_are_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidIdError, match="model id"):
        model_id(text)


@pytest.mark.parametrize(
    "text", ["org/name", "gemma3:12b-it-q4_K_M", "gpt-4o-2024-05-13", "a/b/c/d", "01-ai/Yi-34B"]
)
def test_real_model_ids_pass(text: str) -> None:
    assert model_id(text) == text


@given(st.text(max_size=60))
def test_whatever_passes_is_harmless(text: str) -> None:
    try:
        passed = model_id(text)
    except InvalidIdError:
        return
    assert passed.isascii()
    assert ".." not in passed
    assert not set(passed) & set("'\"\\ \n\t<>|;$`*?~")
    assert not passed.startswith(("/", ".", "-"))


def test_same_question_same_id() -> None:
    one = query_id("t", "1", {"a": 1, "b": "x"}, "prompt")
    assert one == query_id("t", "1", {"b": "x", "a": 1}, "prompt")
    assert len({one, query_id("t", "2", {"a": 1, "b": "x"}, "prompt"),
                query_id("u", "1", {"a": 1, "b": "x"}, "prompt"),
                query_id("t", "1", {"a": 1, "b": "x"}, "other"),
                query_id("t", "1", {"a": 2, "b": "x"}, "prompt")}) == 5  # fmt: skip


def test_splits_are_stable_and_of_the_right_size() -> None:
    splits = [split_of(f"q-{i}") for i in range(10_000)]
    assert splits == [split_of(f"q-{i}") for i in range(10_000)]
    assert 0.18 < splits.count("test") / 10_000 < 0.22
    assert 0.08 < splits.count("val") / 10_000 < 0.12
