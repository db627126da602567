"""Whatever stands in ``models.yaml``: sound entries, or a clear error that names the file."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hostile import NUMBERS, PATIENCE, as_json, changed, check_told, damaged, fuzz, texts, watched
from hypothesis import strategies as st

from locus.ids import model_id
from locus.registry import EXAMPLES, ModelSpec, RegistryError, append_model, load_registry

pytestmark = [PATIENCE]

HUB = EXAMPLES["vllm"]
SERVED = [EXAMPLES[name] for name in ("local-completions", "local-chat-completions")]
REGISTRIES = (
    {"models": [HUB]},
    {"models": [*SERVED, EXAMPLES["openai-chat-completions"]], "x-notes": {"a": [1, 2]}},
    {"models": [HUB, *SERVED, EXAMPLES["another backend of lm-eval"]]},
)
# What YAML has and JSON has not; some of it is none of YAML's own types.
TAGS = (
    "!!int", "!!float", "!!bool", "!!timestamp", "!!binary", "!!set", "!!omap", "!!pairs",
    "!!null", "!!python/object/apply:os.system", "!!python/name:os.system",
    "!!python/object/new:os.system", "!x", "&a", "*a", "<<: *a", "? ", "- ", "| ", "> ",
    "%YAML 9.9\n---\n", "---\n", "...\n", "# ",
)  # fmt: skip
PLAIN = (
    "0x" + "f" * 5000, "0b" + "1" * 99, "9" * 5000, "1:59:59", "9999-12-31T23:59:59-23:59", "0o8",
    "2026-02-30", "2026-01-01T25:00:00Z", ".nan", "-.inf", "1e400", "~", "yes", "''", "=", "<<",
)  # fmt: skip


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """A registry of changed entries, as JSON (which YAML takes) or as YAML, with tags put in."""
    content = draw(changed(*REGISTRIES))
    if draw(st.booleans()):
        return as_json(content)
    try:
        text = yaml.safe_dump(content, allow_unicode=draw(st.booleans()))
    except (yaml.YAMLError, ValueError):  # a number of 400 digits
        return as_json(content)
    lines = text.splitlines(keepends=True)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, max(len(lines) - 1, 0)))
        name, colon, value = (lines[at] if lines else "").partition(": ")
        put = draw(st.sampled_from(TAGS)) + " " + draw(st.sampled_from([value, "", "x"]))
        put = draw(st.sampled_from([put, draw(st.sampled_from(PLAIN))])).rstrip("\n") + "\n"
        lines[at : at + 1] = [name + colon + put]
    return "".join(lines).encode("utf-8", "surrogatepass")


def check_spec(spec: ModelSpec) -> None:
    """What every part of us relies on."""
    assert model_id(spec.id) == spec.id
    assert spec.args.get("trust_remote_code") in (None, False, "false", "False")
    for number in (spec.params_b, spec.price_in_usd_per_mtok, spec.price_out_usd_per_mtok):
        assert number is None or (math.isfinite(number) and number >= 0)
    for price in spec.price_list():
        assert math.isfinite(price.in_usd_per_mtok) and math.isfinite(price.out_usd_per_mtok)
    spec.model_dump_json()
    assert spec.resolved_revision()


def test_any_document_is_a_registry_or_a_clear_error(ground: Path) -> None:
    path = ground / "a" / "b" / "c" / "models.yaml"

    def check(content: bytes) -> str:
        path.write_bytes(content)
        with watched(ground):
            try:
                specs = load_registry(path)
            except RegistryError as error:
                assert str(path) in str(error)
                check_told(str(error), 20_000)
                return "refused"
        assert len({spec.id for spec in specs}) == len(specs)
        for spec in specs:
            check_spec(spec)
        return f"{min(len(specs), 1)} accepted"

    fuzz(check, damaged(documents()), share=0.8)


def test_any_text_is_a_registry_or_a_clear_error(ground: Path) -> None:
    path = ground / "a" / "models.yaml"

    def check(text: str) -> str:
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            load_registry(path)
        except RegistryError as error:
            assert str(path) in str(error)
            return "YAML" if "as YAML" in str(error) else "no list"
        return "accepted"

    fuzz(check, st.text(st.characters(exclude_categories=[]), max_size=120), share=0.1)


def test_what_is_added_is_read_again(ground: Path, home: Path) -> None:
    path = home / "models.yaml"
    strange = st.fixed_dictionaries(
        {"id": texts | st.sampled_from(["org/a", "b:c"]), "backend": st.just("dummy")},
        optional={
            "family": texts,
            "system_instruction": texts,
            "args": st.dictionaries(texts, texts | st.sampled_from(NUMBERS), max_size=3),
            "params_b": st.sampled_from(NUMBERS),
        },
    )

    def check(entry: dict[str, Any], before: str) -> str:
        path.write_text(before)
        try:
            spec = ModelSpec.model_validate(entry)
        except ValueError:
            return "refused"
        check_spec(spec)
        with watched(ground, home):
            try:
                append_model(path, spec)
            except RegistryError as error:
                check_told(str(error), 20_000)
                assert path.read_text() == before
                return "not added"
        assert load_registry(path)[-1] == spec
        return "added"

    befores = st.sampled_from(
        ["models: []\n", "models:\n- {id: z, backend: dummy}\n", "models: [{id: z, backend: d}]\n"]
    )
    fuzz(check, strange, befores, share=0.1)


@pytest.mark.parametrize("odd", ["\u2028", "a\u2029b", "a\x85b", "\ufeff", "- a: b"])
def test_lines_that_yaml_would_break(tmp_path: Path, odd: str) -> None:
    spec = ModelSpec(id="org/a", backend="dummy", args={odd: odd}, system_instruction=odd)
    append_model(tmp_path / "models.yaml", spec)
    assert load_registry(tmp_path / "models.yaml") == [spec]


BOMB = "\n".join(
    ["x-0: &a0 [b, b]", *(f"x-{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60))]
)
MERGE = "\n".join(
    ["x-0: &a0 {b: c}", *(f"x-{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, 60))]
)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[" * 20_000, id="nested"),
        pytest.param(BOMB + "\nmodels: [*a59]", id="aliases"),
        pytest.param(BOMB + "\nmodels: [{id: *a59}]", id="aliases in an id"),
        pytest.param(MERGE + "\nmodels: [*a59]", id="merges"),
        pytest.param("models: [{id: !!int '', backend: d}]", id="no integer"),
        pytest.param("models: [{id: !!bool x, backend: d}]", id="no truth"),
        pytest.param("models: [{id: !!timestamp x, backend: d}]", id="no time"),
        pytest.param("models: [{id: 9999-12-31T23:59:59-23:59}]", id="a time that is too late"),
        pytest.param("models: [{id: 0x" + "f" * 5000 + "}]", id="a long number"),
        pytest.param("models: [{id: a, params_b: 0x" + "f" * 5000 + "}]", id="a large one"),
        pytest.param(
            "models: [{id: a, backend: d, prices: [{in_usd_per_mtok: 0x" + "f" * 5000 + ", "
            "out_usd_per_mtok: 1}]}]",
            id="a large price",
        ),
        pytest.param(
            "models: [{id: a, backend: d, budget: {queries: 0x" + "f" * 300 + "}}]", id="n"
        ),
        pytest.param("0x" + "f" * 5000 + ": 1\nmodels: []", id="a long key"),
        pytest.param(json.dumps({"models": [], "x" * 9: 1}), id="an unknown key"),
    ],
)
def test_registries_that_were_not_refused_once(tmp_path: Path, text: str) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    with pytest.raises(RegistryError) as error:
        load_registry(path)
    check_told(str(error.value))
