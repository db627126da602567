"""Real HTTP servers for tests: on a free port of this machine, while a block runs."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import uvicorn


class Handler(BaseHTTPRequestHandler):
    """A request that is answered without a word on standard error."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """Answer with JSON; ``headers`` come over the usual ones."""
        self.send_response(status)
        fields = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        for name, value in {**fields, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):  # some clients hang up at once, and that is what is tested
            self.wfile.write(body)

    def answer_without_end(self, closing: threading.Event) -> None:
        """A body that goes on until nobody reads it any more, or the server closes."""
        self.close_connection = True
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        with suppress(OSError):
            while not closing.is_set():
                self.wfile.write(b" " * 65536)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


@contextmanager
def running(
    handler: type[BaseHTTPRequestHandler], closing: threading.Event | None = None, port: int = 0
) -> Iterator[str]:
    """Serve; gives the address, and sets ``closing`` for requests that wait before it ends."""
    server = _Server(("127.0.0.1", port), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        if closing is not None:
            closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def listening(
    make: Callable[[str, int], uvicorn.Server], patience_s: float
) -> Iterator[httpx.Client]:
    """A client of one of our services, which runs; ``make`` gets the address to listen on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = make("127.0.0.1", port)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started, patience_s)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=patience_s) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


def wait_for(done: Callable[[], Any], patience_s: float = 60) -> Any:
    """What ``done`` gives, once it gives something."""
    deadline = time.monotonic() + patience_s
    while not (found := done()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
    return found
