"""Rescoring a real warehouse: real answers, real tasks whose metric changes, real worker."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from tiny import DOCS, TASKS, write_model, write_tasks

from flows.cli.rescore import _finish
from locus.evaluation.launch import evaluate
from locus.evaluation.parts import write_part
from locus.evaluation.request import EvaluationRequest
from tasks.discover import sync_catalogue
from tasks.heal import heal_interrupted
from tasks.record import record_parts
from tasks.rescore import Rescored, RescoreRefusedError, rescore_answers
from tasks.settings import Settings, TaskSettings
from warehouse import contracts
from warehouse.store import Warehouse

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NORM = TASKS["tiny_choice"].replace(
    "  - metric: acc\n",
    "  - metric: acc_norm\n    aggregation: mean\n    higher_is_better: true\n  - metric: acc\n",
)
# The same answers through two filters; asked by the first, scored anew by the second.
COPY = TASKS["tiny_copy"].replace(
    "metadata:",
    """\
filter_list:
  - name: strict
    filter: [{function: take_first}]
  - name: flexible
    filter:
      - {function: regex, regex_pattern: "([0-9]+)", group_select: 0}
      - {function: take_first}
metadata:""",
)
MEASURED = ("latency_ms", "tokens_in", "tokens_out", "cost_usd")
BY_FLEXIBLE = {"tiny_copy": TaskSettings(metric="exact_match,flexible")}


def settings_of(folder: Path, **more: object) -> Settings:
    given = {"tasks": ["tiny_choice", "tiny_copy"], "task_folders": [folder / "tasks"]} | more
    return Settings(home=folder / "state", **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two tasks and a warehouse in which two models answered both.

    One really did, through a worker. The other's words are ones of which filters make something.
    """
    folder = tmp_path_factory.mktemp("asked")
    write_tasks(folder / "tasks")
    (folder / "tasks" / "tiny_copy.yaml").write_text(COPY)
    settings = settings_of(folder)
    settings.home.mkdir()
    sync_catalogue.fn(settings)
    with Warehouse.open(settings.warehouse) as w:
        models = [{"model_id": m, "source": "registry"} for m in ("org/real", "org/wordy")]
        w.catalogue.add_models(contracts.build(contracts.ModelFrame, models))
        bank = w.catalogue.queries().sort("query_id")
    request = EvaluationRequest(
        run_id="real-run",
        model_id="org/real",
        revision="r1",
        backend="hf",
        args={"pretrained": str(write_model(folder / "model", 3))},
        queries={
            str(name): rows["query_id"].to_list()[:30] for (name,), rows in bank.group_by("task")
        },
        parts=str(folder / "parts"),
        task_folders=[str(f) for f in settings.task_folders],
        device="cpu",
    )
    parts = evaluate(request, folder / "work", 240)
    now = pl.read_parquet(parts)["scored_at"].max()
    words = [
        {
            "model_id": "org/wordy", "revision": "w1", "query_id": row["query_id"], "status": "ok",
            "score": float(i % 2), "metric": "exact_match", "filter": "strict",
            "response": row["target"] if i % 2 else f"it is {row['target']}.", "latency_ms": 4.0,
            "tokens_in": 5, "tokens_out": 6, "cost_usd": 0.5, "doc_hash": f"d{i}",
            "prompt_hash": f"p{i}", "scored_at": now,
        }
        for i, row in enumerate(bank.filter(task="tiny_copy").head(20).to_dicts())
    ]  # fmt: skip
    # One answer is a failure; it is nothing to score.
    words[0] |= {"status": "error", "score": None, "response": None}
    write_part(words, folder / "wordy.parquet")
    with Warehouse.open(settings.warehouse) as w:
        for run_id, model, revision, files in (
            ("real-run", "org/real", "r1", parts),
            ("wordy-run", "org/wordy", "w1", [folder / "wordy.parquet"]),
        ):
            w.scores.start_run(run_id, "lm-eval", model, revision, {}, {}, None, 60)
            assert record_parts(w, run_id, files)[1] is None
            w.scores.finish_run(run_id, "finished")
    return folder


@pytest.fixture
def folder(asked: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(asked / "state", tmp_path / "state")
    shutil.copytree(asked / "tasks", tmp_path / "tasks")
    return tmp_path


def table(settings: Settings, sql: str) -> pl.DataFrame:
    with Warehouse.open(settings.warehouse) as w:
        return w.read(sql)


def current(settings: Settings, task: str) -> pl.DataFrame:
    return table(
        settings,
        "SELECT l.*, q.task FROM latest_score AS l JOIN query AS q USING (query_id) "
        "WHERE l.status = 'ok' ORDER BY model_id, query_id",
    ).filter(task=task)


def means(outcome: Rescored) -> dict[str, tuple[object, ...]]:
    return {
        o.task: (o.metric, o.was, o.n_answers, o.n_models, o.before, o.after) for o in outcome.tasks
    }


def test_a_new_first_metric_and_a_new_filter(folder: Path) -> None:
    """Both ways to say it: the task's own list, and the settings. Everything that follows."""
    (folder / "tasks" / "tiny_choice.yaml").write_text(NORM)
    settings = settings_of(folder, task_settings=BY_FLEXIBLE)
    old = table(settings, "FROM score ORDER BY ALL")
    runs = table(settings, "FROM evaluation_run ORDER BY run_id")
    cost = table(settings, "FROM cost_by_model ORDER BY ALL")
    before = {t: current(settings, t) for t in ("tiny_choice", "tiny_copy")}

    would = rescore_answers.fn(settings, dry_run=True)
    assert table(settings, "FROM score ORDER BY ALL").equals(old)
    assert table(settings, "FROM evaluation_run ORDER BY run_id").equals(runs)
    assert "dry run: would score 79 answers of 2 tasks anew" in would.headline()

    outcome = rescore_answers.fn(settings)
    assert means(outcome) == means(would)
    assert outcome.refused == {}
    assert outcome.headline() == "scored 79 answers of 2 tasks anew; no model is asked"
    for name, metric, was, n, n_models in (
        ("tiny_choice", "acc_norm,none", "acc,none", 30, 1),
        ("tiny_copy", "exact_match,flexible", "exact_match,strict", 49, 2),
    ):
        now = current(settings, name)
        assert (
            now.select(pl.format("{},{}", "metric", "filter"))["metric"].unique().item() == metric
        )
        same = ["model_id", "revision", "query_id", "response", "doc_hash", "prompt_hash"]
        assert now.select(same).equals(before[name].select(same))
        assert now.select(MEASURED).null_count().row(0) == (n,) * len(MEASURED)
        assert means(outcome)[name] == (
            metric, [was], n, n_models, pytest.approx(before[name]["score"].mean()),
            pytest.approx(now["score"].mean()),
        )  # fmt: skip
    # By the documents: the wordy one says the number, in a sentence or alone.
    copied = current(settings, "tiny_copy").filter(model_id="org/wordy")
    assert copied["score"].to_list() == [1.0] * 19
    assert before["tiny_copy"].filter(model_id="org/wordy")["score"].mean() < 1  # type: ignore[operator]

    # What was there is there as it was, and nobody pays twice.
    rows = table(settings, "FROM score ORDER BY ALL")
    assert rows.filter(pl.col("run_id").is_in(["real-run", "wordy-run"])).equals(old)
    assert rows.height == old.height + 79
    assert table(settings, "FROM cost_by_model ORDER BY ALL").equals(cost)
    new = table(
        settings,
        "SELECT model_id, revision, status, n_planned, n_ok, settings ->> '$.task' AS task, "
        "settings ->> '$.metric' AS metric, settings ->> '$.asked_by[0]' AS asked_by, "
        "versions ->> '$.lm_eval' AS lm_eval FROM evaluation_run WHERE kind = 'rescore' "
        "ORDER BY ALL",
    )
    assert new.drop("lm_eval").rows() == [
        ("org/real", "r1", "finished", 30, 30, "tiny_choice", "acc_norm,none", "real-run"),
        ("org/real", "r1", "finished", 30, 30, "tiny_copy", "exact_match,flexible", "real-run"),
        ("org/wordy", "w1", "finished", 19, 19, "tiny_copy", "exact_match,flexible", "wordy-run"),
    ]
    assert new["lm_eval"].null_count() == 0
    assert list((settings.home / "rescore").rglob("*.parquet")) == []

    again = rescore_answers.fn(settings)
    assert again.headline() == (
        "nothing to score anew: what is stored of 2 tasks is scored by the metric that is "
        "configured"
    )
    assert table(settings, "FROM score ORDER BY ALL").equals(rows)


def test_there_and_back_again(folder: Path) -> None:
    """The old metric gives the old scores bit by bit, and the lineage still leads to who asked."""
    settings = settings_of(folder)
    before = current(settings, "tiny_choice")
    yaml = folder / "tasks" / "tiny_choice.yaml"
    for text in (NORM, TASKS["tiny_choice"]):
        yaml.write_text(text)
        rescore_answers.fn(settings, ["tiny_choice"])
    after = current(settings, "tiny_choice")
    same = ["model_id", "query_id", "score", "metric", "filter", "response", "target_hash"]
    assert after.select(same).equals(before.select(same))
    assert (after["run_id"] != before["run_id"]).all()
    sql = "SELECT settings ->> '$.asked_by' AS asked FROM evaluation_run WHERE kind = 'rescore'"
    assert table(settings, sql)["asked"].to_list() == ['["real-run"]'] * 2


def test_only_the_named_models_and_tasks(folder: Path) -> None:
    (folder / "tasks" / "tiny_choice.yaml").write_text(NORM)
    settings = settings_of(folder, task_settings=BY_FLEXIBLE)
    outcome = rescore_answers.fn(settings, ["tiny_copy"], ["org/wordy"])
    assert [(o.task, o.n_answers, o.n_models) for o in outcome.tasks] == [("tiny_copy", 19, 1)]
    assert set(current(settings, "tiny_choice")["metric"]) == {"acc"}
    by_model = dict(current(settings, "tiny_copy").select("model_id", "filter").iter_rows())
    assert by_model == {"org/real": "strict", "org/wordy": "flexible"}


def test_a_metric_that_is_no_score_leaves_the_task_alone(folder: Path) -> None:
    """Refused by name; the other task is scored, and the shell sees a failure."""
    (folder / "tasks" / "tiny_choice.yaml").write_text(NORM)
    text = COPY.replace("metric_list:", "process_results: !function tiny_docs.long\nmetric_list:")
    (folder / "tasks" / "tiny_copy.yaml").write_text(text)
    docs = DOCS + "\n\ndef long(doc, results):\n    return {'exact_match': len(results[0])}\n"
    (folder / "tasks" / "tiny_docs.py").write_text(docs)
    settings = settings_of(folder, task_settings=BY_FLEXIBLE)
    old = current(settings, "tiny_copy")
    outcome = rescore_answers.fn(settings)
    assert list(outcome.refused) == ["tiny_copy"]
    assert re.search(r"metric 'exact_match' gave \d+\.0", outcome.refused["tiny_copy"])
    assert [(o.task, o.n_answers) for o in outcome.tasks] == [("tiny_choice", 30)]
    assert current(settings, "tiny_copy").equals(old)


def test_what_the_task_no_longer_asks_is_left(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    docs = DOCS.replace('f"Copy the number {i}"', 'f"Copy the number {i}" if i < 36 else "Copy"')
    (folder / "tasks" / "tiny_docs.py").write_text(docs)
    settings = settings_of(folder, task_settings=BY_FLEXIBLE)
    gone = set(table(settings, "SELECT query_id FROM query WHERE regexp_matches(text, 'r 3[6-9]')")
               ["query_id"])  # fmt: skip
    old = current(settings, "tiny_copy")
    kept = old.filter(pl.col("query_id").is_in(gone))
    assert kept.height > 0
    outcome = rescore_answers.fn(settings)
    (copied,) = outcome.tasks
    (left,) = copied.left
    assert (left.why, left.n) == ("the installed task has no such query", kept.height)
    assert copied.n_answers == 49 - kept.height
    now = current(settings, "tiny_copy")
    assert now.filter(pl.col("query_id").is_in(gone)).equals(kept)
    # And it is said again, without anything being done.
    again = rescore_answers.fn(settings)
    assert again.headline() == "nothing was scored anew, of 2 tasks"
    assert current(settings, "tiny_copy").equals(now)
    _finish(again)
    assert f"tiny_copy: {kept.height} answers keep their score" in capsys.readouterr().out


def test_a_task_that_asks_more_than_once_is_left(folder: Path) -> None:
    text = COPY.replace("metadata:", "repeats: 2\nmetadata:")
    (folder / "tasks" / "tiny_copy.yaml").write_text(text)
    settings = settings_of(folder, task_settings=BY_FLEXIBLE)
    (copied,) = rescore_answers.fn(settings).tasks
    assert [(o.n, "asks 2 times" in o.why) for o in copied.left] == [(49, True)]
    assert copied.n_answers == 0


def test_imported_answers_are_left_alone(folder: Path) -> None:
    settings = settings_of(folder, task_settings=BY_FLEXIBLE)
    with Warehouse.open(settings.warehouse) as w:
        models = [{"model_id": "org/else", "source": "import"}]
        w.catalogue.add_models(contracts.build(contracts.ModelFrame, models))
        rows = w.read("FROM score WHERE run_id = 'wordy-run' AND status = 'ok'").drop("run_id")
        part = folder / "import.parquet"
        write_part(rows.with_columns(model_id=pl.lit("org/else")).to_dicts(), part)
        w.scores.start_run("import-run", "import-lm-eval", None, None, {}, {}, None, None)
        w.scores.merge_part(part, "import-run")
        w.scores.finish_run("import-run", "finished")
    (copied,) = rescore_answers.fn(settings).tasks
    assert (copied.n_answers, copied.n_models) == (49, 2)
    mine = current(settings, "tiny_copy").filter(model_id="org/else")
    assert set(mine["filter"]) == {"strict"}


@pytest.mark.parametrize(
    ("more", "names", "says"),
    [
        ({}, (["tiny_cpoy"], None), "task 'tiny_cpoy' is not among the configured ones"),
        ({}, (None, ["org/reel"]), "model 'org/reel' has no answers"),
        ({"tasks": []}, (None, None), "no tasks are configured"),
    ],
)
def test_what_can_t_be_done_is_one_line(
    folder: Path, more: dict[str, object], names: tuple[list[str], list[str]], says: str
) -> None:
    with pytest.raises(RescoreRefusedError, match=says) as refusal:
        rescore_answers.fn(settings_of(folder, **more), *names)
    assert "\n" not in str(refusal.value)


def test_no_warehouse(tmp_path: Path) -> None:
    with pytest.raises(RescoreRefusedError, match="there is no warehouse"):
        rescore_answers.fn(settings_of(tmp_path))
    assert not (tmp_path / "state").exists()


SLOW = """

def slow(doc, results):
    if Path(__file__).with_name("slow").exists():
        time.sleep(600)
    if Path(__file__).with_name("deadly").exists():
        os.kill(os.getpid(), 9)
    return {"exact_match": float(results[0] == doc["answer"])}
"""


def test_killed_in_the_middle(folder: Path) -> None:
    """One task is filed, the other is being scored; SIGKILL. The next run does the rest."""
    (folder / "tasks" / "tiny_choice.yaml").write_text(NORM)
    text = COPY.replace("metric_list:", "process_results: !function tiny_docs.slow\nmetric_list:")
    (folder / "tasks" / "tiny_copy.yaml").write_text(text)
    docs = "import os, time\nfrom pathlib import Path\n" + DOCS + SLOW
    (folder / "tasks" / "tiny_docs.py").write_text(docs)
    (folder / "tasks" / "slow").touch()
    settings = settings_of(folder, task_settings=BY_FLEXIBLE)
    old = current(settings, "tiny_copy")
    script = f"""
import logging, sys
from pathlib import Path
from tasks.rescore import rescore_answers
from tasks.settings import Settings
logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s", force=True)
rescore_answers.fn(Settings.model_validate_json({settings.model_dump_json()!r}))
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as pipeline:
        assert pipeline.stdout is not None
        for line in pipeline.stdout:
            if line.startswith("rescore: tiny_choice: 30 answers"):
                pipeline.send_signal(signal.SIGKILL)
        assert pipeline.wait() == -signal.SIGKILL
    assert set(current(settings, "tiny_choice")["metric"]) == {"acc_norm"}
    assert current(settings, "tiny_copy").equals(old)
    with Warehouse.open(settings.warehouse) as w:
        assert w.scores.open_runs() == []
    assert heal_interrupted.fn(settings) == 0

    (folder / "tasks" / "slow").unlink()
    outcome = rescore_answers.fn(settings)
    assert [(o.task, o.n_answers) for o in outcome.tasks] == [("tiny_copy", 49)]
    rows = table(settings, "SELECT count(*) AS n FROM score")
    assert rows.item() == 79 + 80


def test_a_worker_that_dies_is_told(folder: Path) -> None:
    """What it finished before counts."""
    (folder / "tasks" / "tiny_choice.yaml").write_text(NORM)
    text = COPY.replace("metric_list:", "process_results: !function tiny_docs.slow\nmetric_list:")
    (folder / "tasks" / "tiny_copy.yaml").write_text(text)
    docs = "import os, time\nfrom pathlib import Path\n" + DOCS + SLOW
    (folder / "tasks" / "tiny_docs.py").write_text(docs)
    (folder / "tasks" / "deadly").touch()
    settings = settings_of(folder, task_settings=BY_FLEXIBLE)
    outcome = rescore_answers.fn(settings)
    assert [(o.task, o.n_answers) for o in outcome.tasks] == [("tiny_choice", 30)]
    assert "killed by SIGKILL" in outcome.refused["tiny_copy"]
    assert set(current(settings, "tiny_copy")["filter"]) == {"strict"}


def test_the_verb(folder: Path, prefect_server: str) -> None:
    """Through the shell and a real Prefect server."""
    (folder / "locus.toml").write_text(
        'home = "state"\ntasks = ["tiny_choice", "tiny_copy"]\ntask_folders = ["tasks"]\n'
        '[task_settings.tiny_copy]\nmetric = "exact_match,flexible"\n'
    )
    environment = {
        **os.environ,
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": prefect_server,
    }

    def locus(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(Path(sys.executable).parent / "locus"), "rescore", *words],
            cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip

    done = locus("tiny_copy")
    assert done.returncode == 0, done.stderr
    assert "scored 49 answers of 1 tasks anew; no model is asked" in done.stdout
    assert "exact_match,flexible" in done.stdout
    assert "next: `locus publish`" in done.stdout
