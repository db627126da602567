"""How things stand, for `locus status`: what is behind, what a night took, when the next one is."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from locus.registry import ModelSpec, RegistryError, load_registry
from locus.snapshots import SnapshotError, current
from tasks.events import server_file
from tasks.rest import resting
from warehouse.errors import SqlError, WarehouseError
from warehouse.sql import query
from warehouse.store import Warehouse

if TYPE_CHECKING:
    from tasks.freshness import Night
    from tasks.settings import Settings

PATIENCE_S = 1.0
"""The longest wait for a Prefect server, per answer."""

DEPLOYMENT = "nightly/nightly"

_ANSWERED = """
SELECT model_id, revision, max(started_at) AS asked_at FROM evaluation_run
WHERE kind = 'lm-eval' AND n_ok > 0 GROUP BY model_id, revision ORDER BY asked_at
"""
_PLACED = """
SELECT e.model_id, e.scores_digest AS digest
FROM model_embedding AS e JOIN checkpoint AS c ON c.checkpoint_id = e.checkpoint_id
WHERE c.state = 'active'
"""
_SPENT = """
SELECT count(*) AS queries,
    CAST(coalesce(sum(coalesce(tokens_in, 0) + coalesce(tokens_out, 0)), 0) AS BIGINT) AS tokens,
    coalesce(sum(cost_usd), 0) AS usd,
    count(*) FILTER (WHERE cost_usd IS NULL) AS without_price
FROM (
    SELECT run_id, tokens_in, tokens_out, cost_usd FROM score
    UNION ALL SELECT run_id, tokens_in, tokens_out, cost_usd FROM canary
) JOIN evaluation_run USING (run_id)
WHERE kind IN ('lm-eval', 'canary')
    AND started_at BETWEEN TIMESTAMPTZ '{began}' AND TIMESTAMPTZ '{ended}'
"""


class _Reader(Protocol):
    """The working warehouse or the published copy, whichever may be read now."""

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a SELECT."""


@dataclass(frozen=True)
class _Copy:
    """The published copy."""

    settings: "Settings"

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        from warehouse.console import run_rows

        folder = current(self.settings.published).folder
        return run_rows(folder / "warehouse.duckdb", sql).values


@dataclass(frozen=True)
class _Model:
    """A model of the registry and the revision that it has now."""

    spec: ModelSpec
    revision: str


@contextmanager
def _reading(settings: "Settings", free: bool) -> Iterator[_Reader | None]:
    """What may be read now; None before there is anything.

    Args:
        settings: the pipeline's settings.
        free: whether no run holds the pipeline.
    """
    if free and settings.warehouse.is_file():
        try:
            warehouse = Warehouse.open(settings.warehouse, wait_s=0)
        except WarehouseError:  # somebody has it open: what is published is there for that
            pass
        else:
            with warehouse:
                yield warehouse
            return
    try:
        current(settings.published)
    except SnapshotError:
        yield None
    else:
        yield _Copy(settings)


def _digests(settings: "Settings", reader: _Reader, own: Warehouse | None) -> list[tuple[Any, ...]]:
    """Model and digest of its scores; from memory where they have not changed."""
    if own:
        from tasks.changed import DIGESTS, current_digests

        found = current_digests(own, settings.home / DIGESTS)
        return [(one.model_id, one.digest) for one in found]
    return reader.rows(f"SELECT model_id, digest FROM ({query('scores_digest')})")  # noqa: S608


def standing(
    settings: "Settings", night: "Night | None", now: datetime, *, free: bool
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """What is behind, and what a night took.

    Args:
        settings: the pipeline's settings.
        night: the last night; None if none is noted.
        now: the time it is (UTC).
        free: whether no run holds the pipeline, so that the working warehouse may be opened.

    Returns:
        ``source`` (warehouse, published copy, or None), ``models`` (``model_id``, ``revision``,
        ``why``, ``said``; one entry per model and reason), ``not_placed`` (models with scores that
        their embedding doesn't know), ``faults`` (what couldn't be looked at); and ``queries``,
        ``tokens``, ``usd``, ``without_price`` (queries whose cost is unknown) of the night, None if
        that isn't known.
    """
    stale: dict[str, Any] = {"source": None, "models": [], "not_placed": [], "faults": []}
    spent = None
    try:
        models = [_Model(s, s.resolved_revision()) for s in load_registry(settings.models_file)]
    except (RegistryError, OSError) as error:
        models = []
        stale["faults"].append(str(error))
    with _reading(settings, free) as reader:
        if reader is None:
            stale["models"] = _unevaluated(models, [])
            return stale, spent
        own = reader if isinstance(reader, Warehouse) else None
        stale["source"] = "warehouse" if own else "published copy"
        try:
            answered = [row[:2] for row in reader.rows(_ANSWERED)]
            stale["models"] = _unevaluated(models, answered)
            if own:
                stale["models"] += _resting(settings, own, models, now)
                stale["models"] += _drifted(own, models)
            placed = set(reader.rows(_PLACED))
            scores = _digests(settings, reader, own)
            stale["not_placed"] = sorted(model for model, d in scores if (model, d) not in placed)
            if night and night.began_at and night.ended_at:
                # Two times of ours, not anybody's text.
                window = {"began": night.began_at.isoformat(), "ended": night.ended_at.isoformat()}
                (took,) = reader.rows(_SPENT.format(**window))
                spent = dict(zip(("queries", "tokens", "usd", "without_price"), took, strict=True))
        except (SqlError, WarehouseError) as error:  # a copy of an older schema, a damaged file
            stale["faults"].append(f"the {stale['source']} can't be read: {error}")
    return stale, spent


def _unevaluated(
    models: Sequence[_Model], answered: Sequence[tuple[Any, ...]]
) -> list[dict[str, Any]]:
    """Models whose present revision has answered nothing; ``answered`` is the newest last."""
    newest = dict(answered)
    known = set(answered)
    found = []
    for one in models:
        id_, revision = one.spec.id, one.revision
        if (id_, revision) in known:
            continue
        before = newest.get(id_)
        if before is None:
            found.append(_stale(one, "unevaluated", "never evaluated"))
        else:
            said = f"behind: it is at revision {revision[:12]}, evaluated was {before[:12]}"
            found.append(_stale(one, "behind", said))
    return found


def _resting(
    settings: "Settings", warehouse: Warehouse, models: Sequence[_Model], now: datetime
) -> list[dict[str, Any]]:
    why = resting(settings, warehouse, models, now)
    return [_stale(m, "resting", why[m.spec.id]) for m in models if m.spec.id in why]


def _drifted(warehouse: Warehouse, models: Sequence[_Model]) -> list[dict[str, Any]]:
    """Models that answer their canaries otherwise than they did."""
    asked = set(warehouse.rows("SELECT DISTINCT model_id, revision FROM canary"))
    watched = {m.spec.id: m for m in models if (m.spec.id, m.revision) in asked}
    if not watched:
        return []
    # These two bring Prefect along, so only where there is something to look at.
    from tasks.canaries import check_drift
    from tasks.discover import Discovered

    found = check_drift(warehouse, [Discovered(m.spec, m.revision) for m in watched.values()])
    return [_stale(watched[one.model], "drifted", one.said) for one in found if one.drifted]


def _stale(model: _Model, why: str, said: str) -> dict[str, Any]:
    return {"model_id": model.spec.id, "revision": model.revision, "why": why, "said": said}


def next_night(settings: "Settings") -> dict[str, Any]:
    """When the next night is, as the Prefect server says, if one is known.

    Prefect isn't imported: it takes longer than all the rest. So of its configuration only the
    environment is read, not its profiles.

    Returns:
        ``server`` (address of its API; None if none is known), ``at`` (UTC; None if not known),
        ``said``.
    """
    url = os.environ.get("PREFECT_API_URL") or _served(settings)
    if not url:
        said = "not known: no Prefect server is known; `locus serve` starts one and runs the nights"
        return {"server": None, "at": None, "said": said}
    import httpx

    try:
        at, said = _ask(url.rstrip("/"))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        at, said = None, f"not known: the Prefect server at {url} doesn't answer ({error})"
    except (ValueError, KeyError, TypeError):
        at, said = None, f"not known: {url} doesn't answer as a Prefect server does"
    return {"server": url, "at": at, "said": said}


def _ask(url: str) -> tuple[datetime | None, str]:
    """When the next run of nightly is expected, and that in words."""
    import httpx

    key, pair = os.environ.get("PREFECT_API_KEY"), os.environ.get("PREFECT_API_AUTH_STRING")
    user, _, password = (pair or "").partition(":")
    with httpx.Client(
        timeout=PATIENCE_S,
        headers={"Authorization": f"Bearer {key}"} if key else {},
        auth=httpx.BasicAuth(user, password) if pair else None,
    ) as client:
        answer = client.get(f"{url}/deployments/name/{DEPLOYMENT}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None, f"not planned: {url} has no deployment {DEPLOYMENT} (start `locus serve`)"
        deployment = answer.raise_for_status().json()
        wanted = {
            "deployments": {"id": {"any_": [deployment["id"]]}},
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
            "sort": "EXPECTED_START_TIME_ASC",
            "limit": 1,
        }
        runs = client.post(f"{url}/flow_runs/filter", json=wanted).raise_for_status().json()
    if not runs:
        why = "its schedule is paused" if deployment["paused"] else "nothing is scheduled"
        return None, f"not planned: {why} at {url}; `locus serve` goes on with it"
    at = datetime.fromisoformat(runs[0]["expected_start_time"])
    late = runs[0]["state"]["name"] == "Late"
    said = f"{at:%Y-%m-%d %H:%M} UTC{' (LATE: nobody has taken it yet)' if late else ''}, by {url}"
    return at, said


def _served(settings: "Settings") -> str | None:
    """Address of the server that a running `locus serve` has started."""
    try:
        return str(json.loads(server_file(settings).read_text(encoding="utf-8"))["api_url"])
    except (OSError, ValueError, KeyError, TypeError):  # none runs, or it is being written
        return None
