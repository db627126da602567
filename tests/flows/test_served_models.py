"""A night with a model behind an API: canaries, faults, a rest, by the real command line."""

import json
from collections.abc import Iterator

import pytest
from conftest import Pipeline
from openai_server import MODEL, OpenAIServer, serving
from test_night import query

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

KEY = "marker-key-0123456789"


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with serving() as running:
        running.key = KEY
        yield running


def register(pipeline: Pipeline, server: OpenAIServer, name: str, api_key_env: str) -> None:
    """One more model, behind the server."""
    args = {"model": MODEL, "base_url": f"{server.root}/chat/completions"}
    args["api_key_env"] = api_key_env
    with (pipeline.folder / "models.yaml").open("a") as registry:
        registry.write(
            f"- id: {name}\n  backend: local-chat-completions\n  chat_template: true\n"
            f"  args: {json.dumps(args)}\n"
            "  prices:\n  - {in_usd_per_mtok: 100, out_usd_per_mtok: 100}\n"
            "  - {in_usd_per_mtok: 1, out_usd_per_mtok: 2, valid_from: 2026-01-01}\n"
            "  - {in_usd_per_mtok: 500, out_usd_per_mtok: 500, valid_from: 2999-01-01}\n"
        )


def test_a_night_with_a_service(pipeline: Pipeline, server: OpenAIServer) -> None:
    pipeline.environment["SERVED_API_KEY"] = KEY
    pipeline.environment["LOCUS_EVALUATION__CANARY_QUERIES"] = "5"
    pipeline.environment["LOCUS_EVALUATION__ATTEMPTS"] = "2"
    pipeline.register("a", "b")
    register(pipeline, server, "org/served", api_key_env="SERVED_API_KEY")
    server.fail("429", times=2, retry_after="0")
    server.fail("null", prompt="number 7 ")
    first = pipeline.locus("run", "nightly")
    assert first.returncode == 0, first.stderr
    # A chat service can't be asked multiple choice: 40 of its queries, and 80 of each local model.
    assert "asked 200 queries, recorded 200 scores" in first.stdout
    assert "asked 5 canary queries" in first.stdout
    assert len(server.asked) == 40 + 2 + 5
    statuses = "SELECT status, count(*) FROM score WHERE model_id = 'org/served' GROUP BY 1"
    assert dict(query(pipeline, statuses)) == {"ok": 39, "empty": 1}  # type: ignore[arg-type]
    # Canaries are apart, are what the model has answered, and are asked once a night.
    canaries = "SELECT count(*), count(DISTINCT query_id), min(status) FROM canary"
    assert query(pipeline, canaries) == [(5, 5, "ok")]
    # The price of today, of three.
    wrong = "SELECT count(*) FROM score WHERE model_id = 'org/served' AND abs(cost_usd - "
    wrong += "(tokens_in * 1 + tokens_out * 2) / 1e6) > 1e-12"
    assert query(pipeline, wrong) == [(0,)]
    assert query(pipeline, "SELECT count(*) FROM price WHERE model_id = 'org/served'") == [(3,)]

    second = pipeline.locus("run", "nightly")
    assert second.returncode == 0, second.stderr
    assert "asked 1 queries, recorded 1 scores" in second.stdout
    assert "canary" not in second.stdout
    asked = len(server.asked)
    third = pipeline.locus("run", "nightly")
    assert "nothing new" in third.stdout  # asked twice in vain, it is given up
    assert len(server.asked) == asked
    # The key is in no file of the pipeline.
    state = pipeline.folder / "state"
    holding = [p for p in state.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]
    assert holding == []

    a_service_that_keeps_failing_rests(pipeline, server)


def a_service_that_keeps_failing_rests(pipeline: Pipeline, server: OpenAIServer) -> None:
    """A new model, whose key isn't the service's."""
    pipeline.environment["WRONG_API_KEY"] = "wrong-key-of-somebody"
    pipeline.environment["LOCUS_EVALUATION__REST_AFTER_FAILURES"] = "1"
    register(pipeline, server, "org/locked", api_key_env="WRONG_API_KEY")
    first = pipeline.locus("run", "nightly")
    assert first.returncode == 3
    assert "org/locked" in first.stderr
    assert "refuses the key" in first.stderr
    asked = len(server.asked)
    second = pipeline.locus("run", "nightly")
    assert second.returncode == 0, second.stderr
    assert "1 models rest" in second.stdout
    assert "locus add-model org/locked" in second.stdout
    assert len(server.asked) == asked
