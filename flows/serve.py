"""`locus serve`: a Prefect server if there is none, the deployments and their runs, one machine.

This process watches over two others: the server (unless one is configured) and the runner, which
registers the deployments and starts a process per run. Each has a session of its own, so that
Ctrl-C reaches this process alone, which ends them in order: runs, runner, server. Each also ends by
itself when this process is gone, however it went. What they print goes to log files; the terminal
shows where things are and how runs end.
"""

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from flows.serve_database import VARIABLE, configured, without_database
from flows.serve_process import Child, ServeError, only_one, stop_signal
from flows.serve_runs import Runs, close_runs, healthy
from locus.durable import whole_file
from tasks.events import server_file
from tasks.settings import FILE_VARIABLE, Settings, load_settings, settings_file

log = logging.getLogger("locus.serve")

PORT = 4200
HOST = "127.0.0.1"
START_S = 180.0
TICK_S = 0.5
LOOK_S = 2.0
_LOCAL = {"127.0.0.1", "localhost", "::1"}


def serve_all(port: int | None = None, cron: str | None = None, timezone: str = "UTC") -> None:
    """Serve all deployments until SIGINT or SIGTERM.

    Args:
        port: of a server started here; None takes 4200, or any free one if that is taken.
        cron: when nightly runs, instead of 02:00.
        timezone: of all schedules.

    Raises:
        ScheduleError: cron or timezone can't be read.
        ServeError: another `locus serve` runs for this home, the port is taken, a configured
            server doesn't answer, or a process ended that must not.
        SettingsError: faulty settings.
    """
    from flows.deployments import NIGHTLY_CRON, check_schedule

    settings = load_settings()
    check_schedule(cron or NIGHTLY_CRON, timezone)
    (settings.home / "logs").mkdir(parents=True, exist_ok=True)
    with only_one(settings), stop_signal() as stop:
        server, runner = None, None
        url, served = _running_server(), []
        environment = _environment(settings)
        try:
            if url is None:
                url = f"http://{HOST}:{_port(port)}/api"
                environment |= _own_server(settings, url)
                server = _start_server(settings, url, environment, stop)
            else:
                log.info("using the Prefect server at %s", url)
                environment["PREFECT_API_URL"] = url
            if not stop.is_set():
                runner = _start_runner(settings, without_database(environment), cron, timezone)
                served = _served(runner, server, stop)
                _welcome(settings, url, served, server)
                _watch_over(url, served, server, runner, stop)
        finally:
            _end(settings, url, served, runner, server)


def _end(
    settings: Settings,
    url: str | None,
    served: list[dict[str, Any]],
    runner: "Runner | None",
    server: Child | None,
) -> None:
    """End everything in order: no run is left without a server to report to."""
    if runner is None and server is None:
        return
    log.info("stopping: runs first, then the rest")
    if runner is not None:
        runner.child.stop()
    if url and served and (server is None or server.process.poll() is None):
        _tell_the_server(url, served)
    if server is not None:
        server_file(settings).unlink(missing_ok=True)
        server.stop()
    log.info("stopped")


def _tell_the_server(url: str, served: list[dict[str, Any]]) -> None:
    import httpx
    from prefect.exceptions import PrefectHTTPStatusError

    try:
        n = close_runs(url, [one["id"] for one in served], "locus serve was stopped")
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        log.warning("the server couldn't be told which runs have ended: %s", error)
        return
    if n:
        log.info("%d runs were cut short: what they finished is kept, the next run goes on", n)


# --- the server ----------------------------------------------------------------------------------


def _running_server() -> str | None:
    """Address of the configured server; None if one is to be started here.

    Raises:
        ServeError: one is configured on another machine and doesn't answer.
    """
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    if not url or healthy(url):
        return url or None
    if urlsplit(url).hostname in _LOCAL:
        log.info("no server answers at PREFECT_API_URL=%s: starting one here", url)
        return None
    raise ServeError(
        f"PREFECT_API_URL={url} doesn't answer: start that server, or unset PREFECT_API_URL and "
        "`locus serve` starts one on this machine"
    )


def _port(wanted: int | None) -> int:
    """A free port: the wanted one, that of PREFECT_API_URL, 4200, or any.

    Raises:
        ServeError: the wanted one is taken.
    """
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    fixed = wanted or (urlsplit(url).port if url else None)
    for port in (fixed,) if fixed else (PORT, 0):
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((HOST, port))
            except OSError:
                continue
            return int(trial.getsockname()[1])
    raise ServeError(f"port {fixed} is taken: choose another with --port")


def _environment(settings: Settings) -> dict[str, str]:
    """The environment of both processes: the settings' file by its whole path, logs in full."""
    environment = dict(os.environ)
    # It keeps the terminal quiet; the log files are to have everything.
    environment.pop("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", None)
    if settings_file().exists():
        environment[FILE_VARIABLE] = str(settings_file().resolve())
    return {
        **environment,
        "LOCUS_HOME": str(settings.home.resolve()),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
    }


def _own_server(settings: Settings, url: str) -> dict[str, str]:
    """What the processes need to know of a server that is started here."""
    database = configured()
    if database is not None:
        log.info("the server's database: %s", database[1])
    return {
        # By name: the server's home, where a profile could name it, may be another than ours.
        **({VARIABLE: database[0]} if database else {}),
        "PREFECT_HOME": os.environ.get("PREFECT_HOME") or str(settings.home.resolve() / "prefect"),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(urlsplit(url).port),
    }


def _start_server(
    settings: Settings, url: str, environment: Mapping[str, str], stop: threading.Event
) -> Child:
    """Start a server and wait until it answers."""
    log_file = settings.home / "logs" / "prefect-server.log"
    log.info("starting a Prefect server at %s (log: %s)", url, log_file)
    server = Child.start("Prefect server", ["server"], environment, log_file)
    began = said = time.monotonic()
    try:
        while not stop.is_set() and not healthy(url):
            server.must_live()
            now = time.monotonic()
            if now - began > START_S:
                raise ServeError(
                    f"the Prefect server didn't answer within {START_S:.0f} s: look at {log_file}, "
                    "then start `locus serve` again"
                )
            if now - said > 5:
                log.info("the server is starting (%.0f s)", now - began)
                said = now
            stop.wait(TICK_S)
    except BaseException:
        server.stop()
        raise
    if not stop.is_set():
        with whole_file(server_file(settings)) as stream:
            stream.write(json.dumps({"api_url": url, "pid": os.getpid()}).encode())
    return server


# --- the runner ----------------------------------------------------------------------------------


class Runner:
    """The runner, and the pipe on which it says what it serves."""

    def __init__(self, child: Child, ready: int) -> None:
        self.child = child
        self._ready = os.fdopen(ready, "rb")
        os.set_blocking(ready, False)
        self._said = b""

    def served(self) -> list[dict[str, Any]] | None:
        """What is registered; None while it isn't done."""
        self._said += self._ready.read() or b""
        if not self._said.endswith(b"\n"):
            return None
        self._ready.close()
        found: list[dict[str, Any]] = json.loads(self._said)
        return found


def _start_runner(
    settings: Settings, environment: Mapping[str, str], cron: str | None, timezone: str
) -> Runner:
    ours, theirs = os.pipe()
    options = ["--ready", str(theirs), "--timezone", timezone, *(["--cron", cron] if cron else [])]
    log_file = settings.home / "logs" / "runs.log"
    try:
        child = Child.start("runner", ["run", *options], environment, log_file, (theirs,))
    finally:
        os.close(theirs)
    return Runner(child, ours)


def _served(runner: Runner, server: Child | None, stop: threading.Event) -> list[dict[str, Any]]:
    """Wait until the deployments are registered; nothing if stopped before."""
    while not stop.is_set():
        runner.child.must_live()
        if server is not None:
            server.must_live()
        served = runner.served()
        if served is not None:
            return served
        stop.wait(TICK_S)
    return []


def _welcome(
    settings: Settings, url: str, served: list[dict[str, Any]], server: Child | None
) -> None:
    from prefect.settings import get_current_settings

    if not served:
        return
    ui = None if server else get_current_settings().ui_url
    log.info("ready; logs of runs: %s", settings.home / "logs" / "runs.log")
    log.info("user interface: %s", ui or url.removesuffix("/api"))
    for one in served:
        log.info("  %-10s %s", one["name"], one["when"])
    log.info("to run one by hand:")
    log.info("  export PREFECT_API_URL=%s", url)
    log.info("  prefect deployment run 'add-model/add-model' -p model_id=ORG/NAME")
    log.info("Ctrl-C stops everything")


def _watch_over(
    url: str,
    served: list[dict[str, Any]],
    server: Child | None,
    runner: Runner,
    stop: threading.Event,
) -> None:
    """Tell how runs go until stopped.

    Raises:
        ServeError: a process of ours has ended.
    """
    runs = Runs(url, [one["id"] for one in served])
    looked = 0.0
    while not stop.is_set():
        for child in (server, runner.child):
            if child is not None:
                child.must_live()
        if time.monotonic() - looked > LOOK_S:
            runs.look()
            looked = time.monotonic()
        stop.wait(TICK_S)
