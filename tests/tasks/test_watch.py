"""Watching without a Prefect server: what is filed, what is new, what a look costs.

Nobody can be told here, so what would be announced is `untold`; tests/flows has a server.
"""

import json
import re
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest
from hub_server import HubServer, commit

from locus.hub import WatchSettings, WebhookSettings
from locus.registry import ModelSpec, RegistryError, load_registry
from tasks.settings import Settings
from tasks.watch import (
    ConflictError,
    RegistryBusyError,
    Watched,
    announce_new,
    event_obstacle,
    file_model,
    poll_hub,
    registry_lock,
    take_event,
    watch_models,
)
from warehouse.store import Warehouse


def watching(hub: HubServer, **other: object) -> WatchSettings:
    given = {"authors": ["org"], "endpoint": hub.address, "request_attempts": 1, **other}
    return WatchSettings.model_validate(given)


def spec(name: str = "org/a", **other: object) -> ModelSpec:
    return ModelSpec.model_validate(
        {"id": name, "args": {"pretrained": name}, "revision": commit(name), **other}
    )


def folder(settings: Settings, name: str, text: str = "x") -> Path:
    made = settings.models_file.parent / "models" / name
    made.mkdir(parents=True, exist_ok=True)
    (made / "model.safetensors").write_text(text)
    return made


def register(settings: Settings, *names: str) -> None:
    """A registry of local folders."""
    lines = [f"- {{id: org/{name}, args: {{pretrained: models/{name}}}}}\n" for name in names]
    settings.models_file.write_text("models:\n" + "".join(lines))


def evaluated(settings: Settings, model_id: str, revision: str) -> None:
    settings.home.mkdir(parents=True, exist_ok=True)
    with Warehouse.open(settings.warehouse) as warehouse:
        warehouse.scores.start_run(
            f"r-{model_id}-{revision}", "evaluation", model_id, revision, {}, {}, None, 1
        )


# --- Filing --------------------------------------------------------------------------------------


def test_a_model_is_filed_once(settings: Settings) -> None:
    first, again = file_model(settings, spec(), "test"), file_model(settings, spec(), "test")
    assert (first.added, again.added) == (True, False)
    assert first.revision == commit("org/a") and not first.announced
    assert load_registry(settings.models_file) == [spec()]


def test_other_content_under_the_same_id_is_a_conflict(settings: Settings) -> None:
    file_model(settings, spec(), "test")
    before = settings.models_file.read_bytes()
    with pytest.raises(ConflictError, match=r"org/a is in models\.yaml with another params_b; "):
        file_model(settings, spec(params_b=3), "test")
    assert settings.models_file.read_bytes() == before


def test_many_at_once_file_it_once(settings: Settings) -> None:
    filed = []

    def one(number: int) -> None:
        filed.append(file_model(settings, spec(), "test").added)
        filed.append(file_model(settings, spec(f"org/{number}"), "test").added)

    threads = [threading.Thread(target=one, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(filed) == [False] * 7 + [True] * 9
    assert len(load_registry(settings.models_file)) == 9


def test_a_held_registry_is_waited_for_and_named(settings: Settings) -> None:
    with (
        registry_lock(settings),
        pytest.raises(RegistryBusyError, match=r"registry\.lock"),
        registry_lock(settings, wait_s=0.1),
    ):
        pass


# --- What is new in models.yaml ------------------------------------------------------------------


def test_a_new_model_is_new_and_a_faulty_registry_is_told(settings: Settings) -> None:
    assert announce_new(settings).untold == []
    file_model(settings, spec(), "test")
    outcome = announce_new(settings)
    assert (outcome.untold, outcome.announced) == (["org/a"], [])
    settings.models_file.write_text("models: 5")
    with pytest.raises(RegistryError, match="needs a list"):
        announce_new(settings)


def test_what_was_evaluated_is_not_new_but_another_revision_is(settings: Settings) -> None:
    file_model(settings, spec(), "test")
    evaluated(settings, "org/a", commit("org/a"))
    assert announce_new(settings).untold == []
    text = settings.models_file.read_text()
    settings.models_file.write_text(text.replace(commit("org/a"), commit("later")))
    assert announce_new(settings).untold == ["org/a"]


def test_a_local_model_with_other_weights_is_new(settings: Settings) -> None:
    folder(settings, "a")
    register(settings, "a")
    evaluated(settings, "org/a", load_registry(settings.models_file)[0].resolved_revision())
    assert announce_new(settings).untold == []
    folder(settings, "a", "y")
    assert announce_new(settings).untold == ["org/a"]


def test_nothing_is_hashed_or_opened_where_nothing_has_changed(settings: Settings) -> None:
    """What the last look wrote down is believed: a made-up revision shows that it was read."""
    folder(settings, "a")
    register(settings, "a")
    evaluated(settings, "org/a", load_registry(settings.models_file)[0].resolved_revision())
    announce_new(settings)
    kept = settings.home / "watch.json"
    seen = json.loads(kept.read_text())
    ((where, (signature, _)),) = seen["folders"].items()
    made_up = "f" * 40
    kept.write_text(
        json.dumps({"folders": {where: [signature, made_up]}, "evaluated": {"org/a": made_up}})
    )
    settings.warehouse.write_bytes(b"no warehouse at all")
    before = kept.read_bytes()
    assert announce_new(settings) == Watched()
    assert kept.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"folders": 5}', b"\xff\xfe"])
def test_what_saves_work_may_be_lost(settings: Settings, content: bytes) -> None:
    file_model(settings, spec(), "test")
    evaluated(settings, "org/a", commit("org/a"))
    (settings.home / "watch.json").write_bytes(content)
    assert announce_new(settings).untold == []


def test_models_that_left_the_registry_are_forgotten(settings: Settings) -> None:
    for name in ("a", "b"):
        folder(settings, name)
    register(settings, "a", "b")
    announce_new(settings)
    register(settings, "b")
    announce_new(settings)
    seen = json.loads((settings.home / "watch.json").read_text())
    assert [Path(one).name for one in seen["folders"]] == ["b"]


def test_a_warehouse_in_use_is_not_waited_for(settings: Settings) -> None:
    file_model(settings, spec(), "test")
    with Warehouse.open(settings.warehouse):
        pass
    holding = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); "
            "sys.stdin.read()",
            str(settings.warehouse),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holding.stdout is not None and holding.stdout.readline() == "held\n"
        outcome = announce_new(settings)
    finally:
        holding.communicate("")
    assert (outcome.untold, outcome.announced) == ([], [])
    assert outcome.waiting is not None and outcome.waiting in outcome.headline()
    assert announce_new(settings).untold == ["org/a"]


def test_a_revision_that_no_event_can_carry_is_named(settings: Settings) -> None:
    settings.models_file.write_text(
        "models:\n- {id: org/api, backend: openai-chat-completions, args: {model: m}, "
        "revision: '{{ x }}'}\n"
    )
    outcome = announce_new(settings)
    assert outcome.untold == []
    assert outcome.failed[0].startswith("model org/api: revision '{{ x }}' can't be announced")


def test_the_settings_in_the_documentation_are_settings() -> None:
    page = (Path(__file__).parents[2] / "docs" / "watching.md").read_text(encoding="utf-8")
    blocks = [tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL)]
    watch, webhook = (
        {k: v for b in blocks for k, v in b.get(name, {}).items()} for name in ("watch", "webhook")
    )
    assert WatchSettings.model_validate(watch).enabled
    WebhookSettings.model_validate(webhook)
    for settings in (WatchSettings, WebhookSettings):
        assert [name for name in settings.model_fields if f"`{name}`" not in page] == []


# --- The hub -------------------------------------------------------------------------------------


def test_a_look_files_what_is_new_and_the_next_finds_nothing(
    settings: Settings, hub: HubServer
) -> None:
    hub.add("org/new")
    hub.add("org/gated", gated="auto")
    outcome = watch_models(settings, watching(hub))
    assert (outcome.added, outcome.untold) == (["org/new"], ["org/new"])
    assert outcome.left.keys() == {"org/gated"} and outcome.failed == []
    (filed,) = load_registry(settings.models_file)
    assert (filed.id, filed.revision) == ("org/new", commit("org/new"))
    before = settings.models_file.read_bytes()
    assert poll_hub(settings, watching(hub)).added == []
    assert settings.models_file.read_bytes() == before


def test_a_dry_run_tells_all_and_writes_nothing(settings: Settings, hub: HubServer) -> None:
    file_model(settings, spec("org/old", revision="0" * 40), "test")
    hub.add("org/old")
    hub.add("org/new")
    hub.add("org/pickled", siblings=[{"rfilename": "pytorch_model.bin"}])
    there = {p: p.read_bytes() for p in settings.models_file.parent.rglob("*") if p.is_file()}
    outcome = watch_models(settings, watching(hub, follow_revisions=True), dry_run=True)
    assert (outcome.added, outcome.followed) == (["org/new"], ["org/old"])
    assert outcome.announced == ["org/new", "org/old"]
    assert outcome.left.keys() == {"org/pickled", "org/old"}
    assert "would add 1" in outcome.headline()
    after = {p: p.read_bytes() for p in settings.models_file.parent.rglob("*") if p.is_file()}
    assert after == there


def test_a_new_commit_goes_into_the_registry(settings: Settings, hub: HubServer) -> None:
    settings.models_file.write_text(
        "# mine\nmodels:\n- id: org/a  # first\n  args: {pretrained: org/a}\n"
        f"  revision: {'a' * 40}\n"
    )
    hub.add("org/a")
    outcome = poll_hub(settings, watching(hub, follow_revisions=True))
    assert (outcome.followed, outcome.untold) == (["org/a"], ["org/a"])
    assert settings.models_file.read_text() == (
        "# mine\nmodels:\n- id: org/a  # first\n  args: {pretrained: org/a}\n"
        f"  revision: {commit('org/a')}\n"
    )
    assert poll_hub(settings, watching(hub, follow_revisions=True)).followed == []


def test_a_registry_that_nothing_can_be_added_to_is_a_fault_of_each_model(
    settings: Settings, hub: HubServer
) -> None:
    settings.models_file.write_text("models: [{id: org/x, backend: dummy}]\nx-last: 1\n")
    before = settings.models_file.read_text()
    hub.add("org/new")
    outcome = poll_hub(settings, watching(hub))
    assert outcome.added == [] and len(outcome.failed) == 1
    assert outcome.failed[0].startswith("model org/new is not added: ")
    assert settings.models_file.read_text() == before


@pytest.mark.parametrize(
    ("watch", "name", "obstacle"),
    [
        ({"authors": ["org"]}, "org/a", None),
        ({"allow": ["org/*"]}, "org/a", None),
        ({"authors": ["lab"], "allow": ["org/*"]}, "org/a", None),
        ({"authors": ["lab"]}, "org/a", "not in watch.authors"),
        ({"filters": ["text-generation"]}, "org/a", "not in watch.authors"),
        ({}, "org/a", "not in watch.authors"),
        ({"allow": ["lab/*"], "authors": ["org"]}, "org/a", "watch.allow"),
        ({"authors": ["org"], "deny": ["*"]}, "org/a", "watch.deny"),
        ({"allow": ["*"]}, "../../etc", "not a valid id"),
    ],
)
def test_word_of_the_hub_is_acted_upon_where_something_here_names_the_model(
    watch: dict[str, list[str]], name: str, obstacle: str | None
) -> None:
    said = event_obstacle(name, WatchSettings.model_validate(watch))
    assert said is None if obstacle is None else said is not None and obstacle in said


def test_word_of_a_model_files_it_at_the_commit_of_the_word(
    settings: Settings, hub: HubServer
) -> None:
    hub.add("org/a")
    outcome = take_event(settings, watching(hub), "org/a", commit("org/a"))
    assert outcome.added == ["org/a"]
    assert hub.paths() == [f"/api/models/org/a/revision/{commit('org/a')}"]
    outcome = take_event(settings, watching(hub), "org/a", commit("org/a"))
    assert outcome.added == [] and "follow_revisions is off" in outcome.left["org/a"]


def test_word_of_a_new_commit_is_followed_only_where_asked_for(
    settings: Settings, hub: HubServer
) -> None:
    file_model(settings, spec(revision="0" * 40), "test")
    hub.add("org/a")
    assert take_event(settings, watching(hub), "org/a", None).followed == []
    follow = watching(hub, follow_revisions=True)
    assert take_event(settings, follow, "org/a", None).followed == ["org/a"]
    assert load_registry(settings.models_file)[0].revision == commit("org/a")


def test_word_of_a_commit_that_is_not_there_is_a_fault(settings: Settings, hub: HubServer) -> None:
    hub.add("org/a")
    outcome = take_event(settings, watching(hub), "org/a", "9" * 40)
    assert outcome.added == [] and "no such model or commit" in outcome.failed[0]
