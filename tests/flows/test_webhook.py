"""The webhook as a real HTTP server, and what it and `watch` tell a real Prefect server."""

import json
import logging
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import httpx
import pytest
import serving
from hub_server import HubServer, commit, repository
from serving import wait_for
from shared_server import ask

from flows.webhook import (
    BODY_MOST,
    SECRET_VARIABLE,
    WebhookError,
    build_app,
    secret_of_environment,
    serve_webhook,
    server_of,
)
from locus.http_server import Secret
from locus.hub import WatchSettings, WebhookSettings
from locus.registry import load_registry
from tasks.settings import Settings
from tasks.watch import watch_models

SECRET = "a secret of the tests"
HEADERS = {"X-Webhook-Secret": SECRET}
SHA = commit("org/a")
MODEL = {"id": "org/a", "revision": SHA}


@contextmanager
def listening(
    settings: Settings, watch: WatchSettings | None = None, **webhook: Any
) -> Iterator[httpx.Client]:
    """A client of a running webhook."""
    app = build_app(settings, watch or WatchSettings(), WebhookSettings(**webhook), SECRET)
    with serving.listening(partial(server_of, app), 60) as client:
        yield client


def post(client: httpx.Client, content: object, **headers: str) -> httpx.Response:
    return client.post("/models", json=content, headers={**HEADERS, **headers})


def registry(settings: Settings) -> list[str]:
    return [s.id for s in load_registry(settings.models_file)]


# --- A model is sent -----------------------------------------------------------------------------


def test_a_model_of_the_hub_in_two_words(settings: Settings) -> None:
    with listening(settings) as client:
        assert client.get("/health").json() == {"status": "ok"}
        answer = post(client, MODEL)
        assert (answer.status_code, answer.json()) == (202, {"accepted": True, "announced": False})
        (spec,) = load_registry(settings.models_file)
        assert (spec.id, spec.backend, spec.revision) == ("org/a", "hf", SHA)
        assert spec.args == {"pretrained": "org/a"}
        # Sent again, it is there; with other content, it is not what is there.
        assert post(client, MODEL).status_code == 202
        other = post(client, {**MODEL, "revision": "b" * 40})
        assert other.status_code == 409
        assert other.json() == {
            "detail": "org/a is in models.yaml with another revision; change it there"
        }
    assert registry(settings) == ["org/a"]


def test_a_whole_entry_with_a_folder_beside_the_registry(settings: Settings) -> None:
    folder = settings.models_file.parent / "models" / "x"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text("x")
    entry = {
        "id": "org/x",
        "args": {"pretrained": "models/x", "dtype": "bfloat16"},
        "params_b": 1.5,
        "budget": {"queries": 10},
        "prices": [{"in_usd_per_mtok": 1, "out_usd_per_mtok": 2, "valid_from": "2026-01-01"}],
    }
    with listening(settings) as client:
        assert post(client, entry).status_code == 202
        assert post(client, entry).status_code == 202
        assert post(client, {**entry, "budget": {"queries": 11}}).status_code == 409
    (spec,) = load_registry(settings.models_file)
    assert spec.local_folder == folder and spec.budget.queries == 10


def test_a_service_is_taken_only_where_its_backend_is_allowed(settings: Settings) -> None:
    entry = {
        "id": "org/api",
        "backend": "local-chat-completions",
        "args": {
            "model": "m",
            "base_url": "https://evil.example/v1/chat/completions",
            "api_key_env": "OTHER_API_KEY",
        },
    }
    with listening(settings) as client:
        answer = post(client, entry)
        assert answer.status_code == 422
        assert answer.json() == {
            "detail": ["backend: local-chat-completions is not one of hf, vllm"]
        }
        assert not settings.models_file.exists()
    with listening(settings, backends=["local-chat-completions"]) as client:
        assert post(client, entry).status_code == 202


def test_the_same_model_from_many_at_once_is_there_once(settings: Settings) -> None:
    with listening(settings) as client, ThreadPoolExecutor(12) as pool:
        sent = [MODEL] * 12 + [{"id": f"org/m{i}", "revision": SHA} for i in range(6)]
        answers = list(pool.map(lambda content: post(client, content).status_code, sent))
    assert answers == [202] * 18
    assert sorted(registry(settings)) == ["org/a", *(f"org/m{i}" for i in range(6))]


# --- Strangers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Webhook-Secret": ""},
        {"X-Webhook-Secret": SECRET[:-1]},
        {"X-Webhook-Secret": SECRET + "x"},
        {"X-Webhook-Secret": SECRET.upper()},
        {"Authorization": f"Bearer {SECRET}"},
    ],
)
def test_without_the_secret_nothing_is_said_or_done(
    settings: Settings, headers: dict[str, str]
) -> None:
    with listening(settings) as client:
        for content in (b"x" * (BODY_MOST + 1), b"{", json.dumps(MODEL).encode()):
            answer = client.post("/models", content=content, headers=headers)
            assert (answer.status_code, answer.json()) == (401, {})
    assert not settings.models_file.exists()


def test_guessing_ends(settings: Settings) -> None:
    with listening(settings, wrong_secrets_per_minute=3) as client:
        wrong = [post(client, MODEL, **{"X-Webhook-Secret": f"guess {i}"}) for i in range(5)]
        assert [answer.status_code for answer in wrong] == [401, 401, 401, 429, 429]
        assert 0 < int(wrong[-1].headers["Retry-After"]) <= 61
        # Even with the right one: otherwise guessing would go on at full speed.
        assert post(client, MODEL).status_code == 429
        assert client.get("/health").status_code == 200


def test_a_minute_later_an_address_may_come_again() -> None:
    now = [0.0]
    door = Secret(SECRET, "X-Webhook-Secret", wrong_per_minute=2, clock=lambda: now[0])

    def comes(secret: str, address: str = "192.0.2.1") -> int:
        headers = [(b"x-webhook-secret", secret.encode())]
        refusal = door.refusal({"client": (address, 1), "headers": headers})
        return 200 if refusal is None else refusal.status_code

    assert [comes("no"), comes("no"), comes(SECRET)] == [401, 401, 429]
    assert comes(SECRET, "192.0.2.2") == 200
    now[0] = 61.0
    assert comes(SECRET) == 200


def test_the_secret_is_not_logged(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), listening(settings) as client:
        post(client, MODEL)
        post(client, MODEL, **{"X-Webhook-Secret": "a wrong guess"})
    # The client of this test is not ours.
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith("http")]
    assert any("a wrong secret from 127.0.0.1" in line for line in ours)
    assert not any(SECRET in line or "a wrong guess" in line for line in ours)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 422, "not JSON"),
        (b"{", 422, "not JSON"),
        (b"\xff\xfe\x00", 422, "not JSON"),
        (b'{"id": "org/a", "params_b": NaN}', 422, "NaN is no number"),
        (b'{"id": "org/a", "params_b": -Infinity}', 422, "-Infinity is no number"),
        (b'{"id": "org/a", "params_b": 1e999}', 422, "params_b: "),
        (b'{"id": "org/a", "params_b": ' + b"9" * 5000 + b"}", 422, "not JSON"),
        (b'{"id": "org/a", "id": "org/b"}', 422, "stands twice"),
        (b"[" * 60_000, 422, "nested too deeply"),
        (b'{"id": ' * 8000, 422, "nested too deeply"),
        (b"x" * (BODY_MOST + 1), 413, "at most 65536 bytes"),
        (b"[]", 422, "an object"),
        (b"5", 422, "an object"),
        (b"null", 422, "an object"),
        (b"{}", 422, "id is missing"),
        (b'{"id": 5}', 422, "id: "),
        (b'{"id": null, "revision": null}', 422, "id: "),
        (b'{"id": ["org/a"], "revision": {}}', 422, "revision: "),
        (b'{"id": "org/a"}', 422, "needs `revision`, the 40 digits"),
        (b'{"id": "org/a", "revision": "main"}', 422, "needs `revision`, the 40 digits"),
        (b'{"id": "org/a", "args": 5}', 422, "args: "),
        (b'{"id": "org/a", "args": {"pretrained": [1]}}', 422, "args: "),
        (b'{"id": "org/a", "args": {"pretrained": "x", "trust_remote_code": true}}', 422, "code"),
        (b'{"id": "org/a", "unknown": 1}', 422, "unknown is no field"),
        (b'{"id": "org/a", "family": "\\ud83d"}', 422, "family: "),
        (b'{"id": "../../etc/passwd", "revision": "x"}', 422, "model id"),
        (b'{"id": "/etc/passwd", "revision": "x"}', 422, "model id"),
        (b'{"id": "org/a\\n- id: b", "revision": "x"}', 422, "model id"),
        (b'{"id": "org/\\u0000", "revision": "x"}', 422, "model id"),
    ],
)
def test_hostile_bodies(settings: Settings, body: bytes, status: int, said: str) -> None:
    with listening(settings) as client:
        answer = client.post("/models", content=body, headers=HEADERS)
        assert answer.status_code == status
        assert said in json.dumps(answer.json(), ensure_ascii=False)
        assert len(answer.content) < 2000
        assert client.get("/health").status_code == 200
    assert not settings.models_file.exists()


def test_a_body_without_a_length_is_cut_off(settings: Settings) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 4096

    with listening(settings) as client:
        assert client.post("/models", content=endless(), headers=HEADERS).status_code == 413


@pytest.mark.parametrize("goes", [False, True])
def test_a_body_that_does_not_come_is_not_waited_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, goes: bool
) -> None:
    monkeypatch.setattr("flows.webhook.BODY_WAIT_S", 0.3)
    with listening(settings) as client:
        address = (client.base_url.host, client.base_url.port)
        with socket.create_connection(address, timeout=60) as stream:
            stream.sendall(
                b"POST /models HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
                + f"X-Webhook-Secret: {SECRET}\r\n\r\n{{".encode()
            )
            if not goes:
                assert stream.recv(1000).startswith(b"HTTP/1.1 408")
        assert post(client, MODEL).status_code == 202


def test_text_that_yaml_would_read_otherwise_stays_text(settings: Settings) -> None:
    strange = "x: {y}\n- id: evil/model\t\x1b[31m # \u2028 &a *b !!python/object:os.system"
    with listening(settings) as client:
        entry = {**MODEL, "args": {"pretrained": "org/a"}, "family": strange}
        assert post(client, entry).status_code == 202
    (spec,) = load_registry(settings.models_file)
    assert spec.family == strange


def test_a_revision_that_no_event_can_carry_is_refused(settings: Settings) -> None:
    with listening(settings, backends=["openai-chat-completions"]) as client:
        entry = {"id": "org/a", "backend": "openai-chat-completions", "args": {"model": "m"}}
        answer = post(client, {**entry, "revision": "{{ flow_run.id }}"})
        assert answer.status_code == 422 and "can't be announced" in answer.text
    assert not settings.models_file.exists()


def test_a_faulty_registry_is_no_business_of_strangers(settings: Settings) -> None:
    settings.models_file.write_text("models: 5 # private")
    with listening(settings) as client:
        answer = post(client, MODEL)
        assert answer.status_code == 500
        assert answer.json() == {"detail": "models.yaml can't be added to: see the server's log"}
        settings.models_file.write_text("models: []")
        assert post(client, MODEL).status_code == 202


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/models/x", "/../etc/passwd"])
def test_there_is_nothing_else(settings: Settings, path: str) -> None:
    with listening(settings) as client:
        assert client.get(path).status_code == 404
        assert client.get("/models").status_code == 405


# --- The hub sends word --------------------------------------------------------------------------


def word(name: str = "org/a", **other: Any) -> dict[str, Any]:
    """What the hub sends of a new commit."""
    return {
        "event": {"action": "update", "scope": "repo.content", **other.get("event", {})},
        "repo": {
            "type": "model",
            "name": name,
            "id": "621ffdc036468d709f17434d",
            "private": False,
            "headSha": commit(name),
            **other.get("repo", {}),
        },
        "updatedRefs": [{"ref": "refs/heads/main", "oldSha": None, "newSha": commit(name)}],
        "webhook": {"id": "642078bb6e32ce5a7a2f1c1b", "version": 3},
    }


def test_word_of_a_watched_model_files_it(settings: Settings, hub: HubServer) -> None:
    hub.add("org/a")
    watch = WatchSettings(allow=["org/*"], endpoint=hub.address)
    with listening(settings, watch) as client:
        answer = post(client, word())
        assert (answer.status_code, answer.json()) == (202, {"accepted": True, "announced": False})
        wait_for(settings.models_file.exists)
    (spec,) = load_registry(settings.models_file)
    assert (spec.id, spec.revision, spec.params_b) == ("org/a", SHA, 1.5)


def test_a_hub_that_hangs_keeps_nobody_waiting(settings: Settings, hub: HubServer) -> None:
    hub.add("org/a")
    hub.add("org/b")
    hub.fail("hang", "/api/models/org/a", times=1)
    watch = WatchSettings(authors=["org"], endpoint=hub.address, request_attempts=1)
    with listening(settings, watch) as client:
        assert post(client, word()).status_code == 202
        wait_for(lambda: hub.paths())
        assert post(client, word("org/b")).status_code == 202
        # The hub hangs still: the answers did not wait for it.
        assert not settings.models_file.exists()
        hub.closing.set()
        wait_for(settings.models_file.exists)
    assert registry(settings) == ["org/b"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (word(repo={"type": "dataset"}), "not about a model"),
        (word(event={"action": "delete", "scope": "repo"}), "not about a new model"),
        (word(event={"action": "create", "scope": "discussion"}), "not about a new model"),
        (word(event={"scope": "repo.config"}), "not about a new model"),
        (word("stranger/a"), "its author is not in watch.authors"),
        (word("org/../../x"), "its name is not a valid id"),
        (word("org/denied"), "watch.deny"),
    ],
)
def test_other_words_of_the_hub_are_not_acted_upon(
    settings: Settings, hub: HubServer, content: dict[str, Any], why: str
) -> None:
    watch = WatchSettings(authors=["org"], deny=["*/denied"], endpoint=hub.address)
    with listening(settings, watch) as client:
        answer = post(client, content)
        assert answer.status_code == 200
        assert answer.json()["accepted"] is False and why in answer.json()["why"]
    assert hub.asked == []


@pytest.mark.parametrize(
    "content",
    [
        {"event": 5},
        {"event": {"action": "update", "scope": "repo"}},
        {"event": {"action": "update", "scope": "repo"}, "repo": {"type": "model", "name": 5}},
        {"event": {"action": ["update"], "scope": "repo"}, "repo": {"type": "model", "name": "a"}},
    ],
)
def test_a_word_that_is_none_says_what_is_wrong(settings: Settings, content: object) -> None:
    with listening(settings) as client:
        answer = post(client, content)
        assert answer.status_code == 422 and answer.json()["detail"]


def test_a_word_names_the_commit_that_is_filed(settings: Settings, hub: HubServer) -> None:
    hub.models["org/a"] = repository("org/a", sha="c" * 40)
    watch = WatchSettings(allow=["org/*"], endpoint=hub.address)
    with listening(settings, watch) as client:
        post(client, word(repo={"headSha": "../../x"}))
        wait_for(settings.models_file.exists)
    assert load_registry(settings.models_file)[0].revision == "c" * 40
    assert hub.paths() == ["/api/models/org/a"]


# --- Starting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [None, "", "fifteen chars.."])
def test_it_does_not_start_without_a_sound_secret(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, secret: str | None
) -> None:
    monkeypatch.delenv(SECRET_VARIABLE, raising=False)
    if secret is not None:
        monkeypatch.setenv(SECRET_VARIABLE, secret)
    with pytest.raises(WebhookError, match=f"{SECRET_VARIABLE} must hold") as error:
        serve_webhook(settings, WatchSettings(), WebhookSettings(), "127.0.0.1", 1)
    assert not secret or secret not in str(error.value)


def test_a_port_in_use_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setenv(SECRET_VARIABLE, SECRET)
    assert secret_of_environment() == SECRET
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(WebhookError, match=f"nothing can listen on 127.0.0.1:{port}"):
            serve_webhook(settings, WatchSettings(), WebhookSettings(), "127.0.0.1", port)


# --- A real Prefect server -----------------------------------------------------------------------


@pytest.fixture
def told(settings: Settings, own_prefect_server: str) -> Callable[[], list[tuple[str, str, str]]]:
    """The pipeline's server has the deployment; gives what it was told of since."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.add_model import add_model

    with temporary_settings({PREFECT_API_URL: own_prefect_server}):
        made: Any = add_model.to_deployment("add-model")
        made.apply()
    settings.home.mkdir(parents=True)
    (settings.home / "serve.json").write_text(json.dumps({"api_url": own_prefect_server}))

    def events() -> list[tuple[str, str, str]]:
        which = {"event": {"name": ["locus.model.added"]}}
        answer = ask(own_prefect_server, "/events/filter", filter=which, limit=50)
        found = [one["payload"] for one in answer["events"]]
        return sorted((e["model_id"], e["revision"], e["source"]) for e in found)

    return events


def test_every_way_announces_a_model_once(
    settings: Settings, hub: HubServer, told: Callable[[], list[tuple[str, str, str]]]
) -> None:
    with ExitStack() as stack:
        watch = WatchSettings(authors=["org"], endpoint=hub.address, follow_revisions=True)
        client = stack.enter_context(listening(settings, watch))
        # Sent by eight at once: one of them announces it.
        pool = stack.enter_context(ThreadPoolExecutor(8))
        answers = list(pool.map(lambda content: post(client, content).json(), [MODEL] * 8))
        assert all(answer["accepted"] for answer in answers)
        assert [answer["announced"] for answer in answers].count(True) == 1
        # The hub sends word of another.
        hub.add("org/word")
        assert post(client, word("org/word")).status_code == 202
        wait_for(lambda: len(registry(settings)) == 2)
        wait_for(lambda: len(list((settings.home / "announced").glob("*"))) == 2)
    # A poll finds a third, and a newer commit of the first; people add a fourth.
    hub.add("org/polled")
    hub.add("org/a", sha="c" * 40)
    with settings.models_file.open("a") as stream:
        stream.write(f"  - {{id: org/edited, args: {{pretrained: org/edited}}, revision: {SHA}}}\n")
    outcome = watch_models(settings, watch)
    # The fourth is not on this hub.
    assert len(outcome.failed) == 1 and outcome.failed[0].startswith("model org/edited: ")
    assert (outcome.added, outcome.followed) == (["org/polled"], ["org/a"])
    assert sorted(outcome.announced) == ["org/a", "org/edited", "org/polled"]
    expected = [
        ("org/a", SHA, "webhook"),
        ("org/a", "c" * 40, "hub-watch"),
        ("org/edited", SHA, "registry"),
        ("org/polled", commit("org/polled"), "hub-watch"),
        ("org/word", commit("org/word"), "hub-webhook"),
    ]
    wait_for(lambda: told() == sorted(expected))
    again = watch_models(settings, watch)
    assert (again.added, again.followed, again.announced, again.untold) == ([], [], [], [])
    assert told() == sorted(expected)
