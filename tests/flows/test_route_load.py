"""The route server under many requests at once, while snapshots are published."""

import itertools
import logging
import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from serving import wait_for
from small_map import publish_small
from test_route_server import BIN, environment

from locus.routing.serving.desk import WAITING
from locus.snapshots import Snapshot, make_current

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

log = logging.getLogger(__name__)

REQUESTS = int(os.environ.get("LOCUS_LOAD_REQUESTS", "160"))
"""In all; `make test-load` asks 10,000."""
LEVELS = (1, 4, 16, WAITING, 4 * WAITING)
# Texts differ, so that nobody remembers an answer.
QUERY = "What is {a} plus {b}, and what is {b} minus {a}?"


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address of ``locus route-server`` over the home of a folder, and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [str(BIN / "locus"), "route-server", "--port", str(port)]
    with (folder / "said.txt").open("w") as said:
        process = subprocess.Popen(
            words, cwd=folder, env=environment(folder, ""), stderr=said, text=True
        )
        try:
            yield f"http://127.0.0.1:{port}", process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def ask(client: httpx.Client, number: int) -> tuple[int, float, str, int]:
    """One request: status, seconds, snapshot and number of models that it names."""
    start = time.perf_counter()
    text = QUERY.format(a=number, b=2 * number + 1)
    answer = client.post("/route", json={"queries": [text], "k": 100})
    took = time.perf_counter() - start
    if answer.status_code != 200:
        return answer.status_code, took, "", 0
    told = answer.json()
    return 200, took, told["snapshot_id"], len(told["results"][0]["choices"])


def healthy(url: str, process: subprocess.Popen[str]) -> bool:
    assert process.poll() is None
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.ConnectError:
        return False


def test_no_request_is_lost_and_none_sees_two_snapshots(tmp_path: Path) -> None:
    logging.getLogger("httpx").setLevel(logging.WARNING)
    (tmp_path / "locus.toml").write_text('home = "home"\n')
    published = tmp_path / "home" / "published"
    # Two kinds of snapshots, told apart by how many models they name.
    kept = [publish_small(published), publish_small(published, each=5)]
    models = {one.snapshot_id: n for one, n in zip(kept, (8, 10), strict=True)}
    numbers = itertools.count(1)
    with served(tmp_path) as (url, process):
        wait_for(lambda: healthy(url, process), 120)
        for level in LEVELS:
            began, switches = time.monotonic(), itertools.count()
            found = _one_level(url, level, published, itertools.cycle(kept), numbers, switches)
            took = time.monotonic() - began
            statuses = Counter(status for status, *_ in found)
            # Who is too many is told to come again, and nothing else ever goes wrong.
            assert set(statuses) <= ({200} if level <= WAITING else {200, 503})
            assert statuses[200] > 0
            assert all(models[name] == n for status, _, name, n in found if status == 200)
            served_s = [seconds for status, seconds, *_ in found if status == 200]
            p50, p99 = 1000 * np.quantile(served_s, [0.5, 0.99])
            log.info(
                "%4d at a time: %5d answered, %4d told to come again, p50 %.0f ms, p99 %.0f ms, "
                "%.1f answered a second, %d publications, %.0f MB",
                level, statuses[200], statuses[503], p50, p99, statuses[200] / took,
                next(switches), psutil.Process(process.pid).memory_info().rss / 1e6,
            )  # fmt: skip
    assert "Traceback" not in (tmp_path / "said.txt").read_text()


def _one_level(
    url: str,
    level: int,
    published: Path,
    kept: Iterator[Snapshot],
    numbers: Iterator[int],
    switches: Iterator[int],
) -> list[tuple[int, float, str, int]]:
    """As many requests at a time as ``level``, while the pointer goes back and forth."""
    done = threading.Event()

    def publish() -> None:
        for one in kept:
            make_current(published, one)
            next(switches)
            if done.wait(0.3):
                return

    def some(n: int) -> list[tuple[int, float, str, int]]:
        with httpx.Client(base_url=url, timeout=120) as client:
            return [ask(client, next(numbers)) for _ in range(n)]

    switching = threading.Thread(target=publish)
    switching.start()
    try:
        each = max(1, REQUESTS // len(LEVELS) // level)
        with ThreadPoolExecutor(level) as pool:
            return [one for own in pool.map(some, [each] * level) for one in own]
    finally:
        done.set()
        switching.join()
