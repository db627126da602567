"""Whatever is sent to the route server: an answer that holds together, or a refusal in a line."""

import asyncio
import json
import time
from pathlib import Path

import httpx
from hostile import PATIENCE, as_json, changed, check_told, damaged, fuzz, texts, watched
from hypothesis import strategies as st
from small_map import publish_small

from locus.routing.serving.app import create_app

pytestmark = [PATIENCE]

TOKEN = "a token of the tests"
SUM = "What is 5 plus 9?"
ASKED = (
    {"queries": [SUM], "k": 2, "policy": {"kind": "cost-aware", "lambda": 0.2}, "explain": True},
    {"queries": [SUM], "only": ["sums/m0", "sums/m1"], "unavailable": ["sums/m0"]},
    {
        "queries": [SUM],
        "exclude": ["sums/m0"],
        "confidence": 0.9,
        "policy": {"kind": "lower-bound"},
    },
    {"queries": [SUM, SUM], "policy": {"kind": "budget", "budget": 3.0, "max_price": 9}},
    {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": SUM}]},
        ],
        "policy": {"kind": "abstain", "abstain_below": 0.5},
    },
)
headers = st.dictionaries(
    st.sampled_from(
        ["Authorization", "Content-Type", "Content-Length", "Accept", "X-Forwarded-For"]
    ),
    (
        texts
        | st.sampled_from(
            [f"Bearer {TOKEN}", f"bearer  {TOKEN}", "Bearer", "text/plain", "9" * 5000]
        )
    ).map(lambda text: text.encode("utf-8", "surrogatepass")),
    max_size=2,
)
paths = st.sampled_from(
    ["/route"] * 12 + ["/route/", "/v1/models", "/metrics", "/../route", "/%00"]
)
bodies = damaged(changed(*ASKED).map(as_json))


def test_any_request_is_answered_or_refused(ground: Path, home: Path) -> None:
    snapshot = publish_small(home / "published")
    app = create_app(home / "published", token=TOKEN)
    with asyncio.Runner() as runner:
        lifespan = app.router.lifespan_context(app)
        runner.run(lifespan.__aenter__())
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")
        deadline = time.monotonic() + 120
        while runner.run(client.get("/health")).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)

        def check(path: str, body: bytes, more: dict[str, bytes]) -> str:
            sent = {
                "Authorization": f"Bearer {TOKEN}".encode(),
                "Content-Type": b"application/json",
            } | more
            method = "POST" if path.startswith("/route") else "GET"
            with watched(ground):
                answer = runner.run(client.request(method, path, content=body, headers=sent))
            if answer.status_code == 200:
                assert sent["Authorization"].split()[-1:] != [b"Bearer"]
                if path == "/route":
                    told = answer.json()
                    asked = json.loads(body)
                    assert told["snapshot_id"] == snapshot.snapshot_id
                    assert len(told["results"]) == len(asked.get("queries") or [0])
                    shown = {c["model_id"] for r in told["results"] for c in r["choices"]}
                    assert not shown & {*asked.get("exclude", ()), *asked.get("unavailable", ())}
                    assert not asked.get("only") or shown <= set(asked["only"])
            else:
                assert answer.status_code in (307, 400, 401, 404, 405, 408, 413, 422), answer.text
                check_told(answer.text or "nothing")
                assert TOKEN not in answer.text and str(home) not in answer.text
            return str(answer.status_code)

        fuzz(check, paths, bodies, headers)
        assert runner.run(client.get("/health")).json()["status"] == "ok"
        runner.run(client.aclose())
        runner.run(lifespan.__aexit__(None, None, None))
