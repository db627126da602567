"""Strangers' text through a real Markdown parser: nothing of it is left to act."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tasks.markdown import CELL_MAX, NAME_MAX, cell, line, plain, run_name, versioned

HOSTILE = [
    "a | b || c\\| d",
    "`rm -rf` ``` ``\\`",
    "one\ntwo\r\nthree\rfour\u2028five\u2029six\x85seven\x0beight",
    "[click](http://evil.example) ![x](http://evil.example/t.png) <http://evil.example>",
    "http://evil.example www.evil.example me@evil.example",
    "<script>alert(1)</script><img src=x onerror=alert(1)> &lt;b&gt; &#x60;",
    "\x1b[2J\x1b]0;title\x07\x00",
    "gpl.exe\u202egnp.ecivres \u2066hidden\u2069 zero\u200bwidth",
    "# head * list _em_ ~~gone~~ $x$ {{ template }}",
    "ends with \\",
    " \t ",
]
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")


def cells_of(markdown: str) -> list[list[Token]]:
    """What a parser finds in each cell of the one row below the head."""
    tokens = MARKDOWN.parse(markdown)
    return [
        tokens[at + 1].children or [] for at, token in enumerate(tokens) if token.type == "td_open"
    ]


def check_cell(text: str) -> None:
    row = f"| a | b | c |\n|---|---|---|\n| {cell(text)} | {cell(text)} | last |"
    first, second, last = cells_of(row)
    for found in (first, second):
        assert [token.type for token in found] == (["code_inline"] if cell(text) else [])
    assert [token.content for token in last] == ["last"]
    assert len(MARKDOWN.render(row).split("<tr>")) == 3


@pytest.mark.parametrize("text", HOSTILE)
def test_a_cell_is_one_piece_of_code(text: str) -> None:
    check_cell(text)


@given(
    st.text(
        st.characters(exclude_categories=()) | st.sampled_from("|`\\\n[]()<>&@*_~"), max_size=80
    )
)
def test_whatever_the_text(text: str) -> None:
    check_cell(text)
    for shown in (line(text), run_name("flow", text)):
        assert all(unicodedata.category(c)[0] != "C" for c in shown)
        assert len(shown.splitlines()) <= 1
        assert not set(shown) & set("<>[]`&")


def test_what_is_meant_stays() -> None:
    said = "gate routing: 0.81, was 0.90 (p 0.001); org/model-1.5_b: Grüße 日本"
    assert plain(said + "\n- next") == said + "\n- next"
    assert cell(said) == f"`{said}`"
    assert plain("a\r\nb\u2028c") == "a\nb\nc"
    assert cell("") == ""


def test_long_text_is_cut() -> None:
    assert len(line("x" * 10_000)) == CELL_MAX
    assert line("x" * 10_000).endswith(" ...")
    assert len(run_name("add-model", "m" * 200)) == NAME_MAX


def test_names_say_model_and_revision() -> None:
    name = run_name("add-model", versioned("org/late:1.5b", "0123456789abcdef0123"), "")
    assert name == "add-model-org/late:1.5b@0123456789ab"
    assert versioned("org/late", None) == "org/late"
