"""`locus serve` with its Prefect server's runs in a real PostgreSQL."""

import signal
from pathlib import Path

import psutil
import pytest
from conftest import SETTINGS, Pipeline, environment
from postgres import throw_away_postgres
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, temporary_settings
from test_serve import serving, wait_for
from tiny import write_tasks

from flows.serve_database import VARIABLE, configured
from flows.serve_process import ServeError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_runs_are_kept_in_postgresql(tmp_path: Path) -> None:
    (tmp_path / "locus.toml").write_text(SETTINGS)
    write_tasks(tmp_path / "tasks")
    with throw_away_postgres() as database:
        variables = {**environment(tmp_path), VARIABLE: database.url}
        del variables["PREFECT_API_URL"], variables["PREFECT_HOME"]
        pipeline = Pipeline(tmp_path, variables)
        pipeline.register()
        with serving(pipeline) as served:
            served.until("Ctrl-C stops everything")
            kept = {row["name"] for row in database.rows("SELECT name FROM deployment")}
            assert {"nightly", "add-model", "freshness"} <= kept

            which = {"name": {"any_": ["freshness"]}}
            [deployment] = served.ask("/deployments/filter", deployments=which)
            asked = served.ask(f"/deployments/{deployment['id']}/create_flow_run")
            ends = ("COMPLETED", "FAILED", "CRASHED")
            wait_for(
                lambda: asked["id"] in {run["id"] for run in served.runs("freshness", *ends)},
                "freshness to end",
            )
            # Without a night yet nothing is stale.
            kept_runs = database.rows("SELECT id, state_type FROM flow_run")
            assert {str(row["id"]): row["state_type"] for row in kept_runs}[asked["id"]] == (
                "COMPLETED"
            )

            # The password is for the server alone.
            family = served.family()
            told = [one for one in family if VARIABLE in one.environ()]
            assert {one.cmdline()[-1] for one in told} == {"server"}
            assert [one for one in family if "run" in one.cmdline()]
            served.process.send_signal(signal.SIGINT)
            assert served.process.wait(60) == 0
            assert psutil.wait_procs(family, timeout=5)[1] == []
    assert "the server's database: postgresql+asyncpg://locus:***@127.0.0.1" in served.said
    assert not list(tmp_path.rglob("prefect.db"))
    logs = [tmp_path / "serve.out", *(tmp_path / "state" / "logs").iterdir()]
    assert {"serve.out", "prefect-server.log", "runs.log"} <= {log.name for log in logs}
    for log in logs:
        assert database.password not in log.read_text(), log
        assert database.escaped not in log.read_text(), log


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://locus:hidden@127.0.0.1/prefect", "can't use the driver 'postgresql'"),
        ("127.0.0.1 hidden", "can't be read as a database's URL"),
    ],
)
def test_what_prefect_can_not_use_is_said_without_the_password(url: str, says: str) -> None:
    with (
        temporary_settings({PREFECT_API_DATABASE_CONNECTION_URL: url}),
        pytest.raises(ServeError, match=says) as refused,
    ):
        configured()
    assert "hidden" not in str(refused.value)
    assert refused.value.__cause__ is None
