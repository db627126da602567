"""Where notifications go in a test."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from serving import Handler, running


@dataclass
class Bell:
    """Keeps what it is sent; answers with ``status``."""

    url: str = ""
    status: int = 200
    rung: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def bell() -> Iterator[Bell]:
    """A bell on a free port, at the address that `LOCUS_NOTIFY_URLS` takes."""
    made = Bell()

    class Hear(Handler):
        def do_POST(self) -> None:
            made.rung.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.answer(made.status)

    with running(Hear) as url:
        made.url = url.replace("http:", "json:")
        yield made
