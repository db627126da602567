"""What Prefect's server is asked about a work pool and the flow runs that are given to it."""

import logging
import threading
import time
from typing import Any
from uuid import UUID

log = logging.getLogger("locus.pipeline")

DEPLOYMENT = "evaluate-model/evaluate-model"
SUBMIT_WAITS_S = (2.0, 5.0, 15.0, 40.0)
_SUBMITTING = threading.Lock()


class PoolError(RuntimeError):
    """A work pool that can't be used; the message says what to do."""


def start_command(pool: str) -> str:
    """How a worker is started, in words."""
    return (
        "start one on any machine that has PREFECT_API_URL and the pipeline's storage: "
        f"prefect worker start --pool {pool}"
    )


def check_pool(pool: str) -> None:
    """Refuse a pool that workers can't be given work through.

    Raises:
        PoolError: no server is configured, it doesn't answer, or it has no such pool.
    """
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
    from prefect.settings import get_current_settings

    if not get_current_settings().api.url:
        raise PoolError(
            f"`[evaluation] pool` is {pool!r}, and no Prefect server is configured: set "
            "PREFECT_API_URL to one that the workers reach, or leave `pool` out"
        )
    try:
        with get_client(sync_client=True) as client:
            client.read_work_pool(pool)
    except ObjectNotFound as error:
        raise PoolError(
            f"there is no work pool {pool!r}: prefect work-pool create {pool} --type process"
        ) from error
    except (httpx.HTTPError, PrefectHTTPStatusError, RuntimeError) as error:
        raise PoolError(
            f"the Prefect server can't be asked for pool {pool!r}: {error}; start it, or correct "
            "PREFECT_API_URL"
        ) from error


def submit(address: str, name: str, key: str) -> UUID:
    """Give a job's address to the pool; tried again for a while if the server is too busy.

    Args:
        address: the job's.
        name: of the flow run.
        key: the same for the same job, which is given out once however often this is called.

    Raises:
        PoolError: the server refuses it, or can't be reached.
    """
    import httpx
    from prefect.deployments import run_deployment
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

    waits = iter(SUBMIT_WAITS_S)
    while True:
        try:
            # One at a time: a server on SQLite answers 503 to many at once.
            with _SUBMITTING:
                made: Any = run_deployment(
                    DEPLOYMENT,
                    parameters={"job": address},
                    flow_run_name=name,
                    timeout=0,
                    idempotency_key=key,
                    tags=["locus"],
                    as_subflow=False,
                )
        except (ObjectNotFound, httpx.HTTPError, PrefectHTTPStatusError, RuntimeError) as error:
            wait_s = next(waits, None)
            if wait_s is None or isinstance(error, ObjectNotFound):
                raise PoolError(f"it couldn't be given to the pool: {plain(str(error))}") from error
            log.info("%s can't be given to the pool yet: %s", name, plain(str(error)))
            time.sleep(wait_s)
        else:
            return UUID(str(made.id))


def state_of(flow_run: UUID) -> tuple[str, str] | None:
    """Type and message of a flow run's state; None if the server can't be asked."""
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(flow_run).state
    except ObjectNotFound:
        return "CANCELLED", "it was deleted"
    except (httpx.HTTPError, PrefectHTTPStatusError, RuntimeError) as error:
        log.warning("the Prefect server can't be asked: %s", plain(str(error)))
        return None
    return None if state is None else (state.type.value, state.message or "")


def close(flow_run: UUID, why: str) -> None:
    """Tell the server that nobody waits for a flow run any more, if it hasn't ended."""
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
    from prefect.states import Cancelled, Crashed

    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(flow_run).state
            if state is None or state.is_final():
                return
            # One that runs and lives says itself how it ended.
            if state.is_scheduled() or state.is_pending():
                client.set_flow_run_state(flow_run, Cancelled(message=why), force=True)
            elif "no sign of life" in why:
                client.set_flow_run_state(flow_run, Crashed(message=why), force=True)
    except ObjectNotFound:
        log.debug("flow run %s is gone", flow_run)
    except (httpx.HTTPError, PrefectHTTPStatusError, RuntimeError) as error:
        log.warning("flow run %s couldn't be closed: %s", flow_run, plain(str(error)))


def plain(text: str) -> str:
    """What a worker said, in one line without control characters."""
    return "".join(c if c.isprintable() else " " for c in text)[:500]
