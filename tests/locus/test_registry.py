"""models.yaml: every fault is named, nothing hostile gets through."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locus.registry import ModelSpec, RegistryError, append_model, folder_revision, load_registry

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


def test_a_hub_model_is_pinned(tmp_path: Path) -> None:
    path = write(tmp_path, "models:\n- {id: org/m, args: {pretrained: org/m}}\n")
    with pytest.raises(RegistryError, match="40 digits of a commit"):
        load_registry(path)
    path = write(tmp_path, f"models:\n- {{id: o/m, args: {{pretrained: o/m}}, revision: {SHA}}}\n")
    assert load_registry(path)[0].resolved_revision() == SHA


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
        ("models: [7]", "7"),
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


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=120))
def test_any_text_is_a_registry_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory,
                                                 text: str) -> None:  # fmt: skip
    path = tmp_path_factory.mktemp("r") / "models.yaml"
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    try:
        load_registry(path)
    except RegistryError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    "before",
    [None, "models: []\n", "# mine\nmodels:\n- {id: z, backend: dummy}\n",
     "models:\n    - id: z  # note\n      backend: dummy\n"],
)  # fmt: skip
def test_append_keeps_what_is_there(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "models.yaml"
    if before is not None:
        path.write_text(before)
    spec = ModelSpec(id="org/new", backend="dummy", params_b=1.5)
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
    monkeypatch.setattr("locus.registry._WHOLE_FILE", 1000)
    monkeypatch.setattr("locus.registry._BLOCK", 100)
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"a" * 5000)
    before = folder_revision(tmp_path)
    file.write_bytes(b"a" * 4990 + b"b" * 10)
    assert folder_revision(tmp_path) != before
