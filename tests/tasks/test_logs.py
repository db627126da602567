"""The log of runs for programs: whole lines, the right ids, nobody's secrets."""

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tasks.hidden import HIDDEN
from tasks.logs import KEEP_DAYS, LOGGERS, LONGEST, keep_log, log_ids
from tasks.settings import Settings

HOSTILE = 'a"\n{"level": "FORGED"}\u202e\x1b[31m\udc80'
SECRET = "sk-not-for-anybody"

WRITER = """\
import logging, sys
from pathlib import Path
from tasks.logs import keep_log, log_ids
from tasks.settings import Settings
keep_log(Settings(home=Path(sys.argv[1])))
for i in range(300):
    with log_ids(run_id=sys.argv[2]):
        logging.getLogger("locus.pipeline").info("%d %s", i, "x" * 500)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    before = {name: logging.getLogger(name).level for name in LOGGERS}
    yield Settings(home=tmp_path / "home")
    for name, level in before.items():
        logger = logging.getLogger(name)
        logger.setLevel(level)
        for handler in [h for h in logger.handlers if type(h).__module__ == "tasks.logs"]:
            logger.removeHandler(handler)
            handler.close()


def lines(settings: Settings) -> list[dict[str, Any]]:
    [file] = (settings.home / "logs").glob("pipeline-*.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_each_record_has_the_ids_of_its_own_thread(settings: Settings) -> None:
    log = logging.getLogger("locus.pipeline")
    keep_log(settings)
    keep_log(settings)
    both = threading.Barrier(2)

    def evaluate(model: str) -> None:
        with log_ids(run_id=f"run-{model}", model_id=model, revision="r1"):
            both.wait()
            log.info("asking %s", model)
            with log_ids(step="record", revision=None):
                both.wait()
                log.warning("recording %s", model)

    with log_ids(step="evaluate"), ThreadPoolExecutor(2) as threads:
        for one in [threads.submit(copy_context().run, evaluate, m) for m in ("a", "b")]:
            one.result()
    logging.getLogger("warehouse.store").info("after")
    logging.getLogger("somebody.else").warning("not ours")

    found = lines(settings)
    assert len(found) == 5
    for row in found[:4]:
        model = row["message"][-1]
        assert (row["run_id"], row["model_id"]) == (f"run-{model}", model)
        asking = row["message"].startswith("asking")
        assert row["step"] == ("evaluate" if asking else "record")
        assert row.get("revision") == ("r1" if asking else None)
        assert row["level"] == ("INFO" if asking else "WARNING")
    last = found[4]
    assert last.keys() == {"logged_at", "level", "logger", "message", "host", "pid"}
    assert (last["logger"], last["message"]) == ("warehouse.store", "after")
    logged_at = datetime.fromisoformat(last["logged_at"])
    assert logged_at.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - logged_at) < timedelta(minutes=5)


def test_hostile_text_stays_in_its_line_and_secrets_stay_out(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    monkeypatch.setenv("SHORT_TOKEN", "true")
    keep_log(settings)
    log = logging.getLogger("locus.pipeline")
    with log_ids(model_id=HOSTILE):
        log.info("%s true %s", HOSTILE, "y" * 2 * LONGEST)
    try:
        raise ValueError(f"401 for {SECRET} at https://me:{SECRET}@example.com/v1")
    except ValueError:
        log.exception("key %s was refused", SECRET)
    hostile, refused = lines(settings)
    assert hostile["model_id"] == HOSTILE
    assert hostile["level"] == "INFO"
    assert hostile["message"].startswith(HOSTILE + " true yyy")
    assert len(hostile["message"]) == LONGEST
    assert refused["message"] == f"key {HIDDEN} was refused"
    assert f"https://{HIDDEN}@example.com" in refused["traceback"]
    [file] = (settings.home / "logs").iterdir()
    assert SECRET not in file.read_text()


def test_processes_write_whole_lines_and_old_days_are_removed(settings: Settings) -> None:
    folder = settings.home / "logs"
    folder.mkdir(parents=True)
    today = datetime.now(UTC).date()
    kept, old = (today - timedelta(days=KEEP_DAYS + more) for more in (0, 1))
    for day in (kept, old):
        (folder / f"pipeline-{day}.jsonl").write_text("{}\n")
    (folder / "runs.log").write_text("another's\n")
    command = [sys.executable, "-c", WRITER, str(settings.home)]
    both = [subprocess.Popen([*command, name]) for name in ("one", "two")]
    assert [one.wait(120) for one in both] == [0, 0]
    names = {f"pipeline-{kept}.jsonl", f"pipeline-{today}.jsonl", "runs.log"}
    # A run that crosses midnight has a file more.
    assert names <= {f.name for f in folder.iterdir()}
    assert not (folder / f"pipeline-{old}.jsonl").exists()
    # As docs/orchestration.md says, without an extension that isn't there.
    no_extensions = {"autoload_known_extensions": False, "autoinstall_known_extensions": False}
    with duckdb.connect(config=no_extensions) as con:  # type: ignore[arg-type]
        counts = con.sql(
            "SELECT run_id, count(*) FROM read_json($files, format = 'newline_delimited', "
            "union_by_name = true) WHERE level = 'INFO' GROUP BY run_id ORDER BY run_id",
            params={"files": str(folder / "pipeline-*.jsonl")},
        ).fetchall()
    assert counts == [("one", 300), ("two", 300)]


def test_another_home_takes_over(settings: Settings, tmp_path: Path) -> None:
    keep_log(settings)
    other = Settings(home=tmp_path / "other")
    keep_log(other)
    logging.getLogger("locus.pipeline").info("here")
    assert not (settings.home / "logs").exists()
    assert [row["message"] for row in lines(other)] == ["here"]
