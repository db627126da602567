"""Whatever is sent to the webhook: filed, or refused in a line, and nothing else happens."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from hostile import PATIENCE, as_json, changed, check_told, damaged, fuzz, texts, watched
from hypothesis import strategies as st

from flows.webhook import build_app
from locus.hub import WatchSettings, WebhookSettings
from locus.registry import EXAMPLES, load_registry
from tasks.settings import Settings

pytestmark = [PATIENCE]

SECRET = "a secret of the tests"
BACKENDS = ["hf", "vllm", "local-completions", "local-chat-completions", "dummy"]
ENTRIES = (
    {"id": "org/a", "revision": "a" * 40},
    EXAMPLES["vllm"],
    EXAMPLES["local-chat-completions"],
    {"id": "org/b", "backend": "dummy", "args": {"n": 1}, "family": "f", "revision": "1"},
)
WORD = {
    "event": {"action": "update", "scope": "repo.content"},
    "repo": {"type": "model", "name": "org/a", "private": False, "headSha": "a" * 40},
    "webhook": {"id": "642078bb6e32ce5a7a2f1c1b", "version": 3},
}
headers = st.dictionaries(
    st.sampled_from(["X-Webhook-Secret", "Content-Type", "Content-Length", "X-Forwarded-For"]),
    (texts | st.sampled_from([SECRET, f" {SECRET} ", "application/json", "9" * 5000, "-1"])).map(
        lambda text: text.encode("utf-8", "surrogatepass")
    ),
    max_size=2,
)
paths = st.sampled_from(["/models"] * 12 + ["/models/", "/", "/../models", "/models%00", "/health"])


def test_any_request_is_filed_or_refused(
    ground: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "")
    settings = Settings(home=home, models_file=home / "models.yaml")
    registry = settings.models_file
    webhook = WebhookSettings(backends=BACKENDS, wrong_secrets_per_minute=10**9)
    app = build_app(settings, WatchSettings(), webhook, SECRET)
    bodies = damaged((changed(*ENTRIES) | changed(*ENTRIES) | changed(WORD)).map(as_json))

    with asyncio.Runner() as runner:
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")

        def check(path: str, body: bytes, more: dict[str, bytes]) -> str:
            registry.unlink(missing_ok=True)
            sent = {"X-Webhook-Secret": SECRET.encode()} | more
            with watched(ground, home):
                answer = runner.run(client.post(path, content=body, headers=sent))
            is_right = sent["X-Webhook-Secret"].strip() == SECRET.encode()
            if answer.status_code == 202 and registry.exists():
                (spec,) = load_registry(registry)
                assert is_right and spec.backend in BACKENDS
                assert spec.id == json.loads(body)["id"]
            else:
                assert not registry.exists()
                assert answer.status_code in (200, 307, 401, 404, 405, 413, 422), answer.text
                assert is_right or answer.status_code == 401
            check_told(answer.content.decode() or "nothing", 4000)
            assert SECRET not in answer.text or not is_right
            assert {p.name for p in home.iterdir()} <= {"models.yaml", "registry.lock", "announced"}
            return str(answer.status_code)

        # What the first one that is filed has to import starts a process: not what is looked for.
        runner.run(client.post("/models", json=ENTRIES[0], headers={"X-Webhook-Secret": SECRET}))
        fuzz(check, paths, bodies, headers)
        runner.run(client.aclose())


def refused(settings: Settings, body: bytes) -> tuple[int, Any]:
    async def ask() -> httpx.Response:
        app = build_app(settings, WatchSettings(), WebhookSettings(), SECRET)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post("/models", content=body, headers={"X-Webhook-Secret": SECRET})

    answer = asyncio.run(ask())
    return answer.status_code, answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"id": "org/a", "\\ud83d": 1}', "unicode"),
        (b'{"id": "org/a", "' + b"9" * 5000 + b'": 1}', "is no field"),
        (as_json({"id": "org/a", **dict.fromkeys(map(str, range(50)))}), "and 40 more"),
        (b'{"id": "org/a", "args": {"\\ud83dapi_key": "x"}}', "is text"),
        (b'{"id": "org/a", "args": {"pretrained": "\\ud83d"}}', "half of a character"),
        (b'{"id": "org/a", "prices": [{"in_usd_per_mtok": 1' + b"0" * 400 + b"}]}", "finite"),
        (b'{"id": "org/a", "budget": {"queries": 1' + b"0" * 400 + b"}}", "finite"),
    ],
)
def test_bodies_that_were_not_refused_once(settings: Settings, body: bytes, said: str) -> None:
    status, detail = refused(settings, body)
    assert status == 422 and any(said in line for line in detail), detail
    assert all(len(line) < 500 for line in detail)
