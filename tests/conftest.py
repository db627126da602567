"""Fixtures shared by all tests: where the real data lies, and an environment without a hub."""

import atexit
import gc
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from hub_server import HubServer

    from tasks.settings import Settings

# Before anything imports a library that would look for a hub or phone home.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
# Tiny networks: one thread each is faster than threads that wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Imports make a million objects that stay; to look for dead ones among them takes seconds.
gc.set_threshold(100_000, 20, 20)


def _end_quietly() -> None:
    """DuckDB's binding lists its own constants as leaked when the interpreter is taken down."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


atexit.register(_end_quietly)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real evaluation matrices and logs (``LOCUS_DATA`` or ``../shared/data``)."""
    folder = Path(os.environ.get("LOCUS_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no evaluation data at {folder}: set LOCUS_DATA to a folder that has it")
    return folder


@pytest.fixture(scope="session")
def _prefect_folder(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Path:
    from shared_server import shared

    return shared(tmp_path_factory, request)


@pytest.fixture(scope="session")
def prefect_server(_prefect_folder: Path) -> str:
    """Address of the API of a real Prefect server, which all tests of this run use.

    Others' flow runs, events and artifacts are there too: tell your own by an id.
    """
    return (_prefect_folder / "api").read_text()


@pytest.fixture
def own_prefect_server(_prefect_folder: Path, tmp_path: Path) -> "Iterator[str]":
    """Address of the API of an empty one of the test's own, for what others must not see."""
    from shared_server import own

    folder = tmp_path / "own-server"
    folder.mkdir()
    with own(folder, _prefect_folder) as url:
        yield url


@pytest.fixture
def prefect_api(prefect_server: str) -> "Iterator[str]":
    """Flows of this process run on the shared server; gives its address."""
    from prefect.settings import PREFECT_API_URL, temporary_settings
    from shared_server import say_the_rest

    with temporary_settings({PREFECT_API_URL: prefect_server}):
        yield prefect_server
        say_the_rest()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> "Iterator[HubServer]":
    """A hub of the test's own; tests run in offline mode, and this one is here."""
    import huggingface_hub
    from hub_server import serving

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with serving() as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Settings":
    """A home and a registry to come, and no Prefect server; other tests have their own."""
    from tasks.settings import Settings

    monkeypatch.setenv("PREFECT_API_URL", "")
    return Settings(home=tmp_path / "state", models_file=tmp_path / "models.yaml")


# Files that take more than half a minute, longest first: where files run beside one another, none
# of them may come last. Promises 13 and 11 make the nights that the others look at, which come
# later, so that nobody waits for a night.
LONGEST = (
    "promises/test_13_killed_at_any_instant.py",
    "flows/test_serve.py",
    "flows/test_night.py",
    "promises/test_13_short_loops.py",
    "flows/test_verbs.py",
    "flows/test_served_models.py",
    "flows/test_pool.py",
    "tasks/test_kills.py",
    "tasks/test_retrain.py",
    "promises/test_11_one_bad_model_blocks_no_other.py",
    "locus/benchmark/test_benchmark_run.py",
    "tasks/test_rescoring.py",
    "locus/report/test_report_browser.py",
    "flows/test_webhook.py",
    "flows/test_postgres.py",
    "flows/test_silent_runs.py",
    "locus/evaluation/test_real_server.py",
    "locus/zoo/test_build.py",
    "tasks/test_gatekeeping.py",
    "tasks/test_canaries.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest files first; this needs ``--no-loadscope-reorder`` of pytest-xdist."""
    place = {ROOT / "tests" / name: n for n, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """The processes of this run have ended: so does the server that they have used."""
    import shared_server

    if not hasattr(session.config, "workerinput"):
        factory: pytest.TempPathFactory = session.config._tmp_path_factory  # type: ignore[attr-defined]
        shared_server.end(factory.getbasetemp())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test is a failure: whatever it needs must be installed there."""
    report = yield
    # Half of a surrogate pair can't travel from one process to another, and would end them all.
    report.sections = [
        (title, text.encode("utf-8", "backslashreplace").decode())
        for title, text in report.sections
    ]
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report
