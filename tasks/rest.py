"""Rest: a model that keeps failing is left alone for a while, so that a night isn't spent on it."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from locus.registry import ModelSpec
from tasks.settings import Settings
from warehouse.sql import query
from warehouse.store import Warehouse

# A night that begins a little earlier than the last one is still the next night.
SLACK = timedelta(hours=2)


class Registered(Protocol):
    """A model of the registry and its revision; no Prefect here, `locus status` asks as well."""

    @property
    def spec(self) -> ModelSpec:
        """Its entry."""

    @property
    def revision(self) -> str:
        """The revision that it has now."""


def resting(
    settings: Settings,
    warehouse: Warehouse,
    models: Sequence[Registered],
    now: datetime | None = None,
) -> dict[str, str]:
    """Models that are left alone now, with the reason.

    After `rest_after_failures` evaluations in a row that gave no answer, a model rests for a day,
    after one more for two, then four, up to `rest_days_most`. There is no other state than the runs
    in the warehouse: an answer ends it, and so does a change of the model's backend, arguments or
    revision, since whoever changed them may have mended what was wrong.

    Args:
        settings: the pipeline's settings.
        warehouse: where the runs are.
        models: whom to look at.
        now: the time (UTC); None takes the clock's.
    """
    ask, now = settings.evaluation, now or datetime.now(UTC)
    found = {}
    for model in models:
        spec = model.spec
        failures = warehouse.rows(
            query("failures_in_a_row"), {"model_id": spec.id, "revision": model.revision}
        )
        n = 0
        for _, text, _ in failures:
            then = json.loads(text or "{}")
            if (then.get("backend"), then.get("args")) != (spec.backend, spec.backend_args()):
                break
            n += 1
        if n < ask.rest_after_failures:
            continue
        days = min(2 ** (n - ask.rest_after_failures), ask.rest_days_most)
        finished_at, _, error = failures[0]
        until = finished_at + timedelta(days=days) - SLACK
        if now < until:
            found[spec.id] = (
                f"failed {n} times in a row, the last time with: {error}; it rests "
                f"until {until:%Y-%m-%d %H:%M} UTC, or ask it at once: locus add-model {spec.id}"
            )
    return found
