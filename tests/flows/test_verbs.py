"""The verbs that decide, on a real map of models whose truth is known."""

import csv
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from conftest import BIN, environment
from decided import TASKS, model_ids, write_matrix
from shown import check_shown, left_by, run_named
from tiny import write_tasks
from typer.testing import CliRunner

from flows.add_model import with_budget
from flows.cli import app
from locus.budget import Budget, Ledger
from locus.decisions import DecisionError
from locus.embedding import checkpoint
from locus.embedding.checkpoint import CheckpointError
from locus.routing.policy import PolicyError
from locus.routing.router import RoutingError
from locus.snapshots import current
from tasks.discover import discover_models, sync_catalogue
from tasks.embed import embed_models, train_if_needed
from tasks.encode import encode_queries
from tasks.estimate import expect
from tasks.evaluate import evaluate_model
from tasks.importing import import_folder
from tasks.plan import plan_queries
from tasks.publish import publish_snapshot
from tasks.score import score_pool
from tasks.settings import Settings, SettingsError
from warehouse.store import Warehouse

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SUM = "What is 5 plus 9, and what is 9 minus 2?"
CAPITAL = "Which city is the capital of country number 7, north of river 4?"
Ask = Callable[..., Result]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a published map, made by the pipeline's own steps."""
    folder = tmp_path_factory.mktemp("decided")
    settings = Settings(home=folder / "state", report_layouts=("tsne",))
    import_folder(settings, "matrix", write_matrix(folder / "matrix"))
    encode_queries.fn(settings)
    checkpoint_id, _ = train_if_needed.fn(settings)
    embed_models.fn(settings, checkpoint_id)
    score_pool.fn(settings, checkpoint_id)
    publish_snapshot.fn(settings, checkpoint_id)
    (folder / "locus.toml").write_text('home = "state"\n')
    return folder


@pytest.fixture
def ask(home: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Run a verb in this process; what it raised is in the result."""
    monkeypatch.setenv("LOCUS_CONFIG", str(home / "locus.toml"))
    return lambda *words: CliRunner().invoke(app, list(words))


@pytest.fixture
def own_home(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may break."""
    shutil.copytree(home / "state", tmp_path / "state")
    shutil.copy(home / "locus.toml", tmp_path)
    monkeypatch.setenv("LOCUS_CONFIG", str(tmp_path / "locus.toml"))
    return tmp_path


def rows(result: Result) -> list[dict[str, Any]]:
    """What a verb printed as JSON."""
    assert result.exit_code == 0, result.exception
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_route_by_policy(ask: Ask) -> None:
    best = rows(ask("route", SUM, "-k", "25", "--format", "json"))
    assert best[0]["model_id"].startswith("sums/")
    assert [r["p_correct"] for r in best] == sorted((r["p_correct"] for r in best), reverse=True)
    assert all(0 <= r["lower_bound"] < r["p_correct"] for r in best)
    unsure = rows(ask("route", SUM, "-k", "25", "--confidence", "0.5", "--format", "json"))
    assert unsure[0]["lower_bound"] == pytest.approx(unsure[0]["p_correct"])
    # The price of the matrix holds for both directions.
    assert next(r for r in best if r["model_id"] == "sums/m3")["price_usd_per_mtok"] == 2

    assert {(r["topic"], r["far_from_topics"]) for r in best} == {(best[0]["topic"], False)}
    assert "plus" in best[0]["topic_words"]
    assert all(r["topic_lower_bound"] < 1 and r["topic_n_observed"] for r in best)

    cheap = ask("route", SUM, "--policy", "cost-aware", "--lambda", "5", "--explain")
    assert f"is like topic '{best[0]['topic_words']}'" in cheap.stdout
    assert "sums/m0" in cheap.stdout
    assert "the highest p - 5 x price" in cheap.stdout
    assert "no known price" in cheap.stdout
    assert "rhymes/m7" in cheap.stdout
    capped = rows(ask("route", SUM, "--max-price", "1", "-k", "25", "--format", "json"))
    assert {r["model_id"][-2:] for r in capped} == {"m0", "m1", "in"}

    careful = rows(ask("route", SUM, "--policy", "lower-bound", "-k", "25", "--format", "json"))
    bounds = [r["lower_bound"] for r in careful]
    assert bounds == sorted(bounds, reverse=True)


def test_a_budget_is_for_all_queries_together(ask: Ask) -> None:
    words = ("--policy", "budget", "--budget", "2", "-k", "1", "--format", "json")
    result = ask("route", SUM, CAPITAL, *words)
    chosen = rows(result)
    assert sum(r["price_usd_per_mtok"] for r in chosen) <= 2
    assert "of 2 USD per Mtok" in result.stderr
    nothing = rows(ask("route", SUM, "--policy", "budget", "--budget", "0.1", "--format", "json"))
    assert nothing[0]["model_id"] is None


def test_who_may_answer(ask: Ask) -> None:
    first, second = (r["model_id"] for r in rows(ask("route", SUM, "-k", "2", "--format", "json")))
    down = ask("route", SUM, "-k", "1", "--unavailable", first, "--exclude", second)
    assert f"{first} is unavailable and would have answered" in down.stdout
    assert second not in down.stdout
    not_asked = ask("route", SUM, "--unavailable", "capitals/m1")
    assert "would not have been chosen" in not_asked.stdout
    only = rows(ask("route", SUM, "--only", "sums/m1", "--only", "capitals/m1", "--format", "json"))
    assert [r["model_id"] for r in only] == ["sums/m1", "capitals/m1"]
    nobody = ask("route", SUM, "--policy", "abstain", "--abstain-below", "1", "--explain")
    assert nobody.exit_code == 0
    assert "nobody answers: no p reaches 1" in nobody.stdout


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        (("--only", "sums/m33"), RoutingError, "did you mean sums/m3"),
        (("--unavailable", "x"), RoutingError, "not in snapshot"),
        (("--only", "sums/m1", "--exclude", "sums/m1"), RoutingError, "nobody is left"),
        (("--only", "sums/m1", "--unavailable", "sums/m1"), RoutingError, "unavailable"),
        (
            ("--policy", "cost-aware", "--lambda", "1", "--only", "rhymes/m7"),
            PolicyError,
            "unknown",
        ),
    ],
)
def test_routes_that_can_not_be(
    ask: Ask, words: tuple[str, ...], error: type[Exception], says: str
) -> None:
    result = ask("route", SUM, *words)
    assert isinstance(result.exception, error)
    assert says in str(result.exception)


@pytest.mark.parametrize(
    "words",
    [
        ("route", SUM, "--policy", "cost-aware"),
        ("route", SUM, "--policy", "best", "--budget", "1"),
        ("route", SUM, "--policy", "abstain"),
        ("portfolio",),
        ("portfolio", "--budget-params", "3", "--budget-price", "3"),
        ("portfolio", "--budget-params", "3", "--method", "k-center"),
        ("clusters", "-k", "2", "--cluster", "3"),
        ("add-model", "org/late", "--queries", "1"),
    ],
)
def test_options_that_don_t_go_together(ask: Ask, words: tuple[str, ...]) -> None:
    assert ask(*words).exit_code == 2


def test_compare(ask: Ask) -> None:
    same = json.loads(ask("compare", "sums/m0", "sums/twin", "--format", "json").stdout)
    assert (same["observed_disagreement"], same["n_common"]) == (0, 160)
    assert same["euclidean_distance"] == pytest.approx(0, abs=1e-6)
    assert 0 < same["uncertainty_a"] < 0.5
    other = json.loads(ask("compare", "sums/m7", "rhymes/m7", "--format", "json").stdout)
    assert other["low"] < other["observed_disagreement"] < other["high"]
    assert {row["task"] for row in other["tasks"]} == set(TASKS)
    sums = next(row for row in other["tasks"] if row["task"] == "sums")
    assert sums["accuracy_a"] > sums["accuracy_b"]
    assert "predicted_disagreement" in ask("compare", "sums/m7", "rhymes/m7").stdout


def test_clusters(ask: Ask, home: Path) -> None:
    found = rows(ask("clusters", "-k", "3", "--format", "json"))
    assert sorted(m for c in found for m in c["members"]) == sorted(model_ids())
    by_number = {c["cluster"]: c for c in found}
    assert [by_number[n]["size"] for n in (1, 2, 3)] == sorted(c["size"] for c in found)[::-1]
    for cluster in found:
        assert {m.split("/")[0] for m in cluster["members"]} == {cluster["best_task"]}
    table = ask("clusters", "-k", "3", "--members", "1").stdout
    assert "and 6 more" in table
    listed = rows(ask("clusters", "-k", "3", "--cluster", "2", "--format", "json"))
    assert [r["model_id"] for r in listed] == by_number[2]["members"]
    assert listed[0]["distance_to_centre"] == 0
    # The report of the snapshot has the same groups.
    page = (current(home / "state" / "published").folder / "similarity" / "report.html").read_text()
    block = re.search(r'<script type="application/json" id="content">(.*?)</script>', page, re.S)
    assert block is not None
    models = json.loads(block[1])["models"]
    shown = dict(zip(models["id"], (group + 1 for group in models["cluster"]), strict=True))
    named = rows(ask("clusters", "--format", "json"))
    assert {m: c["cluster"] for c in named for m in c["members"]} == shown


def test_portfolio(ask: Ask) -> None:
    three = rows(ask("portfolio", "--size", "3", "--format", "json"))
    assert {r["model_id"].split("/")[0] for r in three} == set(TASKS)
    assert three[-1]["hit1"] > three[0]["hit1"]
    assert three[-1]["n_test"] > 20
    bought = ask("portfolio", "--budget-price", "2", "--format", "json")
    assert rows(bought)[-1]["price_so_far"] <= 2
    assert "cost is unknown: rhymes/m7" in bought.stderr
    for method in ("k-center", "k-medoids"):
        assert (
            len(rows(ask("portfolio", "--size", "4", "--method", method, "--format", "json"))) == 4
        )
    csv_rows = list(
        csv.DictReader(io.StringIO(ask("portfolio", "--size", "2", "--format", "csv").stdout))
    )
    assert [r["order"] for r in csv_rows] == ["1", "2"]


def test_stand_ins_and_find(ask: Ask) -> None:
    found = rows(ask("stand-ins", "sums/m0", "--format", "json"))
    assert {r["bucket"] for r in found} == {"all", *TASKS}
    nearest = next(r for r in found if r["bucket"] == "all" and "nearest" in r["why"])
    assert (nearest["stand_in"], nearest["observed_agreement"]) == ("sums/twin", 1)
    one = rows(ask("stand-ins", "sums/m0", "--task", "rhymes", "--format", "json"))
    assert next(r for r in one if "answers best" in r["why"])["stand_in"].startswith("rhymes/")
    like = rows(ask("find", "sums=0.85", "capitals=0.3", "-k", "4", "--format", "json"))
    assert all(r["model_id"].startswith("sums/") for r in like)


def test_fingerprint(ask: Ask) -> None:
    same = json.loads(ask("fingerprint", "sums/m0", "sums/twin", "--format", "json").stdout)
    assert same["verdict"] == "same"
    assert same["p_same"] > 0.9
    other = json.loads(ask("fingerprint", "sums/m0", "rhymes/m7", "--format", "json").stdout)
    assert other["verdict"] == "different"
    table = ask("fingerprint", "sums/m0", "rhymes/m7")
    assert "at most 5.0% of different ones are called same" in " ".join(table.stdout.split())


def test_curve(ask: Ask) -> None:
    points = rows(ask("curve", "--format", "json"))
    cost = [p["cost"] for p in points]
    assert cost == sorted(cost, reverse=True)
    assert cost[-1] == 0.5  # only money counts: the cheapest answer everything
    assert points[0]["score"] > points[-1]["score"]
    own = rows(ask("curve", "--lambda", "0", "--lambda", "0.1", "--format", "json"))
    assert [p["lambda"] for p in own] == [0, 0.1]
    assert own[0]["score"] == points[0]["score"]


def test_the_report_shows_what_the_verbs_say(ask: Ask, home: Path) -> None:
    folder = current(home / "state" / "published").folder
    page = (folder / "similarity" / "report.html").read_text(encoding="utf-8")

    def block(name: str) -> Any:
        found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page)
        assert found is not None
        return json.loads(found[1])

    content = block("content")
    ids, shown = content["models"]["id"], content["curves"]
    best = shown["portfolio"]["best"]
    assert len(best) >= len(TASKS)
    said = rows(ask("portfolio", "--size", str(len(best)), "--format", "json"))
    assert [(ids[model], hit, n) for _, model, hit, _, _, n, *_ in best] == [
        (r["model_id"], round(1000 * r["hit1"]), r["n_test"]) for r in said
    ]
    budget, cost, size, hit, *_ = shown["budget"]["price"][-1]
    bought = rows(ask("portfolio", "--budget-price", f"{1.001 * budget}", "--format", "json"))
    assert (len(bought), round(1000 * bought[-1]["hit1"])) == (size, hit)
    assert bought[-1]["price_so_far"] == pytest.approx(cost, rel=1e-3)
    points = rows(ask("curve", "--format", "json"))
    assert [(hit, n) for _, _, hit, _, _, n in shown["cost"]["routed"]] == [
        (round(1000 * p["score"]), p["n"]) for p in points
    ]
    tsne = block("figures")["map"]["layouts"]["tsne"]
    assert len(tsne["x"]) == len(ids)
    assert None not in tsne["x"] + tsne["y"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("compare", "sums/m0", "sums/mO"), "did you mean"),
        (("compare", "sums/m0", "sums/m0"), "named twice"),
        (("stand-ins", "sums/m0", "--task", "summs"), "did you mean sums?"),
        (("find", "summs=0.4"), "did you mean sums?"),
        (("find", "sums"), "TASK=ACCURACY"),
        (("find", "sums=40"), "TASK=ACCURACY"),
        (("find", "sums=0.1", "sums=0.2"), "twice"),
        (("clusters", "-k", "99"), "ask for 1 to 25"),
        (("portfolio", "--size", "99"), "ask for 1 to 25"),
        (("fingerprint", "sums/m0", "nobody"), "not in snapshot"),
    ],
)
def test_questions_that_can_not_be_answered(ask: Ask, words: tuple[str, ...], says: str) -> None:
    result = ask(*words)
    assert isinstance(result.exception, DecisionError)
    assert says in str(result.exception)


def test_a_shell_sees_one_line_and_a_status(home: Path, tmp_path: Path) -> None:
    def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
        set_up = {**environment(tmp_path), "LOCUS_CONFIG": str(folder / "locus.toml")}
        return subprocess.run(
            [str(BIN / "locus"), *words], env=set_up, capture_output=True, text=True, check=False
        )

    unknown = run(home, "compare", "sums/m0", "sums/m\u202e9")
    assert unknown.returncode == 1
    assert unknown.stderr.startswith("error: ")
    assert len(unknown.stderr.splitlines()) == 1
    assert "\u202e" not in unknown.stderr
    empty = run(tmp_path, "clusters")
    assert empty.returncode == 1
    assert "nothing is published" in empty.stderr


def test_without_the_checkpoint(own_home: Path) -> None:
    shutil.rmtree(own_home / "state" / "checkpoints")
    runner = CliRunner()
    for words in (["find", "sums=0.4"], ["fingerprint", "sums/m0", "sums/m1"]):
        result = runner.invoke(app, words)
        assert isinstance(result.exception, CheckpointError)
        assert "restore it from a backup" in str(result.exception)
    # What is in the snapshot needs no checkpoint.
    assert runner.invoke(app, ["stand-ins", "sums/m0"]).exit_code == 0


def test_a_map_that_knows_no_doubt(own_home: Path) -> None:
    """The attention encoder's maps have places and predictions, and no covariance."""
    import torch

    from locus.embedding.config import ArchitectureConfig
    from locus.embedding.maps import AttentionMap
    from locus.embedding.network import Locus

    settings = Settings(home=own_home / "state")
    before = checkpoint.load(next(settings.checkpoints.iterdir()))
    torch.manual_seed(0)
    network = Locus(ArchitectureConfig(d_query=384, d_model=16, n_latents=4, d_hidden=8)).eval()
    new = checkpoint.save(AttentionMap(network), before.encoder, {}, settings.checkpoints)
    embed_models.fn(settings, new)
    score_pool.fn(settings, new)
    publish_snapshot.fn(settings, new)
    runner = CliRunner()
    refused = runner.invoke(app, ["fingerprint", "sums/m0", "sums/m1"])
    assert isinstance(refused.exception, DecisionError)
    assert "doesn't know how sure a place is" in str(refused.exception)
    bounds = runner.invoke(app, ["route", SUM, "--policy", "lower-bound"])
    assert isinstance(bounds.exception, RoutingError)
    assert "no lower bounds" in str(bounds.exception)
    plain = rows(runner.invoke(app, ["route", SUM, "--format", "json"]))
    assert plain[0]["lower_bound"] is None
    pair = json.loads(
        runner.invoke(app, ["compare", "sums/m0", "sums/m1", "--format", "json"]).stdout
    )
    assert pair["uncertainty_a"] is None
    # Placing needs no covariance.
    assert len(rows(runner.invoke(app, ["find", "sums=0.8", "-k", "2", "--format", "json"]))) == 2


def test_more_queries_refine_a_place(
    own_home: Path, tiny_models: Path, prefect_server: str
) -> None:
    (own_home / "models").symlink_to(tiny_models)
    write_tasks(own_home / "tasks")
    (own_home / "models.yaml").write_text(
        "models:\n- {id: org/late, args: {pretrained: models/late}}\n"
    )
    (own_home / "locus.toml").write_text(
        'home = "state"\ntasks = ["tiny_choice"]\ntask_folders = ["tasks"]\n'
        '[evaluation]\ntest_queries = 0\ndevice = "cpu"\n'
    )
    settings = Settings().anchored(own_home)
    sync_catalogue.fn(settings)
    (late,) = discover_models.fn(settings, ["org/late"])
    (first,) = plan_queries.fn(with_budget(settings, 6), [late])
    assert first.plan.n_queries == 6
    with Warehouse.open(settings.warehouse) as warehouse:
        expected = expect(warehouse, [first])["org/late"]
    assert evaluate_model.fn(settings, first, expected, Ledger(Budget())).error is None

    (again,) = plan_queries.fn(with_budget(settings, 6), [late])
    assert again.plan.n_queries == 0

    done = subprocess.run(
        [str(BIN / "locus"), "add-model", "org/late", "--queries", "11"],
        cwd=own_home,
        env=environment(own_home, prefect_server),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "asked 5 queries, recorded 5 scores, placed 1 models" in done.stdout
    backfilled_by_hand(own_home, prefect_server)
    with Warehouse.open(settings.warehouse) as warehouse:
        answered = warehouse.scores.answered("org/late", late.revision)
    assert answered.height == answered["query_id"].n_unique() == 13
    with pytest.raises(SettingsError, match="2 or more"):
        with_budget(settings, 1)


def backfilled_by_hand(home: Path, prefect_server: str) -> None:
    """Two more queries of one model, and a broken one beside it; what Prefect shows of that."""
    (home / "broken").mkdir()
    (home / "broken" / "config.json").write_text("{}")
    with (home / "models.yaml").open("a") as registry:
        registry.write(f"- {{id: org/broken, args: {{pretrained: {home / 'broken'}}}}}\n")
    words = ["run", "backfill", "--model", "org/late", "--model", "org/broken", "--queries", "13"]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / "locus"), *words, *more],
            cwd=home,
            env=environment(home, prefect_server),
            capture_output=True,
            text=True,
            check=False,
        )

    dry = run("--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "org/late: 2 queries" in dry.stdout
    assert "org/broken: 13 queries" in dry.stdout
    name = "backfill-org/late,org/broken"
    said = run_named(prefect_server, f"{name}-dry-run")
    assert set(left_by(prefect_server, said)) == {"plan", "backfill-outcome"}
    done = run()
    assert done.returncode == 3, done.stderr
    assert "asked 2 queries, recorded 2 scores, placed 1 models" in done.stdout
    assert "org/broken: " in done.stderr
    check_shown(prefect_server, name, home / "state" / "published", "org/broken")
