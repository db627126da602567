"""The hub as a worker asks it: with an end to every wait."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx2

WAIT_S = 30.0


def end_waits(wait_s: float = WAIT_S) -> None:
    """Limit what this process waits for the hub where its library sets no limit.

    `huggingface_hub` asks for much without one: a hub that takes a connection and never answers
    would keep a worker until its whole time (`timeout_minutes`) is over.

    Args:
        wait_s: seconds to wait for a connection, or for the next bytes.
    """
    import httpx2
    from huggingface_hub import get_session, set_client_factory

    def limit(request: "httpx2.Request") -> None:
        asked = request.extensions.get("timeout") or {}
        limits = {name: asked.get(name) or wait_s for name in ("connect", "read", "write", "pool")}
        request.extensions = {**request.extensions, "timeout": limits}

    # The library's own: it looks for offline mode, among others.
    hooks = get_session().event_hooks
    hooks = {**hooks, "request": [*hooks["request"], limit]}
    set_client_factory(lambda: httpx2.Client(event_hooks=hooks, follow_redirects=True))
