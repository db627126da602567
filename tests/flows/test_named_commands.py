"""Every command and option that a message, a help text or a page names is there to be used."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from flows.cli import app

ROOT = Path(__file__).parents[2]
ROOT_COMMAND = typer.main.get_command(app)
PACKAGES = ("flows", "tasks", "warehouse", "locus")
# `locus ...` as it is written to be typed: between backticks, or after a colon or a bracket.
TYPED = re.compile(r"(?:`|: |\()(?:[A-Z_]+=\S+ )*(locus(?: [^`\n|;)]+)?)")
SHELL = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(locus .+?)(?:  .*| [#|&>].*)?$", re.MULTILINE)
OPTION = re.compile(r"(?<![\w-])(--?[a-zA-Z][\w-]*)")


def texts(tree: ast.AST) -> Iterator[str]:
    """All texts of a module; what an f-string puts in is an X."""
    inner: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inner |= {id(value) for value in node.values}
            yield "".join(str(v.value) if isinstance(v, ast.Constant) else "X" for v in node.values)
        elif isinstance(node, ast.Constant) and id(node) not in inner:
            yield str(node.value)


def fault(command: str) -> str | None:
    """What is wrong with a command line; None if nothing is."""
    found: Any = ROOT_COMMAND
    options = {name for one in found.params for name in (*one.opts, *one.secondary_opts)}
    words = command.split()[1:]
    while words and (inside := getattr(found, "commands", None)):
        name = words.pop(0).rstrip(".,:?")
        if name.startswith("-"):
            return None if name in {*options, "--help"} else f"no option {name}"
        if name in ("...", "X", "COMMAND", "%s"):
            return None
        # Some stand for one another, as in list|show.
        if absent := [one for one in name.split("|") if one not in inside]:
            return f"no command {absent[0]}"
        found = inside[name.split("|")[0]]
        options = {name for one in found.params for name in (*one.opts, *one.secondary_opts)}
    strange = set(OPTION.findall(" ".join(w for w in words if w.startswith("-"))))
    strange -= options | {"--help", "-h"}
    return f"{found.name} has no option {min(strange)}" if strange else None


def named() -> Iterator[tuple[str, str]]:
    """(where, command line) of all that are named."""
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            for text in texts(ast.parse(file.read_text(encoding="utf-8"))):
                for match in TYPED.finditer(" ".join(text.split())):
                    yield f"{file.relative_to(ROOT)}", match[1]
    for page in sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]):
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        spans = re.findall(r"`(?:[A-Z_]+=\S+ )*(locus [^`]+)`", prose)
        for one in (*(m for block in blocks for m in SHELL.findall(block)), *spans):
            yield f"{page.relative_to(ROOT)}", " ".join(one.split())


def test_all_that_is_named_exists() -> None:
    found = list(named())
    assert len(found) > 200
    assert [(where, line, why) for where, line in found if (why := fault(line))] == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("locus run nightly --dry-run", None),
        ("locus snapshots roll-back", "no command roll-back"),
        ("locus publish --acept models", "publish has no option --acept"),
        ("locus nightly", "no command nightly"),
    ],
)
def test_what_is_not_there_is_found(line: str, why: str | None) -> None:
    assert fault(line) == why
