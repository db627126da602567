"""models.yaml: every fault is named, nothing hostile gets through."""

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from flows.starter import REGISTRY
from locus.budget import Budget
from locus.prices import Price
from locus.registry import (
    EXAMPLES,
    ModelSpec,
    RegistryError,
    append_model,
    folder_revision,
    load_registry,
    registry_schema,
)

DOCS = Path(__file__).resolve().parents[2] / "docs"
SHA = "0123456789abcdef0123456789abcdef01234567"


def write(folder: Path, text: str) -> Path:
    path = folder / "models.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_local_folder_is_its_own_revision(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "weights.safetensors").write_bytes(b"1")
    path = write(tmp_path, "models:\n- {id: org/m, args: {pretrained: m}, released: 2026-01-01}\n")
    (spec,) = load_registry(path)
    before = spec.resolved_revision()
    assert spec.args["pretrained"] == str(tmp_path / "m")
    assert (spec.org, spec.released) == ("org", "2026-01-01")
    (tmp_path / "m" / "weights.safetensors").write_bytes(b"2")
    assert spec.resolved_revision() != before


@pytest.mark.parametrize("backend", ["hf", "huggingface", "vllm", "vllm-vlm"])
def test_a_hub_model_is_pinned(tmp_path: Path, backend: str) -> None:
    start = f"models:\n- {{id: o/m, backend: {backend}, args: {{pretrained: o/m}}"
    with pytest.raises(RegistryError, match=r"'o/m'\): 'o/m' is no local folder.*40 digits"):
        load_registry(write(tmp_path, start + "}\n"))
    with pytest.raises(RegistryError, match="40 digits of a commit"):
        load_registry(write(tmp_path, start + ", revision: main}\n"))
    (spec,) = load_registry(write(tmp_path, start + f", revision: {SHA}}}\n"))
    assert spec.resolved_revision() == SHA == spec.backend_args()["revision"]
    # lm-eval's vllm would take the newest tokenizer.
    assert spec.backend_args().get("tokenizer_revision") == (SHA if "vllm" in backend else None)


def test_weights_in_a_folder_are_their_own_revision_for_vllm_too(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "weights.safetensors").write_bytes(b"1")
    path = write(tmp_path, "models:\n- {id: o/m, backend: vllm, args: {pretrained: m}}\n")
    (spec,) = load_registry(path)
    assert spec.local_folder == tmp_path / "m"
    assert spec.resolved_revision() == folder_revision(tmp_path / "m")
    assert spec.backend_args() == {"pretrained": str(tmp_path / "m")}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "list under the key"),
        ("models: 3", "list under the key"),
        ("models: [", "YAML"),
        ("models: [{id: ../../x, backend: dummy}]", "not valid"),
        ("models: [{id: a, backend: dummy}, {id: a, backend: dummy}]", "more than once"),
        ("models: [{id: a, backend: dummy, colour: red}]", "colour"),
        ("models: [{id: a, backend: 'x;rm'}]", "backend"),
        (
            "models: [{id: a, backend: hf, args: {pretrained: o/m, trust_remote_code: true}}]",
            "code",
        ),
        ("models: [{id: a, backend: dummy, price_in_usd_per_mtok: -1}]", "price_in"),
        (
            "models: [{id: a, backend: dummy, params: 7}]",
            "params is no field; did you mean params_b",
        ),
        ("models: [7]", r"model 1 \('7'\): an entry is a mapping"),
        ("models: [{backend: dummy}]", r"\('without id'\): id is missing"),
        ("modles: []\nmodels: []", "'modles' is no key"),
        (
            "models: [{id: a, backend: dummy, revision: 2026-01-01}]",
            "revision: YAML reads .* a date",
        ),
        ("models: [{id: a, backend: dummy, family: 7}]", "family: YAML reads 7 as a number"),
        ("models: [{id: a, backend: dummy, released: spring}]", "released: .* 'spring'"),
        ("models: [{id: a, backend: dummy, args: {x: [1]}}]", "args: x is a text, a number"),
        ("models: [{id: a, backend: dummy, args: [x]}]", "args: args are names and values"),
        ("models: [{id: a, backend: dummy, args: {revision: x}}]", "args.revision is refused"),
        ("models: [{id: a, backend: dummy, params_b: .nan}]", "params_b: .*finite"),
        (
            "models: [{id: a, backend: dummy, price_in_usd_per_mtok: 1}]",
            "price_out_usd_per_mtok is missing",
        ),
        ("models: [{id: a, backend: dummy, price_out_usd_per_mtok: .inf}]", "price_out.*finite"),
        (
            "models: [{id: a, backend: dummy, price_in_usd_per_mtok: 1, price_out_usd_per_mtok: 1, "
            "prices: [{in_usd_per_mtok: 1, out_usd_per_mtok: 1}]}]",
            "give either",
        ),
        (
            "models: [{id: a, backend: dummy, prices: [{in_usd_per_mtok: 1}]}]",
            r"\('a'\): prices, entry 1: out_usd_per_mtok is missing",
        ),
        (
            "models: [{id: a, backend: dummy, "
            "prices: [{in_usd_per_mtok: .nan, out_usd_per_mtok: 1}]}]",
            "entry 1: in_usd_per_mtok is a finite number, 0 or more, not 'nan'",
        ),
        (
            "models: [{id: a, backend: dummy, "
            "prices: [{in_usd_per_mtok: true, out_usd_per_mtok: 1}]}]",
            "not 'True'",
        ),
        (
            "models: [{id: a, backend: dummy, prices: [{in: 1, out_usd_per_mtok: 1}]}]",
            "in is no part of a price",
        ),
        ("models: [{id: a, backend: dummy, prices: [3]}]", "a price is written as"),
        (
            "models: [{id: a, backend: dummy, prices: [{in_usd_per_mtok: 1, out_usd_per_mtok: 1, "
            "valid_from: 20260101}]}]",
            "valid_from is a day such as",
        ),
        (
            "models: [{id: a, backend: dummy, prices: [{in_usd_per_mtok: 1, out_usd_per_mtok: 1, "
            "valid_from: '2026-02-30'}]}]",
            "there is no day 2026-02-30",
        ),
        (
            "models: [{id: a, backend: dummy, prices: ["
            "{in_usd_per_mtok: 1, out_usd_per_mtok: 1, valid_from: 2026-01-01}, "
            "{in_usd_per_mtok: 2, out_usd_per_mtok: 1, valid_from: '2026-01-01'}]}]",
            "2026-01-01 is the first day of more than one price",
        ),
        (
            "models: [{id: a, backend: dummy, prices: [{in_usd_per_mtok: 1, out_usd_per_mtok: 1}, "
            "{in_usd_per_mtok: 2, out_usd_per_mtok: 1}]}]",
            "no first day is given of more than one",
        ),
        ("models: [{id: a, backend: dummy, budget: {dollars: 1}}]", "budget.dollars is no field"),
        ("models: [{id: a, backend: dummy, budget: {usd: -1}}]", "budget.usd: .* not '-1'"),
        ("models: [{id: a, backend: dummy, budget: {minutes: .inf}}]", "minutes is inf"),
        ("models: [{id: a, backend: dummy, budget: {queries: 1.5}}]", "budget.queries: "),
        ("models: [{id: a, backend: dummy, released: 2026-13-01}]", "YAML"),
        ("models: !!python/object/apply:os.system ['true']", "YAML"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(RegistryError, match=reason):
        load_registry(write(tmp_path, text))


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "models: [{id: 'a b', backend: dummy}, {id: b, backend: hf}]")
    with pytest.raises(RegistryError, match=r"2 fault\(s\)(?s:.)*model 1(?s:.)*model 2"):
        load_registry(path)


def test_missing_registry_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="locus init"):
        load_registry(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "before",
    [None, "models: []\n", "# mine\nmodels:\n- {id: z, backend: dummy}\n",
     "models:\n    - id: z  # note\n      backend: dummy\n"],
)  # fmt: skip
def test_append_keeps_what_is_there(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "models.yaml"
    if before is not None:
        path.write_text(before)
    spec = ModelSpec(
        id="org/new",
        backend="dummy",
        params_b=1.5,
        prices=(Price(1.0, 2.0), Price(0.5, 1.0, date(2026, 3, 1))),
        budget=Budget(usd=2.0),
    )
    append_model(path, spec)
    assert load_registry(path)[-1] == spec
    if before and "#" in before:
        assert before.split("\n")[0] in path.read_text()
    text = path.read_text()
    with pytest.raises(RegistryError, match="already"):
        append_model(path, spec)
    assert path.read_text() == text
    assert [p.name for p in tmp_path.iterdir()] == ["models.yaml"]


def test_large_files_count_by_their_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("locus.registry.revision._WHOLE_FILE", 1000)
    monkeypatch.setattr("locus.registry.revision._BLOCK", 100)
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"a" * 5000)
    before = folder_revision(tmp_path)
    file.write_bytes(b"a" * 4990 + b"b" * 10)
    assert folder_revision(tmp_path) != before


@pytest.mark.parametrize(
    "text",
    ["models:\n- {id: z, backend: dummy}\nx-more: {a: 1}\n", "models: [{id: z, backend: dummy}]\n"],
)
def test_a_list_without_room_at_its_end_is_left_alone(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(RegistryError, match=r"add this by hand:\n- id: org/new"):
        append_model(path, ModelSpec(id="org/new", backend="dummy"))
    assert path.read_text() == text


def test_anchors_have_a_place(tmp_path: Path) -> None:
    text = "x-all: &all {backend: dummy, family: f}\nmodels:\n- {id: a, <<: *all}\n"
    assert load_registry(write(tmp_path, text))[0].family == "f"


def test_prices_have_their_days(tmp_path: Path) -> None:
    text = """models:
- id: a
  backend: dummy
  prices:
  - {in_usd_per_mtok: 0.5, out_usd_per_mtok: 1, valid_from: '2026-03-01'}
  - {in_usd_per_mtok: 2, out_usd_per_mtok: 4, valid_from: 2026-01-01}
- {id: b, backend: dummy, price_in_usd_per_mtok: 1, price_out_usd_per_mtok: 0}
- {id: c, backend: dummy}
"""
    a, b, c = load_registry(write(tmp_path, text))
    assert [p.valid_from for p in a.price_list()] == [date(2026, 1, 1), date(2026, 3, 1)]
    assert a.price_now(date(2025, 12, 31)) is None
    assert a.price_now(date(2026, 2, 28)) == Price(2.0, 4.0, date(2026, 1, 1))
    assert a.price_now(date(2026, 3, 1)) == Price(0.5, 1.0, date(2026, 3, 1))
    assert b.price_now(date(2026, 1, 1)) == Price(1.0, 0.0)
    assert c.price_now(date(2026, 1, 1)) is None


def as_json(text: str) -> Any:
    """YAML as an editor's schema sees it: dates are texts."""
    return json.loads(json.dumps(yaml.safe_load(text), default=date.isoformat))


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = registry_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_schema_in_the_docs_is_this_one() -> None:
    written = (DOCS / "models.schema.json").read_text(encoding="utf-8")
    now = json.dumps(registry_schema(), indent=2, ensure_ascii=False) + "\n"
    assert written == now, "write it anew: locus models schema > docs/models.schema.json"


def test_every_field_of_the_schema_is_described() -> None:
    schema = registry_schema()
    for part in ("ModelSpec", "Price", "Budget"):
        for name, field in schema["$defs"][part]["properties"].items():
            assert len(field["description"]) > 5, f"{part}.{name}"
    page = (DOCS / "models.md").read_text(encoding="utf-8")
    missing = [name for name in ModelSpec.model_fields if f"`{name}`" not in page]
    assert not missing


def test_examples_are_valid_for_both(
    tmp_path: Path, validator: jsonschema.Draft202012Validator
) -> None:
    """Those of the schema, those of the page, and the starter's with its comments taken away."""
    (tmp_path / "models" / "local").mkdir(parents=True)
    page = (DOCS / "models.md").read_text(encoding="utf-8")
    starter = "".join(
        line.removeprefix("# ") + "\n"
        for line in REGISTRY.splitlines()
        if re.match(r"#( models:|   )", line)
    )
    texts = [
        *(json.dumps({"models": [example]}) for example in EXAMPLES.values()),
        *re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL),
        REGISTRY,
        starter,
    ]
    assert len(texts) >= 2 * len(EXAMPLES) + 2
    for text in texts:
        assert not list(validator.iter_errors(as_json(text))), text
        loaded = load_registry(write(tmp_path, text))
        assert len(loaded) == len(yaml.safe_load(text)["models"])
    assert len(loaded) == 3
    of_page = [yaml.safe_load(text)["models"][0] for text in texts[len(EXAMPLES) : -2]]
    ids = [entry["id"] for entry in of_page]
    for example in EXAMPLES.values():
        shown = of_page[ids.index(example["id"])]
        assert json.loads(json.dumps(shown, default=date.isoformat)) == example


@pytest.mark.parametrize(
    "entry",
    [
        {"backend": "dummy"},
        {"id": "../x", "backend": "dummy"},
        {"id": "a..b", "backend": "dummy"},
        {"id": "a", "backend": "Dummy!"},
        {"id": "a", "backend": "dummy", "colour": "red"},
        {"id": "a"},
        {"id": "a", "backend": "vllm", "args": {"dtype": "auto"}},
        {"id": "a", "backend": "hf", "args": {"pretrained": "a/b", "trust_remote_code": True}},
        {"id": "a", "backend": "dummy", "args": {"api_key": "x"}},
        {"id": "a", "backend": "dummy", "args": {"hf_token": "x"}},
        {"id": "a", "backend": "dummy", "args": {"my_password": "x"}},
        {"id": "a", "backend": "dummy", "args": {"revision": "x"}},
        {"id": "a", "backend": "dummy", "args": {"x": None}},
        {"id": "a", "backend": "dummy", "args": {"api_key_env": "HOME"}},
        {"id": "a", "backend": "local-completions", "args": {"model": "m"}},
        {"id": "a", "backend": "local-completions", "args": {"model": "m", "base_url": "x"}},
        {"id": "a", "backend": "openai-chat-completions", "args": {}},
        {"id": "a", "backend": "dummy", "params_b": -1},
        {"id": "a", "backend": "dummy", "released": "soon"},
        {"id": "a", "backend": "dummy", "price_in_usd_per_mtok": 1},
        {"id": "a", "backend": "dummy", "prices": [{"in_usd_per_mtok": 1}]},
        {"id": "a", "backend": "dummy", "prices": [{"in_usd_per_mtok": -1, "out_usd_per_mtok": 1}]},
        {"id": "a", "backend": "dummy", "price_in_usd_per_mtok": 1, "price_out_usd_per_mtok": 1,
         "prices": [{"in_usd_per_mtok": 1, "out_usd_per_mtok": 1}]},
        {"id": "a", "backend": "dummy", "budget": {"dollars": 1}},
        {"id": "a", "backend": "dummy", "budget": {"queries": -1}},
        {"id": "a", "backend": "dummy", "system_instruction": ""},
        7,
    ],
)  # fmt: skip
def test_faults_are_refused_by_both(
    tmp_path: Path, validator: jsonschema.Draft202012Validator, entry: Any
) -> None:
    text = json.dumps({"models": [entry]})
    assert list(validator.iter_errors(json.loads(text)))
    with pytest.raises(RegistryError):
        load_registry(write(tmp_path, text))


def test_other_keys_of_the_file_are_refused_by_both(
    tmp_path: Path, validator: jsonschema.Draft202012Validator
) -> None:
    good, bad = {"models": [], "x-mine": 1}, {"models": [], "mine": 1}
    assert not list(validator.iter_errors(good))
    assert list(validator.iter_errors(bad))
    assert load_registry(write(tmp_path, json.dumps(good))) == []
    with pytest.raises(RegistryError, match="'mine' is no key"):
        load_registry(write(tmp_path, json.dumps(bad)))


def test_a_secret_is_never_repeated(tmp_path: Path) -> None:
    for args in ("{api_key: marker-key}", "{key: [marker-key]}", "{x: 'https://u:marker-key@h/'}"):
        with pytest.raises(RegistryError) as refused:
            load_registry(write(tmp_path, f"models: [{{id: a, backend: dummy, args: {args}}}]"))
        assert "marker-key" not in str(refused.value)
