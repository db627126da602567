"""Gates on real snapshots: the usual is published, what is worse leaves the old one as it is."""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answered import AnsweredHome, MadeQueries
from prefect import flow
from serving import Handler, running
from shared_server import ask

from locus.bank import Array
from locus.evaluation.parts import write_part
from locus.gates.facts import GateFailedError, GateResult
from locus.gates.settings import GATES, UnknownGateError
from locus.snapshots import Snapshot, current, verify
from tasks.gates import Canaries, gatekeeper, judge
from tasks.notify import NotifySettings
from tasks.publish import blocked_folder, is_blocked, publish_snapshot
from tasks.record import record_parts
from warehouse.console import run_sql
from warehouse.store import Warehouse

N_MODELS, N_TRAIN, N_VAL, N_TEST = 24, 160, 40, 120
TRAIN = range(N_TRAIN)
VAL = range(N_TRAIN, N_TRAIN + N_VAL)
TEST = range(N_TRAIN + N_VAL, N_TRAIN + N_VAL + N_TEST)
KINDS = ("sums", "words")


def _truth() -> tuple[Array, Array]:
    """Encodings of queries, and who answers them: two kinds of queries, models good at one."""
    rng = np.random.default_rng(4)
    n = TEST.stop
    kind = np.arange(n) % 2
    phi = rng.normal(size=(n, 8)).astype(np.float32)
    phi[:, 0] = 4.0 * kind - 2.0
    good = np.where((np.arange(N_MODELS)[:, None] % 2) == kind, 1.4, -1.2)
    strength = 0.3 * rng.normal(size=(N_MODELS, 1))
    y = rng.random((N_MODELS, n)) < 1 / (1 + np.exp(-(good + strength)))
    return phi, y.astype(np.float32)


def _split(query: int) -> str:
    return "test" if query in TEST else "val" if query in VAL else "train"


PHI_Qp, Y_MQ = _truth()
MADE = MadeQueries(
    [KINDS[q % 2] for q in range(TEST.stop)], [_split(q) for q in range(TEST.stop)], PHI_Qp
)


class World(AnsweredHome):
    """A home whose candidates are judged."""

    queries = MADE
    reference_queries = 240

    def fill(self, *parts: range, models: range, y_MQ: Array = Y_MQ) -> None:
        """Import answers, and file the encodings of their queries."""
        self.file([q for part in parts for q in part], {f"org/m{m}": y_MQ[m] for m in models})

    def publish(self, **facts: Any) -> Snapshot:
        keep = gatekeeper(self.settings, **facts)
        return publish_snapshot.fn(self.settings, self.placed(), gate=keep)

    def results(self, snapshot: Snapshot) -> dict[str, GateResult]:
        """What the gates say of a snapshot beside the current one."""
        return {r.name: r for r in judge(self.settings, snapshot)[0]}

    def asked(self, model: int, queries: range, status: str, planned: int | None = None) -> None:
        """A run that asked a model these queries, and how each ended."""
        name = f"org/m{model}"
        with Warehouse.open(self.settings.warehouse) as w:
            ids = [query for query, number in self.ids(w).items() if number in queries]
            run_id = f"run-{time.monotonic_ns()}"
            w.scores.start_run(run_id, "lm-eval", name, "r", {}, {}, None, planned or len(ids))
            score = 1.0 if status == "ok" else None
            rows = [
                {"model_id": name, "revision": "r", "query_id": q, "status": status,
                 "score": score, "metric": "acc", "filter": "none", "scored_at": datetime.now(UTC)}
                for q in ids
            ]  # fmt: skip
            part = self.home / "parts" / f"{run_id}.parquet"
            write_part(rows, part)
            assert record_parts(w, run_id, [part])[0] == len(ids)
            w.scores.finish_run(run_id, "failed" if planned else "finished")

    def audited(self) -> list[tuple[str, dict[str, str]]]:
        """What each candidate was told, the newest last: subject, verdict by gate."""
        sql = "SELECT subject, detail FROM audit_log WHERE action = 'gates' ORDER BY logged_at"
        rows = [
            (s, json.loads(d)["results"]) for s, d in run_sql(self.settings.warehouse, sql).rows()
        ]
        return [(s, {r["name"]: r["verdict"] for r in results}) for s, results in rows]

    def drifted(self) -> list[str]:
        """Models known to have changed, by the newest entry."""
        sql = "SELECT detail FROM audit_log WHERE action = 'gates' ORDER BY logged_at DESC LIMIT 1"
        found: list[str] = json.loads(run_sql(self.settings.warehouse, sql).item())["drifted"]
        return found


def everything(published: Path) -> dict[str, str]:
    """Digest of the pointer and of every file of the current snapshot."""
    folder = current(published).folder
    files = [published / "current.json", *(p for p in folder.rglob("*") if p.is_file())]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def first_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty models, published."""
    world = World(tmp_path_factory.mktemp("first") / "home")
    world.fill(TRAIN, VAL, TEST, models=range(20))
    world.publish()
    return world.home


@pytest.fixture
def world(first_home: Path, tmp_path: Path) -> World:
    return World(Path(shutil.copytree(first_home, tmp_path / "home")))


def spoiled(queries: range = TRAIN) -> Array:
    """Every answer to these queries turned round."""
    y_MQ = Y_MQ.copy()
    y_MQ[:, queries] = 1 - y_MQ[:, queries]
    return y_MQ


def refused(world: World, **facts: Any) -> GateFailedError:
    with pytest.raises(GateFailedError) as raised:
        world.publish(**facts)
    return raised.value


def test_the_first_and_a_usual_night_are_published(world: World) -> None:
    first = current(world.settings.published)
    world.fill(TRAIN, VAL, TEST, models=range(20, 22))
    anew = Y_MQ.copy()
    flipped = np.random.default_rng(1).random(anew.shape) < 0.01
    world.fill(TRAIN, models=range(3), y_MQ=np.where(flipped, 1 - anew, anew))
    second = world.publish()
    assert second.manifest["parent"] == first.snapshot_id
    assert current(world.settings.published).snapshot_id == second.snapshot_id
    assert verify(second.folder, second.manifest_sha256).manifest == second.manifest
    assert not is_blocked(world.settings.published)
    (_, before), (subject, now) = world.audited()
    assert set(before) == set(now) == {"empty", *GATES}
    assert set(before.values()) == set(now.values()) == {"passed"}
    assert subject == second.snapshot_id


def test_the_facts_are_those_of_the_snapshots(world: World) -> None:
    world.fill(TRAIN, VAL, TEST, models=range(20, 22))
    snapshot = publish_snapshot.fn(world.settings, world.placed(), gate=None)
    found = world.results(snapshot)
    # Held against itself: nothing moved, nothing is gone, nobody was asked.
    assert found["moved"].value == found["choices"].value == found["rows"].value == 0
    assert found["routing"].value == 0
    assert f"on {N_TEST} held-out queries" in found["routing"].reason
    # What the gate measures is what the manifest publishes.
    routed = snapshot.manifest["routing_quality"][0]["hit1"]
    assert f"{routed:.3f}, was {routed:.3f}" in found["routing"].reason
    assert found["coverage"].value == 1
    assert found["errors"].reason == "no model was asked anything"


def test_spoiled_answers_leave_the_old_snapshot_byte_for_byte(world: World) -> None:
    published = world.settings.published
    before = everything(published)
    parent = current(published)
    world.fill(TRAIN, models=range(20), y_MQ=spoiled())
    error = refused(world)
    assert {"routing", "moved"} <= {r.name for r in error.failed}
    assert everything(published) == before
    assert current(published).snapshot_id == parent.snapshot_id
    with Warehouse.open(world.settings.warehouse) as w:
        assert w.snapshots.list()["snapshot_id"].to_list() == [parent.snapshot_id]
    # It is kept to be looked at, and says why.
    assert error.kept.is_dir()
    assert (error.kept / "similarity" / "report.html").stat().st_size > 1000
    said = json.loads((error.kept / "gates.json").read_text())
    assert said["message"] == str(error)
    assert [r["verdict"] for r in said["results"] if r["name"] == "routing"] == ["blocked"]
    assert str(error.kept) in str(error)
    assert is_blocked(published)
    # No other run takes it for published, and the next one is blocked as well.
    assert "routing" in [r.name for r in refused(world).failed]


def test_what_a_person_accepts_is_published_and_is_the_next_parent(world: World) -> None:
    world.fill(TRAIN, models=range(20), y_MQ=spoiled())
    names = [r.name for r in refused(world).failed]
    rest = names[1:]
    assert [r.name for r in refused(world, accept=rest).failed] == names[:1]
    accepted = world.publish(accept=names)
    assert current(world.settings.published).snapshot_id == accepted.snapshot_id
    assert not is_blocked(world.settings.published)
    assert [world.audited()[-1][1][n] for n in names] == ["accepted"] * len(names)
    assert world.publish().manifest["parent"] == accepted.snapshot_id


def test_an_older_warehouse_is_not_published(world: World, tmp_path: Path) -> None:
    older = shutil.copy(world.settings.warehouse, tmp_path / "backup.duckdb")
    world.fill(TRAIN, VAL, TEST, models=range(20, 24))
    world.fill(range(TEST.stop - 40, TEST.stop), models=range(24))
    world.publish()
    shutil.copy(older, world.settings.warehouse)
    error = refused(world)
    assert [r.name for r in error.failed] == ["models"]
    assert "4 of 24 models are gone" in str(error)


def test_only_the_newest_blocked_ones_are_kept(world: World) -> None:
    world.fill(TRAIN, models=range(20), y_MQ=spoiled())
    checkpoint_id = world.placed()
    kept = []
    for _ in range(4):
        with pytest.raises(GateFailedError) as raised:
            publish_snapshot.fn(world.settings, checkpoint_id, gate=gatekeeper(world.settings))
        kept.append(raised.value.kept)
    assert [folder.is_dir() for folder in kept] == [False, True, True, True]


def test_one_gate_of_a_failing_gatekeeper_leaves_nothing_behind(world: World) -> None:
    def broken(snapshot: Snapshot) -> None:
        raise RuntimeError(snapshot.snapshot_id)

    before = sorted(p.name for p in (world.settings.published / "snapshots").iterdir())
    with pytest.raises(RuntimeError):
        publish_snapshot.fn(world.settings, world.placed(), gate=broken)
    assert sorted(p.name for p in (world.settings.published / "snapshots").iterdir()) == before


def test_errors_of_this_run_block_and_an_answer_later_mends_them(world: World) -> None:
    start = datetime.now(UTC)
    for model in range(3):
        world.asked(model, range(40, 140), "error")
        world.asked(model, range(40), "ok")
    error = refused(world, since=start)
    assert [r.name for r in error.failed] == ["errors"]
    assert "300 of 420 queries ended without an answer" in str(error)
    assert "71% of 280" in str(error)
    # A run that asked nothing, or got its answers, is let through.
    later = datetime.now(UTC) + timedelta(seconds=1)
    only = judge(world.settings, current(world.settings.published), since=later)[0]
    assert all(r.passed for r in only)
    for model in range(3):
        world.asked(model, range(40, 140), "ok")
    found = refused_or_none(world, since=start)
    assert found is None or "errors" not in [r.name for r in found.failed]


def refused_or_none(world: World, **facts: Any) -> GateFailedError | None:
    try:
        world.publish(**facts)
    except GateFailedError as error:
        return error
    return None


def test_queries_that_a_failed_run_never_came_to_count(world: World) -> None:
    start = datetime.now(UTC)
    for model in range(3):
        world.asked(model, range(5), "ok", planned=100)
    error = refused(world, since=start)
    assert [r.name for r in error.failed] == ["errors"]
    assert "285 of 300 queries" in str(error)


def test_models_that_drifted_before_do_not_block_again(world: World) -> None:
    names = [f"org/m{i}" for i in range(5)]
    night = Canaries(watched=names, drifted=names[:3])
    error = refused(world, canaries=night)
    assert [r.name for r in error.failed] == ["canaries"]
    world.publish(canaries=night, accept=["canaries"])
    # Still drifted tonight, and on a day on which nobody was asked in between.
    world.publish()
    world.publish(canaries=night)
    # Two more are their own affair.
    world.publish(canaries=Canaries(watched=names, drifted=names))
    assert world.drifted() == names
    world.publish(canaries=Canaries(watched=names[:2]))
    assert world.drifted() == names[2:]


def test_a_parent_that_can_not_be_read_any_more_is_compared_by_its_figures(world: World) -> None:
    parent = current(world.settings.published)
    (parent.folder / "routing" / "predictor" / "predictor.json").write_text('{"format": 99}')
    second = world.publish()
    assert current(world.settings.published).snapshot_id == second.snapshot_id
    assert world.audited()[-1][1]["routing"] == "passed"


def test_gates_that_do_not_exist_are_refused_before_anything_is_built(world: World) -> None:
    with pytest.raises(UnknownGateError, match="'routng' can't be accepted; gates are: coverage"):
        gatekeeper(world.settings, accept=["routng"])


class Hook(Handler):
    """Keeps what it is sent."""

    got: list[dict[str, Any]]

    def do_POST(self) -> None:
        self.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.answer(200)


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    Hook.got = []
    with running(Hook) as address:
        monkeypatch.setenv("HOOK", f"{address.replace('http', 'json', 1)}/secret-path")
        yield Hook.got


@pytest.mark.slow
def test_a_blocked_publication_fails_the_flow_and_tells_everybody(
    world: World, hook: list[dict[str, Any]], prefect_api: str
) -> None:
    world.fill(TRAIN, models=range(20), y_MQ=spoiled())
    settings = world.settings.model_copy(update={"notify": NotifySettings(urls_env=["HOOK"])})
    checkpoint_id = world.placed()

    @flow(name="publish")
    def publish() -> Snapshot:
        return publish_snapshot(settings, checkpoint_id, gate=gatekeeper(settings))

    def found(what: str, **asked: Any) -> Any:
        return ask(prefect_api, f"/{what}/filter", **asked)

    state = publish(return_state=True)
    with pytest.raises(GateFailedError) as raised:
        publish()
    error, first = raised.value, state.result(raise_on_failure=False)
    assert isinstance(first, GateFailedError)
    snapshots = {first.snapshot_id, error.snapshot_id}
    run_id = str(state.state_details.flow_run_id)
    left = found("artifacts", artifacts={"flow_run_id": {"any_": [run_id]}})
    table = next(one["data"] for one in left if one["key"] == "gates")
    # Others publish on this server too.
    deadline = time.monotonic() + 60
    sent: list[dict[str, Any]] = []
    while len(sent) < 2 * len(error.failed) and time.monotonic() < deadline:
        events = found("events", filter={"event": {"name": ["locus.gate.failed"]}})["events"]
        sent = [event for event in events if event["payload"]["snapshot"] in snapshots]
        time.sleep(0.2)
    assert state.is_failed()
    rows = {row["gate"]: row for row in json.loads(table)}
    assert rows["routing"]["verdict"] == "blocked"
    assert rows["routing"]["value"] > rows["routing"]["limit"] == 0.02
    assert {event["payload"]["gate"] for event in sent} == {r.name for r in error.failed}
    assert error.snapshot_id in {event["payload"]["snapshot"] for event in sent}
    assert [message["type"] for message in hook] == ["failure", "failure"]
    assert hook[1]["title"].startswith("LOCUS: not published: routing")
    assert "secret-path" not in str(error) + table


def test_the_blocked_name_is_beside_its_snapshot(world: World) -> None:
    snapshot = current(world.settings.published)
    assert blocked_folder(snapshot) == snapshot.folder.with_name(f"{snapshot.snapshot_id}.blocked")
