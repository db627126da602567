"""A night with a model behind an API: canaries, faults, a rest, by the real command line."""

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from conftest import Pipeline
from openai_server import MODEL, OpenAIServer, serving
from test_night import query

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

KEY = "marker-key-0123456789"
WRONG_KEY = "wrong-key-of-somebody"
KEYS = {"SERVED_API_KEY": KEY, "WRONG_API_KEY": WRONG_KEY}


class Lookout(threading.Thread):
    """Looks at processes while they run, as whoever is on the machine can.

    Attributes:
        keys: names of the keys in the environment of each worker of a pipeline, by its model; by
            its module if it is about no model.
        shown: command lines with a key in them, whosever process it is.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__(daemon=True)
        self.keys: dict[str, set[str]] = {}
        self.shown: list[list[str]] = []
        self._folder = str(pipeline.folder)
        self._seen: set[tuple[int, str]] = set()
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(0.1):
            for pid in psutil.pids():
                # Ended meanwhile, or another user's.
                with suppress(OSError):
                    self._look(pid, Path(f"/proc/{pid}"))

    def stop(self) -> None:
        """End it."""
        self._end.set()
        self.join()

    def _look(self, pid: int, process: Path) -> None:
        line = (process / "cmdline").read_text(errors="replace")
        if (pid, line) in self._seen:
            return
        self._seen.add((pid, line))
        if any(key in line for key in KEYS.values()):
            self.shown.append(line.split("\0"))
        _, _, called = line.partition("\0-m\0locus.evaluation.")
        module, *arguments = called.split("\0")
        if not any(argument.startswith(self._folder) for argument in arguments):
            return
        request = Path(arguments[0])
        about = json.loads(request.read_text()) if request.name == "request.json" else {}
        held = (process / "environ").read_text(errors="replace").split("\0")
        found = {name for name, key in KEYS.items() if f"{name}={key}" in held}
        self.keys.setdefault(about.get("model_id", module), set()).update(found)


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


def test_a_night_with_a_service(
    pipeline: Pipeline, server: OpenAIServer, _prefect_folder: Path
) -> None:
    lookout = Lookout(pipeline)
    lookout.start()
    said = nights_with_a_service(pipeline, server)
    said += a_service_that_keeps_failing_rests(pipeline, server)
    lookout.stop()
    # Keys are in nothing that was said, in no file of the pipeline's, in nothing that Prefect has
    # kept of flow runs, parameters, artifacts, events and logs, and in nobody's command line.
    kept = [p for p in pipeline.folder.rglob("*") if p.is_file()]
    database = [*(_prefect_folder / "prefect").glob("prefect.db*")]
    assert any(b"org/served" in path.read_bytes() for path in database)
    for key in KEYS.values():
        assert key not in said
        assert [p for p in (*kept, *database) if key.encode() in p.read_bytes()] == []
    assert lookout.shown == []
    # Each worker has the key of the service that it asks, and no other.
    assert lookout.keys.pop("org/served") == {"SERVED_API_KEY"}
    assert lookout.keys.pop("org/locked") == {"WRONG_API_KEY"}
    assert {"org/a", "org/b"} <= lookout.keys.keys()
    assert not any(lookout.keys.values()), lookout.keys


def nights_with_a_service(pipeline: Pipeline, server: OpenAIServer) -> str:
    """Three nights, and what they said."""
    # The second one is another service's, from whose worker it is hidden as well.
    pipeline.environment.update(KEYS)
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
    return "".join(night.stdout + night.stderr for night in (first, second, third))


def a_service_that_keeps_failing_rests(pipeline: Pipeline, server: OpenAIServer) -> str:
    """A new model, whose key isn't the service's; and what two nights said."""
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
    return "".join(night.stdout + night.stderr for night in (first, second))
