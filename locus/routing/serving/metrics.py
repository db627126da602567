"""What the service counts, in the text format of Prometheus."""

import threading
import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from locus.routing.serving.desk import Desk
from locus.routing.serving.follow import Follower

PATHS = ("/route", "/v1/models", "/health", "/metrics", "/openapi.json")
MODELS_MOST = 100
OTHER = "other"


class Metrics:
    """Counters of one application.

    Args:
        follower: whose snapshot is told of.
        desk: whose queue is told of.
    """

    def __init__(self, follower: Follower, desk: Desk) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "locus_route_requests",
            "Requests answered.",
            ["path", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "locus_route_request_seconds",
            "Time to answer a request.",
            ["path"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )
        self._queries = Counter("locus_route_queries", "Queries routed.", registry=registry)
        self._nobody = Counter(
            "locus_route_unanswered", "Queries that nobody should answer.", registry=registry
        )
        self._choices = Counter(
            "locus_route_choices",
            f"First choices by model; after {MODELS_MOST} models, the rest together.",
            ["model_id"],
            registry=registry,
        )
        self._named: set[str] = set()
        self._lock = threading.Lock()
        waiting = Gauge(
            "locus_route_waiting", "Requests that wait or are routed.", registry=registry
        )
        waiting.set_function(lambda: desk.here)
        age = Gauge(
            "locus_route_snapshot_age_seconds",
            "Seconds since the snapshot in use was made; NaN without one.",
            registry=registry,
        )
        age.set_function(lambda: s.age_seconds if (s := follower.serving) else float("nan"))
        usable = Gauge(
            "locus_route_snapshot_usable",
            "1 if what is published is in use, 0 if it can't be.",
            registry=registry,
        )
        usable.set_function(lambda: follower.problem is None and follower.serving is not None)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """A request was answered."""
        # Paths are the callers' words: only ours become labels.
        label = path if path in PATHS else OTHER
        self._requests.labels(label, str(status)).inc()
        self._seconds.labels(label).observe(seconds)

    def routed(self, chosen: Iterable[str | None]) -> None:
        """Queries were routed; for each the model chosen, None where nobody answers."""
        for model in chosen:
            self._queries.inc()
            if model is None:
                self._nobody.inc()
            else:
                self._choices.labels(self._label(model)).inc()

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self._registry)

    def _label(self, model: str) -> str:
        with self._lock:
            if model not in self._named and len(self._named) < MODELS_MOST:
                self._named.add(model)
            return model if model in self._named else OTHER


class Counted:
    """Counts every answer and how long it took, whoever gave it."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            self._metrics.answered(scope["path"], status, time.perf_counter() - began)
