"""A Prefect server that can't be reached: one line that names it, and no secret of its address."""

import httpx
import pytest

from flows.cli.app import _server_gone


def refused(url: str) -> httpx.TransportError:
    """The error of a request that nobody takes."""
    with pytest.raises(httpx.ConnectError) as caught:
        httpx.post(f"{url}/flow_runs/", timeout=5)
    return caught.value


def test_it_is_named_with_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    # Port 9 is that of a service that nobody runs.
    url = "http://user:pass-word@127.0.0.1:9/api"
    error = refused(url)
    monkeypatch.setenv("PREFECT_API_URL", url)
    said = _server_gone(error) or ""
    assert "http://(hidden)@127.0.0.1:9/api, can't be reached" in said
    assert "run this again" in said
    assert "pass-word" not in said
    assert _server_gone(RuntimeError(f"Failed to reach API at {url}/")) == said
    # Somebody else's silence is not the server's.
    assert _server_gone(refused("http://127.0.0.1:9/v1")) is None
    assert _server_gone(ValueError("no request at all")) is None
    monkeypatch.delenv("PREFECT_API_URL")
    assert _server_gone(error) is None
