"""What `locus serve` runs beside itself: the Prefect server, and the runner of the deployments."""

import json
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Any


def _end_with_parent() -> None:
    """End this process when its standard input ends, which its parent holds open."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def _server_main() -> None:
    import runpy

    sys.argv = ["prefect", "server", "start"]
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)


def _runner_main(ready: int, cron: str | None, timezone: str) -> None:
    """Register the deployments, say so on ``ready``, and run what is due until SIGTERM."""
    import asyncio

    from prefect.runner import Runner
    from prefect.settings import get_current_settings

    from flows.deployments import HEARTBEAT_S, deployments, silent_runs
    from flows.serve_runs import close_runs, register_automation

    made = deployments(cron, timezone)
    # As many at once as there are deployments: one of each may wait for the pipeline's lock.
    runner = Runner(name="locus", limit=len(made), query_seconds=5)
    ids = [str(runner.add_deployment(one)) for one in made]
    rows = [
        {"id": id_, "name": one.name, "when": _when(one)}
        for id_, one in zip(ids, made, strict=True)
    ]
    url = str(get_current_settings().api.url)
    close_runs(url, ids, "locus serve had ended")
    register_automation(url, silent_runs(max(HEARTBEAT_S, _heartbeat_s())))

    async def run() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(runner.start())
        await asyncio.sleep(0.1)
        # In place of Prefect's own handler, which leaves the loop by an exception.
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
        with os.fdopen(ready, "wb") as stream:
            stream.write(json.dumps(rows).encode() + b"\n")
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())


def _heartbeat_s() -> int:
    """Seconds between two signs of life of the runs that are started here; 0 if they give none."""
    from prefect.settings import get_current_settings

    return get_current_settings().flows.heartbeat_frequency or 0


def _when(deployment: Any) -> str:
    """When a deployment runs next, in words."""
    import asyncio

    from prefect.server.schemas.schedules import CronSchedule

    for one in deployment.schedules or ():
        schedule = CronSchedule(cron=one.schedule.cron, timezone=one.schedule.timezone)
        [following] = asyncio.run(schedule.get_dates(1))
        return f"{one.schedule.cron} {one.schedule.timezone}, next {following:%Y-%m-%d %H:%M %Z}"
    if deployment.triggers:
        return "when a model is announced, or by hand"
    return "by hand"


def main(arguments: list[str]) -> None:
    """What the server and the runner are started by."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m flows.serve_child")
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("server")
    run = kinds.add_parser("run")
    run.add_argument("--ready", type=int, required=True)
    run.add_argument("--cron")
    run.add_argument("--timezone", default="UTC")
    given = parser.parse_args(arguments)
    _end_with_parent()
    if given.kind == "server":
        _server_main()
    else:
        _runner_main(given.ready, given.cron, given.timezone)


if __name__ == "__main__":
    main(sys.argv[1:])
