"""The freshness flow on a real server: fails while stale, rings once."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness

from flows.freshness import StaleDataError, freshness_check
from tasks.freshness import note_night
from tasks.settings import Settings, load_settings

pytestmark = pytest.mark.slow


class Bell(ThreadingHTTPServer):
    """Counts what it is sent; answers with ``status``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.rung: list[str] = []
        self.status = 200


class _Handler(BaseHTTPRequestHandler):
    server: Bell

    def do_POST(self) -> None:
        got = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.rung.append(got["message"])
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def bell(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bell]:
    server = Bell()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("LOCUS_NOTIFY_URLS", f"json://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    (tmp_path / "locus.toml").write_text('home = "state"\n[gates]\nstale_after_hours = 30\n')
    monkeypatch.setenv("LOCUS_CONFIG", str(tmp_path / "locus.toml"))
    return load_settings()


def test_it_rings_once_per_staleness(settings: Settings, bell: Bell) -> None:
    long_ago = datetime.now(UTC) - timedelta(hours=31)
    with prefect_test_harness(server_startup_timeout=120):
        note_night(settings, "published", True, datetime.now(UTC))
        assert "0.0 hours ago" in freshness_check()
        note_night(settings, "published", True, long_ago)
        bell.status = 500
        with pytest.raises(StaleDataError, match=r"STALE: .* 31\.0 hours ago"):
            freshness_check()
        # Nobody has heard of it, so it rings again; then it has been told.
        bell.status = 200
        for _ in range(3):
            assert freshness_check(return_state=True).is_failed()
        assert len(bell.rung) == 2
        note_night(settings, "published", True, datetime.now(UTC))
        freshness_check()
        note_night(settings, "published", True, long_ago)
        assert freshness_check(return_state=True).is_failed()
    assert len(bell.rung) == 3
    assert all("STALE" in message for message in bell.rung)
