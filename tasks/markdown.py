"""Strangers' text where people read it: notifications, Markdown, tables, names of runs.

Model ids are validated at the edge; reasons quote models, services and logs. The one place that
makes any of it harmless.
"""

import unicodedata

CELL_MAX = 500
NAME_MAX = 100
REVISION_SHOWN = 12

_LOOK_ALIKES = str.maketrans(
    {"<": "\u2039", ">": "\u203a", "[": "(", "]": ")", "`": "'", "@": "\uff20", "&": "\uff06"}
)
# Unicode's own line ends: nothing to a category of control characters, and yet a new line.
_LINE_ENDS = str.maketrans({"\u2028": "\n", "\u2029": "\n", "\u0085": "\n", "\r": "\n"})


def plain(text: str) -> str:
    """Text without anything that a terminal, HTML, Markdown or a chat would act on.

    Control and format characters go; brackets, backticks, at-signs and ampersands become
    look-alikes, so that no tag, no hidden link and no mention is left. Line breaks stay.
    """
    kept = "".join(
        " " if c == "\t" else c
        for c in text.replace("\r\n", "\n").translate(_LINE_ENDS)
        if c in "\n\t" or unicodedata.category(c)[0] != "C"
    )
    return kept.translate(_LOOK_ALIKES)


def line(text: str, most: int = CELL_MAX) -> str:
    """`plain` in one line of at most so many characters, such as a value of a table artifact."""
    flat = " ".join(plain(text).split())
    return flat if len(flat) <= most else flat[: most - 4] + " ..."


def cell(text: str, most: int = CELL_MAX) -> str:
    """`line` as a cell of a Markdown table: code, in which a bare address is no link.

    A pipe would end the cell even there, and a backslash before the closing backtick is no escape,
    so nothing else of Markdown is left to act on. Empty text stays empty.
    """
    flat = line(text, most).replace("|", "\u00a6")
    return f"`{flat}`" if flat else ""


def run_name(*parts: str, most: int = NAME_MAX) -> str:
    """Name of a run, its parts joined by ``-``: printable, one line, short.

    Args:
        parts: such as the flow and the model; empty ones are left out.
        most: characters.
    """
    said = line("-".join(part for part in parts if part), len("-".join(parts)))
    said = said.replace("\uff20", "@")  # a name is sent to no chat, and a revision has one
    return said if len(said) <= most else said[: most - 3] + "..."


def versioned(model_id: str, revision: str | None) -> str:
    """A model at a revision, which is cut as short as people read it: ``org/name@1a2b3c``."""
    return f"{model_id}@{revision[:REVISION_SHOWN]}" if revision else model_id
