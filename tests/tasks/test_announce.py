"""Announcements without a server, or with one that can't take them: nothing is lost or doubled."""

import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from serving import Handler, running

from locus.ids import InvalidIdError
from tasks.announce import announce, announced
from tasks.events import api_url, server_file
from tasks.settings import Settings

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """Settings of a home where no server is configured."""
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        yield Settings(home=tmp_path)


@pytest.fixture
def broken_server() -> Iterator[str]:
    """Address of something that answers every request with 500."""

    class Broken(Handler):
        def do_GET(self) -> None:
            self.answer(500)

        do_POST = do_GET

    with running(Broken) as address:
        yield f"{address}/api"


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def markers(settings: Settings) -> list[Path]:
    folder = settings.home / "announced"
    return list(folder.iterdir()) if folder.exists() else []


def test_without_a_server_nothing_is_marked(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "locus.announce")
    assert announce(settings, "org/new", SHA, "test") is False
    assert not announced(settings, "org/new", SHA)
    assert not markers(settings)
    assert "no Prefect server is configured" in caplog.text
    assert "the next nightly run evaluates it" in caplog.text


@pytest.mark.parametrize("how", ["configured", "left by a serve that was killed"])
def test_a_server_that_can_not_be_reached(
    settings: Settings, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"http://127.0.0.1:{closed_port()}/api"
    updates = {PREFECT_API_URL: url} if how == "configured" else {}
    if not updates:
        server_file(settings).write_text(json.dumps({"api_url": url, "pid": 1}))
    with temporary_settings(updates):
        assert announce(settings, "org/new", SHA, "test") is False
    assert f"{url} can't be reached" in caplog.text
    assert not markers(settings)


def test_a_server_that_fails(
    settings: Settings, broken_server: str, caplog: pytest.LogCaptureFixture
) -> None:
    with temporary_settings({PREFECT_API_URL: broken_server}):
        assert announce(settings, "org/new", SHA, "test") is False
    assert "answered 500" in caplog.text
    assert not markers(settings)


def test_the_marker_of_a_killed_process_counts_for_nothing(settings: Settings) -> None:
    from locus.ids import short_hash

    folder = settings.home / "announced"
    folder.mkdir()
    (folder / short_hash(f"org/new@{SHA}", 32)).touch()
    assert not announced(settings, "org/new", SHA)
    assert announce(settings, "org/new", SHA, "test") is False
    assert not markers(settings)


def test_where_the_server_is(settings: Settings) -> None:
    assert api_url(settings) is None
    server_file(settings).write_text("{")
    assert api_url(settings) is None
    server_file(settings).write_text('["no address"]')
    assert api_url(settings) is None
    server_file(settings).write_text(json.dumps({"api_url": "http://127.0.0.1:1/api", "pid": 1}))
    assert api_url(settings) == "http://127.0.0.1:1/api"
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:2/api"}):
        assert api_url(settings) == "http://127.0.0.1:2/api"


@pytest.mark.parametrize(
    ("model_id", "revision"),
    [
        ("../../etc/passwd", SHA),
        ("org/{{ event }}", SHA),
        ("org/new\n", SHA),
        ("org/new", "{{ deployment.name }}"),
        ("org/new", "{% for x in y %}"),
        ("org/new", "two\nlines"),
        ("org/new", "\u202eright to left"),
        ("org/new", ""),
        ("org/new", "x" * 201),
    ],
)
def test_what_is_hostile_is_refused(settings: Settings, model_id: str, revision: str) -> None:
    with pytest.raises(InvalidIdError):
        announce(settings, model_id, revision, "test")
    with pytest.raises(InvalidIdError):
        announced(settings, model_id, revision)
    assert not markers(settings)
