"""The hub, asked through its own client at a real server, and what is taken of it."""

from datetime import date
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from hub_server import HubServer, commit, repository
from huggingface_hub.hf_api import ModelInfo
from hypothesis import given
from hypothesis import strategies as st

from locus.hub import WatchSettings
from locus.hub.client import Hub, HubError
from locus.hub.poll import Poll, poll
from locus.hub.revise import replace_revision
from locus.hub.rules import entry, name_obstacle, obstacle
from locus.registry import ModelSpec, RegistryError, append_model, load_registry


def watching(hub: HubServer, **settings: Any) -> WatchSettings:
    return WatchSettings.model_validate(
        {
            "authors": ["org"],
            "endpoint": hub.address,
            "request_attempts": 1,
            "request_timeout_seconds": 5,
            **settings,
        }
    )


def look(settings: WatchSettings, *known: ModelSpec, folder: Path = Path("/nowhere")) -> Poll:
    return poll(settings, known, folder)


def info(**other: Any) -> ModelInfo:
    return ModelInfo(**repository("org/a", **other))


# --- What is taken -------------------------------------------------------------------------------


def test_a_new_model_becomes_an_entry_pinned_to_its_commit(hub: HubServer, tmp_path: Path) -> None:
    hub.add("org/new-1.5b")
    found = look(watching(hub))
    assert found.failed == [] and found.left == {} and found.moved == []
    (spec,) = found.new
    assert spec == ModelSpec(
        id="org/new-1.5b",
        backend="hf",
        args={"pretrained": "org/new-1.5b"},
        revision=commit("org/new-1.5b"),
        params_b=1.5,
        family="qwen3",
        license="apache-2.0",
        released="2026-03-01",
        chat_template=True,
    )
    append_model(tmp_path / "models.yaml", spec)
    assert load_registry(tmp_path / "models.yaml") == [spec]


def test_nothing_is_asked_while_nothing_is_watched(hub: HubServer) -> None:
    hub.add("org/a")
    assert look(watching(hub, authors=[], allow=["*"])) == Poll()
    assert hub.asked == []


def test_no_token_leaves_this_machine(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 30)
    hub.add("org/a")
    assert len(look(watching(hub)).new) == 1
    assert hub.tokens == [None, None]


def test_each_author_and_search_text_is_asked_with_all_filters(hub: HubServer) -> None:
    hub.add("org/small-chat", tags=["text-generation", "en"])
    hub.add("org/small-base", tags=["text-generation", "de"])
    hub.add("lab/small-chat", tags=["text-generation", "en"])
    hub.add("lab/large-chat", tags=["text-generation", "en"])
    hub.add("stranger/small-chat", tags=["text-generation", "en"])
    settings = watching(
        hub, authors=["org", "lab"], search=["small"], filters=["text-generation", "en"]
    )
    assert [spec.id for spec in look(settings).new] == ["org/small-chat", "lab/small-chat"]
    lists = [query for path, query in hub.asked if path == "/api/models"]
    assert [query["author"] for query in lists] == [["org"], ["lab"]]
    assert all(query["filter"] == ["text-generation", "en"] for query in lists)
    assert all(query["search"] == ["small"] for query in lists)


def test_only_the_newest_are_looked_at_over_pages(hub: HubServer) -> None:
    for day in range(1, 10):
        hub.add(f"org/m{day}", createdAt=f"2026-03-0{day}T00:00:00.000Z")
    hub.page = 2
    assert [s.id for s in look(watching(hub, newest=5)).new] == [
        "org/m9", "org/m8", "org/m7", "org/m6", "org/m5",
    ]  # fmt: skip
    assert len([path for path in hub.paths() if path == "/api/models"]) == 3


def test_a_model_found_twice_is_taken_once(hub: HubServer) -> None:
    hub.add("org/tiny-chat")
    found = look(watching(hub, search=["tiny", "chat"]))
    assert [spec.id for spec in found.new] == ["org/tiny-chat"]


def test_what_is_in_the_registry_is_not_new_and_not_looked_at(hub: HubServer) -> None:
    hub.add("org/a")
    (spec,) = look(watching(hub)).new
    hub.asked.clear()
    found = look(watching(hub), spec)
    assert (found.new, found.left) == ([], {"org/a": "it is in models.yaml"})
    assert hub.paths() == ["/api/models"]


@pytest.mark.parametrize(
    ("settings", "other", "why"),
    [
        ({}, {"private": True}, "it is private"),
        ({}, {"gated": "auto"}, "it is gated"),
        ({}, {"gated": "manual"}, "it is gated"),
        ({}, {"disabled": True}, "it is disabled"),
        ({}, {"library_name": "peft"}, "its library is 'peft', not transformers"),
        ({}, {"library_name": None}, "its library is unknown, not transformers"),
        ({}, {"library_name": ["transformers"]}, "not transformers"),
        ({}, {"tags": ["custom_code"]}, "it needs code of its own, which is never run"),
        ({}, {"config": {"auto_map": {"AutoModel": "x.Y"}}}, "it needs code of its own"),
        ({}, {"sha": None}, "the hub doesn't tell its commit"),
        ({}, {"sha": "main"}, "the hub doesn't tell its commit"),
        ({}, {"siblings": []}, "it has no safetensors weights"),
        ({}, {"siblings": [{"rfilename": "pytorch_model.bin"}]}, "('pytorch_model.bin' is never"),
        ({}, {"siblings": [{"rfilename": "sub/model.safetensors"}]}, "no safetensors weights"),
        ({}, {"siblings": [{"rfilename": "adapter_model.safetensors"}]}, "no safetensors weights"),
        ({"most_params_b": 1}, {}, "it has 1.5 billion parameters, and watch.most_params_b is 1"),
        ({"most_params_b": 1}, {"safetensors": None}, "the hub doesn't tell its size"),
        ({"licenses": ["mit"]}, {}, "its licence is 'apache-2.0', not one of watch.licenses"),
        ({"licenses": ["mit"]}, {"tags": []}, "its licence is unknown"),
        ({"created_after": date(2026, 3, 2)}, {}, "it is from 2026-03-01, before"),
        ({"created_after": date(2026, 3, 2)}, {"createdAt": None}, "doesn't tell when"),
        ({"deny": ["org/*"]}, {}, "its id matches 'org/*' of watch.deny"),
        ({"allow": ["lab/*", "org/b*"]}, {}, "its id matches no pattern of watch.allow"),
        ({"allow": ["org/*"], "deny": ["*a"]}, {}, "of watch.deny"),
        ({"filters": ["gguf"]}, {}, "it has no tag 'gguf'"),
    ],
)
def test_what_is_left_out_says_why(
    settings: dict[str, Any], other: dict[str, Any], why: str
) -> None:
    said = obstacle(info(**other), WatchSettings(**settings))
    assert said is not None and why in said


@pytest.mark.parametrize(
    ("settings", "other"),
    [
        ({"most_params_b": 1.5}, {}),
        ({}, {"safetensors": None}),
        ({"licenses": ["mit", "apache-2.0"]}, {}),
        ({"created_after": date(2026, 3, 1)}, {}),
        ({"allow": ["lab/*", "org/*"], "deny": ["org/b"]}, {}),
        ({"filters": ["text-generation", "transformers", "en"]}, {"tags": ["en"]}),
        ({}, {"siblings": [{"rfilename": "model.safetensors.index.json"}]}),
        # transformers prefers safetensors to a pickled file beside them.
        ({}, {"siblings": [{"rfilename": n} for n in ("pytorch_model.bin", "model.safetensors")]}),
    ],
)
def test_what_is_taken(settings: dict[str, Any], other: dict[str, Any]) -> None:
    assert obstacle(info(**other), WatchSettings(**settings)) is None


def test_the_whole_poll_says_why_it_leaves_out(hub: HubServer) -> None:
    hub.add("org/gated", gated="auto")
    hub.add("org/pickled", siblings=[{"rfilename": "pytorch_model.bin"}])
    hub.add("org/good")
    found = look(watching(hub))
    assert [spec.id for spec in found.new] == ["org/good"]
    assert set(found.left) == {"org/gated", "org/pickled"}
    # What the list tells already costs no request of its own.
    assert not any(path.endswith("org/gated") for path in hub.paths())


@pytest.mark.parametrize(
    ("config", "settings", "template"),
    [
        ({"tokenizer_config": {"chat_template": "x"}}, {}, True),
        ({"chat_template_jinja": "x"}, {}, True),
        ({"tokenizer_config": {"chat_template": "x"}}, {"chat_template": False}, False),
        ({"tokenizer_config": {}}, {}, False),
        ({"tokenizer_config": "x"}, {}, False),
        ("x", {}, False),
        (None, {}, False),
    ],
)
def test_the_chat_template(config: object, settings: dict[str, Any], template: bool) -> None:
    assert entry(info(config=config), WatchSettings(**settings)).chat_template is template


def test_facts_of_strangers_are_taken_only_where_they_are_plain() -> None:
    spec = entry(
        info(
            config={"model_type": "x\n- id: evil"},
            tags=["license:\x1b[31mred", 7, None],
            safetensors={"parameters": {}, "total": -5},
            createdAt="2022-03-02T23:29:04.000Z",
        ),
        WatchSettings(),
    )
    assert (spec.family, spec.license, spec.params_b, spec.released) == (None, None, None, None)


# --- Names of strangers --------------------------------------------------------------------------

HOSTILE = [
    "../../etc/passwd", "/etc/passwd", "org/..", "org/a\nb", "org/a b", "org/'; DROP TABLE x",
    "org/\x1b[2J", "a/b/c", "", "org/a" * 60, "org/\u202eevil", "org/--x", "org/a.git", "C:\\x",
    "~root/x", "org/a\x00",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_left_out_and_never_asked_for(hub: HubServer, name: str) -> None:
    hub.add("org/good")
    hub.models["x"] = repository(name, createdAt="2026-05-01T00:00:00.000Z")
    found = look(watching(hub, authors=[], filters=["text-generation"]))
    assert [spec.id for spec in found.new] == ["org/good"]
    assert list(found.left.values()) == ["its name is not a valid id"]
    assert hub.paths() == ["/api/models", "/api/models/org/good"]


@pytest.mark.parametrize("name", [5, None, ["org/a"], {"a": 1}, True])
def test_a_name_that_is_no_text_is_left_out(name: object) -> None:
    assert name_obstacle(name, WatchSettings()) == "its name is no text"


@given(st.text(max_size=40))
def test_a_name_that_passes_is_plain(name: str) -> None:
    if name_obstacle(name, WatchSettings()) is None:
        assert name.isascii() and name.isprintable() and name.count("/") <= 1
        assert ".." not in name and not name.startswith("/")


def test_a_folder_of_the_same_name_is_not_taken_for_the_model(
    hub: HubServer, tmp_path: Path
) -> None:
    (tmp_path / "org" / "a").mkdir(parents=True)
    hub.add("org/a")
    found = look(watching(hub), folder=tmp_path)
    assert found.new == [] and "a folder of that name" in found.left["org/a"]


def test_a_renamed_model_is_left_out_by_its_old_name(hub: HubServer) -> None:
    hub.add("org/new")
    hub.moved["org/old"] = "org/new"
    assert Hub(watching(hub)).model("org/old").id == "org/new"


# --- New commits ---------------------------------------------------------------------------------


def known(name: str = "org/a", **other: Any) -> ModelSpec:
    return ModelSpec.model_validate(
        {"id": name, "args": {"pretrained": name}, "revision": "0" * 40, **other}
    )


def test_a_new_commit_is_followed_only_where_asked_for(hub: HubServer) -> None:
    hub.add("org/a")
    assert look(watching(hub), known()).moved == []
    (moved,) = look(watching(hub, follow_revisions=True), known()).moved
    assert (moved.model_id, moved.was, moved.revision) == ("org/a", "0" * 40, commit("org/a"))


def test_the_same_commit_is_no_news(hub: HubServer) -> None:
    hub.add("org/a")
    same = known(revision=commit("org/a"))
    assert look(watching(hub, follow_revisions=True), same).moved == []


def test_only_watched_models_of_the_hub_are_followed(hub: HubServer) -> None:
    hub.add("org/a")
    hub.add("stranger/a")
    hub.add("org/denied")
    follow = watching(hub, follow_revisions=True, deny=["*/denied"])
    others = [
        known("stranger/a"),
        known("org/denied"),
        known("org/renamed", args={"pretrained": "org/a"}),
        ModelSpec(
            id="org/a",
            backend="local-completions",
            args={"model": "a", "base_url": "http://127.0.0.1:9/v1/completions"},
        ),
    ]
    assert look(follow, *others).moved == []
    assert hub.paths() == ["/api/models"]


def test_a_new_commit_that_may_not_be_taken_is_left_out(hub: HubServer) -> None:
    hub.add("org/a", config={"auto_map": {"AutoModel": "evil.Model"}})
    found = look(watching(hub, follow_revisions=True), known())
    assert found.moved == []
    assert found.left == {
        "org/a": "its new commit is left out: it needs code of its own, which is never run"
    }


REGISTRY = """\
# Ours.
models:
  - id: org/a   # the first
    args: {pretrained: org/a}
    revision: "0000000000000000000000000000000000000000"  # pinned in March
    params_b: 1.5

  # and another
  - {id: org/b, args: {pretrained: org/b}, revision: 'dddddddddddddddddddddddddddddddddddddddd'}
"""


@pytest.mark.parametrize("new", [commit("x"), "1" * 40, "1e" + "1" * 38, "e" * 40])
def test_a_revision_is_replaced_and_nothing_else(tmp_path: Path, new: str) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(REGISTRY)
    before = load_registry(path)
    replace_revision(path, "org/a", new)
    after = load_registry(path)
    assert after == [before[0].model_copy(update={"revision": new}), before[1]]
    quoted = f"'{new}'" if new == "1" * 40 else new
    assert path.read_text() == REGISTRY.replace(f'"{"0" * 40}"', quoted)


def test_a_revision_in_flow_style_with_crlf(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_bytes(REGISTRY.replace("\n", "\r\n").encode())
    replace_revision(path, "org/b", commit("y"))
    assert path.read_bytes() == REGISTRY.replace("\n", "\r\n").replace(
        f"'{'d' * 40}'", commit("y")
    ).encode()  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        # One value for two models.
        "x-sha: &sha {sha}\nmodels:\n- {{id: org/a, args: {{pretrained: org/a}}, revision: *sha}}\n"
        "- {{id: org/b, args: {{pretrained: org/b}}, revision: *sha}}\n",
        # The last of two counts, and the first would be replaced.
        "models:\n- id: org/a\n  args: {{pretrained: org/a}}\n  revision: {sha}\n"
        "  revision: {sha}\n",
        # Merged in.
        "x-all: &all {{revision: {sha}}}\nmodels:\n- {{id: org/a, args: {{pretrained: org/a}}, "
        "<<: *all}}\n",
    ],
)
def test_a_revision_that_is_not_alone_is_left_to_people(tmp_path: Path, text: str) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(text.format(sha="a" * 40))
    before = path.read_text()
    with pytest.raises(RegistryError, match="by hand"):
        replace_revision(path, "org/a", commit("x"))
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["models.yaml"]


def test_a_model_that_is_not_there_has_no_revision(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(REGISTRY)
    with pytest.raises(RegistryError, match="'org/c' is not in"):
        replace_revision(path, "org/c", commit("x"))


# --- Faults of the hub ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("429", "status 429"),
        ("500", "status 500"),
        ("503", "status 503"),
        ("401", "status 401"),
        ("404", "status 404"),
        ("hang", "no answer within"),
        ("hang-body", "no answer within"),
        ("endless", "longer than 32 MiB"),
        ("malformed", "no answer to this"),
        ("html", "no answer to this"),
        ("object", "no answer to this"),
        ("numbers", "no answer to this"),
        ("deep", "no answer to this"),
        ("no-id", "no answer to this"),
        ("bad-date", "no answer to this"),
        ("cut", "can't be reached"),
        ("bomb", "longer than 32 MiB"),
        ("leads-astray", "leads elsewhere"),
        ("page-astray", "next page lies elsewhere"),
    ],
)
def test_a_fault_of_a_list_is_one_line_and_ends_one_author_only(
    hub: HubServer, kind: str, said: str
) -> None:
    hub.add("org/a")
    hub.add("lab/b")
    hub.fail(kind, "author=org")
    patience = 1 if kind.startswith("hang") else 60
    found = look(watching(hub, authors=["org", "lab"], request_timeout_seconds=patience))
    assert [spec.id for spec in found.new] == ["lab/b"]
    (line,) = found.failed
    assert line.startswith("hub, author 'org'") and line.endswith("the next poll looks again")
    assert said in line and "\n" not in line and len(line) < 400


@pytest.mark.parametrize("kind", ["500", "404", "hang", "malformed", "no-id", "numbers", "cut"])
def test_a_fault_of_one_model_ends_no_other(hub: HubServer, kind: str) -> None:
    hub.add("org/bad", createdAt="2026-05-01T00:00:00.000Z")
    hub.add("org/good")
    hub.fail(kind, "/api/models/org/bad")
    found = look(watching(hub, request_timeout_seconds=1))
    assert [spec.id for spec in found.new] == ["org/good"]
    assert len(found.failed) == 1 and found.failed[0].startswith("model org/bad: ")


def test_what_came_before_a_broken_page_is_kept(hub: HubServer) -> None:
    hub.page = 1
    hub.add("org/first", createdAt="2026-05-01T00:00:00.000Z")
    hub.add("org/second")
    hub.fail("500", "cursor=1")
    found = look(watching(hub))
    assert [spec.id for spec in found.new] == ["org/first"]
    assert len(found.failed) == 1


def test_a_passing_fault_is_tried_again(hub: HubServer) -> None:
    hub.add("org/a")
    hub.fail("429", times=1, retry_after="0")
    hub.fail("500", "/api/models/org/a", times=1, retry_after="0")
    found = look(watching(hub, request_attempts=2))
    assert [spec.id for spec in found.new] == ["org/a"] and found.failed == []
    assert len(hub.asked) == 4


def test_a_hub_that_wants_an_hour_is_not_waited_for(hub: HubServer) -> None:
    hub.fail("429", retry_after="3600")
    (line,) = look(watching(hub, request_attempts=3)).failed
    assert "status 429 and wants to be left alone for 3600 s (1 of 3 attempts)" in line
    assert len(hub.asked) == 1


def test_nobody_there(hub: HubServer) -> None:
    settings = watching(hub, authors=["org", "lab"], endpoint="http://127.0.0.1:9")
    failed = look(settings).failed
    assert len(failed) == 2 and all("can't be reached" in line for line in failed)


def test_offline_mode_is_obeyed(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (line,) = look(watching(hub)).failed
    assert "unset HF_HUB_OFFLINE" in line and hub.asked == []


def test_a_name_that_the_client_refuses(hub: HubServer) -> None:
    with pytest.raises(HubError, match="refuses the name"):
        Hub(watching(hub)).model("a/b/c")
