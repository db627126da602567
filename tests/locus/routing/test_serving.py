"""Routing as a service: a real HTTP server over a small published map."""

import asyncio
import json
import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
import schemathesis
import serving
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from prometheus_client.parser import text_string_to_metric_families
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from small_map import publish_small

from locus.routing.router import Router, RoutingError
from locus.routing.serving.aliases import CHEAP, pick
from locus.routing.serving.app import create_app, server_of
from locus.routing.serving.desk import BusyError, Desk
from locus.routing.serving.wire import QUERIES_MOST, last_user_text
from locus.snapshots import Snapshot, current, make_current

pytestmark = [pytest.mark.slow]

SUM = "What is 5 plus 9, and what is 9 minus 2?"
CAPITAL = "Which city is the capital of country number 7, north of river 4?"
FAR = "Rewrite this poem as a haiku."
TOKEN = "a token of the tests"


wait_for = partial(serving.wait_for, patience_s=120)


def listening(app: FastAPI) -> AbstractContextManager[httpx.Client]:
    """A client of the application, which runs."""
    return serving.listening(partial(server_of, app), 120)


def ready(client: httpx.Client) -> dict[str, Any]:
    """What /health says once a snapshot is loaded."""
    wait_for(lambda: client.get("/health").status_code == 200)
    found: dict[str, Any] = client.get("/health").json()
    return found


def route(client: httpx.Client, *queries: str, **other: Any) -> dict[str, Any]:
    answer = client.post("/route", json={"queries": queries, **other})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def metrics(client: httpx.Client) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels."""
    text = client.get("/metrics").text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "published"
    publish_small(folder)
    return folder


@pytest.fixture(scope="module")
def client(published: Path) -> Iterator[httpx.Client]:
    """Of a server that all tests use which change nothing."""
    with listening(create_app(published)) as client:
        assert ready(client)["status"] == "ok"
        yield client


# --- Routing -------------------------------------------------------------------------------------


def test_it_says_what_the_router_says(client: httpx.Client, published: Path) -> None:
    router = Router.load(published)
    told = route(client, SUM, CAPITAL, k=5, explain=True)
    said = router.decide([SUM, CAPITAL], 5)
    assert told["snapshot_id"] == router.snapshot_id
    assert [r["reason"] for r in told["results"]] == said.reasons
    for result, choices in zip(told["results"], said.choices, strict=True):
        # Texts of one batch and alone differ in the last bits.
        assert [c["model_id"] for c in result["choices"]] == [c.model_id for c in choices]
        found = [c["p_correct"] for c in result["choices"]]
        assert found == pytest.approx([c.p_correct for c in choices], abs=1e-5)
        assert [c["stand_ins"] for c in result["choices"]] == [c.stand_ins for c in choices]
    best = [r["choices"][0]["model_id"].split("/")[0] for r in told["results"]]
    assert best == ["sums", "capitals"]
    assert told["expected"] == pytest.approx(said.expected, abs=1e-5)


def test_it_says_what_a_query_is_like(client: httpx.Client, published: Path) -> None:
    told = route(client, CAPITAL, FAR, k=1, explain=True)["results"]
    (near, near_first), (far, far_first) = ((r["topic"], r["choices"][0]) for r in told)
    assert "capital" in near["words"] and near["cosine"] > near["edge"] and not near["far"]
    table = pl.read_parquet(current(published).folder / "routing" / "table.parquet")
    row = table.row(
        by_predicate=(pl.col("bucket") == near["name"])
        & (pl.col("model_id") == near_first["model_id"]),
        named=True,
    )
    assert near["n_reference"] == row["n_reference"] > 0
    assert near_first["in_topic"] == {name: row[name] for name in near_first["in_topic"]}
    share = f"was right on {100 * row['observed_accuracy']:.0f} % of {row['n_observed']} answers"
    assert f"like topic '{', '.join(near['words'])}'" in told[0]["reason"]
    assert share in told[0]["reason"]
    assert far["far"] and far["cosine"] < far["edge"] == near["edge"]
    assert far_first["in_topic"] is None
    assert "far from every topic" in told[1]["reason"]
    # Unasked, the words are left out and the figures stay.
    plain = route(client, CAPITAL, k=1)["results"][0]
    assert plain["reason"] is None and plain["topic"]["name"] == near["name"]


def test_policies_and_who_may_answer(client: httpx.Client) -> None:
    cheap = route(client, SUM, policy={"kind": "cost-aware", "lambda": 5}, k=8, explain=True)
    (result,) = cheap["results"]
    assert result["choices"][0]["price_usd_per_mtok"] == 1 and "5 x price" in result["reason"]
    assert cheap["unknown_price"] == ["capitals/m0"]
    assert cheap["cost"] == 1
    budget = route(client, SUM, SUM, policy={"kind": "budget", "budget": 1})
    assert [bool(r["choices"]) for r in budget["results"]] == [True, False]
    # Who nobody answers hears why, asked or not.
    assert budget["results"][0]["reason"] is None
    assert budget["results"][1]["reason"].startswith("nobody answers")
    capped = route(client, SUM, policy={"max_price": 2}, k=100)["results"][0]["choices"]
    assert {c["price_usd_per_mtok"] for c in capped} == {1, 2}
    first, second = (c["model_id"] for c in route(client, SUM, k=2)["results"][0]["choices"])
    down = route(client, SUM, unavailable=[first], exclude=[second], k=8)
    assert not {first, second} & {c["model_id"] for c in down["results"][0]["choices"]}
    assert (down["away"][0]["model_id"], down["away"][0]["would_answer"]) == (first, [0])
    only = route(client, SUM, only=[second])["results"][0]["choices"]
    assert [c["model_id"] for c in only] == [second]
    sure, unsure = (
        route(client, SUM, k=1, confidence=c)["results"][0]["choices"][0] for c in (0.99, 0.5)
    )
    assert sure["lower_bound"] < unsure["lower_bound"] == pytest.approx(unsure["p_correct"])


def test_a_chat_is_routed_by_its_last_user_message(client: httpx.Client) -> None:
    parts = [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": CAPITAL}]
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": SUM, "name": "somebody"},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "user", "content": parts},
        {"role": "tool", "content": SUM, "tool_call_id": "1"},
    ]
    told = client.post("/route", json={"messages": chat}).json()
    assert told["results"] == route(client, CAPITAL)["results"]
    assert (
        last_user_text([None, 5, {"role": "user", "content": [{"text": 5, "type": "text"}]}]) == ""
    )


def test_models_and_metrics(client: httpx.Client, published: Path) -> None:
    told = client.get("/v1/models").json()
    ids = [m["id"] for m in told["data"]]
    assert ids == [*Router.load(published).models, "locus-best", "locus-cheap"]
    assert told["object"] == "list" and told["data"][0]["owned_by"] in ("sums", "capitals")
    before = metrics(client)
    first = route(client, SUM, SUM, k=1)["results"][0]["choices"][0]["model_id"]
    route(client, SUM, policy={"kind": "abstain", "abstain_below": 1})
    client.get("/" + "x" * 50)
    after = metrics(client)

    def more(*name: str) -> float:
        return after[name] - before.get(name, 0)

    assert more("locus_route_queries_total") == 3
    assert more("locus_route_choices_total", first) == 2
    assert more("locus_route_unanswered_total") == 1
    assert more("locus_route_requests_total", "/route", "200") == 2
    assert more("locus_route_requests_total", "other", "404") == 1
    assert more("locus_route_request_seconds_count", "/route") == 2
    assert after["locus_route_snapshot_age_seconds",] > 0
    assert after["locus_route_snapshot_usable",] == 1


def test_health_answers_while_a_long_request_is_routed(client: httpx.Client) -> None:
    long = [f"{i} {SUM * 40}" for i in range(12)]
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(route, client, *long, k=1)
        wait_for(lambda: metrics(client)["locus_route_waiting",] == 1)
        assert client.get("/health").json()["status"] == "ok"
        assert not answer.done()
        assert len(answer.result()["results"]) == len(long)


def test_who_is_too_many_is_sent_away() -> None:
    async def scene() -> None:
        desk, go = Desk(waiting=2), threading.Event()
        first, second = (asyncio.create_task(desk.run(lambda: go.wait(60))) for _ in range(2))
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="2 requests wait"):
            await desk.run(lambda: True)
        # Who leaves early is at work all the same.
        first.cancel()
        await asyncio.sleep(0)
        assert desk.here == 2
        go.set()
        assert await second
        await asyncio.sleep(0)
        assert desk.here == 0 and await desk.run(lambda: 5) == 5
        desk.close()

    asyncio.run(scene())


def test_what_is_cheap(published: Path) -> None:
    router = Router.load(published)
    ranked = router.route([SUM], len(router.models))[0]
    chosen = pick(router, SUM, CHEAP)
    near = [c for c in ranked if c.p_correct >= ranked[0].p_correct - 0.02 and c.price_usd_per_mtok]
    assert chosen.price_usd_per_mtok == min(c.price_usd_per_mtok or 0 for c in near)
    # Nobody with a price: the best.
    assert pick(router, SUM, CHEAP, ["capitals/m0"]).model_id == "capitals/m0"
    with pytest.raises(RoutingError, match="locus-best, locus-cheap"):
        pick(router, SUM, "locus-fast")


# --- Snapshots come and go -----------------------------------------------------------------------


def test_snapshots_come_and_go_under_load(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A verb that ran in this process keeps the lines of "locus" to itself.
    monkeypatch.setattr(logging.getLogger("locus"), "propagate", True)
    published = tmp_path / "published"
    stop = threading.Event()

    def load(client: httpx.Client) -> list[tuple[str, int]]:
        own: list[tuple[str, int]] = []
        while not stop.is_set():
            told = route(client, SUM, k=100)
            own.append((told["snapshot_id"], len(told["results"][0]["choices"])))
        return own

    with listening(create_app(published, look_s=0.05)) as client, ThreadPoolExecutor(3) as pool:
        empty = client.get("/health")
        assert (empty.status_code, empty.json()["status"]) == (503, "empty")
        for answer in (
            client.post("/route", json={"queries": [SUM]}),
            client.get("/v1/models"),
        ):
            assert answer.status_code == 503 and "/health" in answer.json()["detail"]
        first = publish_small(published)
        assert ready(client)["snapshot_id"] == first.snapshot_id
        answers = [pool.submit(load, client) for _ in range(3)]
        second = publish_small(published, each=5)
        wait_for(lambda: ready(client)["snapshot_id"] == second.snapshot_id)

        broken = publish_small(published, current=False)
        table = broken.folder / "routing" / "table.json"
        table.write_bytes(table.read_bytes()[:-9])
        make_current(published, broken)
        wait_for(lambda: ready(client)["status"] == "degraded")
        told = ready(client)
        assert told["snapshot_id"] == second.snapshot_id
        assert "log" in told["problem"] and str(tmp_path) not in told["problem"]
        assert metrics(client)["locus_route_snapshot_usable",] == 0
        assert "routing/table.json is not as it was sealed" in caplog.text
        (published / "current.json").write_text("{")
        wait_for(lambda: "current.json can't be read" in caplog.text)

        make_current(published, first)
        wait_for(lambda: ready(client)["status"] == "ok")
        assert ready(client)["snapshot_id"] == first.snapshot_id
        stop.set()
    _check_answers([answer.result() for answer in answers], first, second)


def _check_answers(found: list[list[tuple[str, int]]], first: Snapshot, second: Snapshot) -> None:
    """No request was lost, and each was answered by one snapshot, whole."""
    for own in found:
        assert set(own) == {(first.snapshot_id, 8), (second.snapshot_id, 10)}
        # From the first to the second and back: nobody saw one come, go and come again.
        turns = [a for a, b in zip(own, [None, *own], strict=False) if a != b]
        assert len(turns) <= 3


# --- Strangers -----------------------------------------------------------------------------------


def test_hostile_requests(client: httpx.Client) -> None:
    good, wrong = json.dumps({"queries": [SUM]}).encode(), []
    for body, status, said in (
        (b"", 422, "the body"),
        (b"{", 422, "JSON"),
        (b"\xff\xfe", 422, "JSON"),
        (b"[" * 100_000, 400, "parsing"),
        (b"null", 422, "the body"),
        (b"{}", 422, "either queries or messages"),
        (b'{"queries": ["a"], "messages": [{"role": "user", "content": "b"}]}', 422, "either"),
        (b'{"queries": []}', 422, "queries: "),
        (b'{"queries": ["  "]}', 422, "queries.0: "),
        (b'{"queries": ["\\u001c"]}', 400, "a query is empty"),
        (b'{"queries": ["\\ud83d"]}', 422, "queries.0: "),
        (b'{"queries": ["a"], "\\ud83d": 1}', 422, "unicode"),
        (b'{"queries": "a"}', 422, "queries: "),
        (b'{"queries": [5]}', 422, "queries.0: "),
        (b'{"queries": ["a"], "k": "3"}', 422, "k: "),
        (b'{"queries": ["a"], "k": 0}', 422, "k: "),
        (b'{"queries": ["a"], "k": ' + b"9" * 5000 + b"}", 400, "parsing"),
        (b'{"queries": ["a"], "confidence": NaN}', 422, "confidence: "),
        (b'{"queries": ["a"], "confidence": 1}', 422, "confidence: "),
        (b'{"queries": ["a"], "policy": {"max_price": Infinity}}', 422, "max_price: "),
        (b'{"queries": ["a"], "policy": {"kind": "x"}}', 422, "policy.kind: "),
        (b'{"queries": ["a"], "policy": {"kind": "budget"}}', 422, "needs budget"),
        (b'{"queries": ["a"], "policy": {"lambda": 1}}', 422, "would ignore lambda"),
        (b'{"queries": ["a"], "polizy": {}}', 422, "polizy: "),
        (b'{"queries": ["a"], "only": ["sums/m9"]}', 400, "did you mean sums/m"),
        (b'{"queries": ["a"], "only": ["sums/m0"], "exclude": ["sums/m0"]}', 400, "nobody is left"),
        (
            b'{"queries": ["a"], "only": ["capitals/m0"], "policy": {"max_price": 1}}',
            400,
            "cost of all 1 allowed models is unknown",
        ),
        (b'{"messages": [{"role": "system", "content": "a"}]}', 422, "no text of a user"),
        (b'{"messages": [{"content": "a"}]}', 422, "messages.0.role: "),
        (json.dumps({"queries": ["a" * 100_001]}).encode(), 422, "queries.0: "),
        (json.dumps({"queries": ["a"] * (QUERIES_MOST + 1)}).encode(), 422, "queries: "),
        (json.dumps({"queries": [5] * QUERIES_MOST}).encode(), 422, "and 246 more"),
        (b"x" * ((1 << 23) + 1), 413, "at most 8388608 bytes"),
    ):
        answer = client.post("/route", content=body, headers={"content-type": "application/json"})
        detail = answer.json()["detail"]
        if answer.status_code != status or said not in detail or len(detail) > 2000:
            wrong.append((body[:80], answer.status_code, detail[:300]))
    assert wrong == []
    # What a browser may send to others' servers unasked is not read as JSON.
    assert client.post("/route", content=good, headers={"content-type": "text/plain"}).is_error

    def endless() -> Iterator[bytes]:
        for _ in range(200):
            yield b" " * 65536

    assert client.post("/route", content=endless()).status_code == 413
    for path in ("/", "/docs", "/../etc/passwd", "/v1/chat/completions"):
        assert client.get(path).status_code == 404
    assert client.get("/route").status_code == 405
    assert ready(client)["status"] == "ok"


def test_only_who_has_the_token_comes_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(tmp_path, token=TOKEN, body_wait_s=0.3)
    with caplog.at_level(logging.DEBUG), listening(app) as client:
        for value in ("", TOKEN, "Bearer", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}"):
            for method, path in (("POST", "/route"), ("GET", "/v1/models"), ("GET", "/metrics")):
                answer = client.request(
                    method, path, content=b"{", headers={"Authorization": value}
                )
                assert answer.status_code == 401 and "Bearer" in answer.headers["WWW-Authenticate"]
        assert client.get("/openapi.json").status_code == 401
        assert client.get("/health").status_code == 503
        headers = {"Authorization": f"bearer {TOKEN}"}
        assert client.get("/v1/models", headers=headers).status_code == 503
        guarded = client.get("/openapi.json", headers=headers).json()["paths"]
        assert guarded["/route"]["post"]["security"] and "security" not in guarded["/health"]["get"]
        # A body that does not come is not waited for.
        address = (client.base_url.host, client.base_url.port)
        with socket.create_connection(address, timeout=60) as stream:
            stream.sendall(
                b"POST /route HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                + f"Content-Length: 100\r\nAuthorization: Bearer {TOKEN}\r\n\r\n{{".encode()
            )
            assert stream.recv(1000).startswith(b"HTTP/1.1 408")
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith("http")]
    assert not any(TOKEN in line for line in ours)


def test_it_keeps_to_its_own_description(client: httpx.Client) -> None:
    """Status, headers and body are as /openapi.json says, for what fits it and what doesn't."""
    described = schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")
    operations = {o.path: o for o in (found.ok() for found in described.get_all_operations())}
    assert set(operations) == {"/route", "/v1/models", "/health", "/metrics"}
    seen = {
        (path, mode): _fuzz(operation, mode)
        for path, operation in operations.items()
        # Without a body nothing can be wrong.
        for mode in ([*GenerationMode] if path == "/route" else [GenerationMode.POSITIVE])
    }
    right = seen.pop(("/route", GenerationMode.POSITIVE))
    wrong = seen.pop(("/route", GenerationMode.NEGATIVE))
    assert 200 in right and right <= {200, 400, 422} and wrong <= {400, 422}
    assert all(statuses == {200} for statuses in seen.values())


def _fuzz(operation: Any, mode: GenerationMode) -> set[int]:
    """Statuses of requests made from the description."""
    statuses = set()

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=40 if operation.path == "/route" else 2,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Any) -> None:
        # Which models there are, and that a chat has a user's text, no schema can say.
        answer = case.call_and_validate(excluded_checks=[positive_data_acceptance])
        statuses.add(answer.status_code)

    check()
    return statuses


# --- Programs ------------------------------------------------------------------------------------


def test_importing_locus_stays_light() -> None:
    code = (
        "import sys, locus; assert 'numpy' not in sys.modules; "
        "from locus import Policy, Router; from locus.routing.router import Router as R; "
        "assert Router is R and 'Router' in dir(locus) and not hasattr(locus, 'Rooter')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
