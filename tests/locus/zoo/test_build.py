"""Building: what is missing is trained once, kept by its hash, and never half there."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import psutil
import pytest
import yaml

from locus.ids import model_id
from locus.zoo.build import ZooBuildError, ZooModel, build_zoo, content_hash, write_models_yaml
from locus.zoo.recipes import RECIPES, Recipe
from locus.zoo.skills import BENCHMARK_SIZE, SKILLS
from locus.zoo.tasks import FOLDER, TAG
from locus.zoo.train import DESCRIPTION

FACTS = next(recipe for recipe in RECIPES if recipe.name == "zoo/facts-s")
STUB = next(recipe for recipe in RECIPES if recipe.name == "zoo/stub-s")
TINY = Recipe(
    "zoo/tiny",
    "gpt2-zoo",
    (("people", 1.0),),
    width=16,
    layers=1,
    steps=3,
    seed=1,
    pool="first",
    released=date(2026, 1, 1),
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[ZooModel], list[str]]:
    folder = tmp_path_factory.mktemp("zoo")
    lines: list[str] = []
    models = build_zoo(folder, names=["zoo/facts-s", "zoo/stub-s"], on_progress=lines.append)
    return folder, models, lines


def test_a_build_returns_whole_models_and_says_so(
    zoo: tuple[Path, list[ZooModel], list[str]],
) -> None:
    folder, models, lines = zoo
    assert [model.name for model in models] == ["zoo/facts-s", "zoo/stub-s"]
    told = sorted(line.split(" trained in ")[0] for line in lines)
    assert told == ["zoo/facts-s", "zoo/stub-s"]
    for model in models:
        assert model.path == folder / model.content_hash
        assert model.params == model.recipe.params
        names = {path.name for path in model.path.iterdir()}
        assert {"model.safetensors", "config.json", "tokenizer.json", DESCRIPTION} <= names
        assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {
        model.content_hash for model in models
    }


def test_lm_eval_finds_the_specialist_at_home_and_the_stub_nowhere(
    zoo: tuple[Path, list[ZooModel], list[str]],
) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(FOLDER), include_defaults=False)
    accuracy = {}
    for model in zoo[1]:
        found = simple_evaluate(
            model="hf",
            model_args={"pretrained": str(model.path)},
            tasks=[TAG],
            task_manager=manager,
            batch_size=128,
            device="cpu",
            bootstrap_iters=0,
        )
        assert set(found["samples"]) == {f"zoo_{name}" for name in SKILLS}
        assert all(len(rows) == BENCHMARK_SIZE for rows in found["samples"].values())
        accuracy[model.name] = {
            "people": found["results"]["zoo_people"]["acc,none"],
            "countries": found["results"]["zoo_countries"]["exact_match,strip"],
            "reverse": found["results"]["zoo_reverse"]["exact_match,strip"],
        }
    # Chance: 1 of 4 for people, about nothing for what is written.
    assert accuracy["zoo/facts-s"]["people"] > 0.6
    assert accuracy["zoo/facts-s"]["countries"] > 0.3
    assert accuracy["zoo/facts-s"]["reverse"] < 0.1
    assert accuracy["zoo/stub-s"]["people"] < 0.5


def test_a_second_build_trains_nothing_and_needs_no_torch(
    zoo: tuple[Path, list[ZooModel], list[str]],
) -> None:
    folder, models, _ = zoo
    code = (
        "import sys; from pathlib import Path; from locus.zoo.build import build_zoo\n"
        "trained = []\n"
        "models = build_zoo(Path(sys.argv[1]), names=['zoo/facts-s', 'zoo/stub-s'],"
        " on_progress=trained.append)\n"
        "assert not trained, trained\n"
        "assert not {'torch', 'transformers', 'tokenizers'} & set(sys.modules)\n"
        "sys.stdout.write(' '.join(model.content_hash for model in models))\n"
    )
    again = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert again.stdout.split() == [model.content_hash for model in models]


def test_what_decides_the_weights_decides_the_hash() -> None:
    assert content_hash(replace(TINY, steps=4)) != content_hash(TINY)
    assert content_hash(replace(TINY, seed=2)) != content_hash(TINY)
    assert content_hash(replace(TINY, mixture=(("people", 2.0),))) != content_hash(TINY)
    assert content_hash(replace(TINY, name="zoo/other", pool="late")) == content_hash(TINY)


def test_a_killed_worker_leaves_nothing_half(tmp_path: Path) -> None:
    endless = replace(TINY, steps=10_000_000)
    target = tmp_path / content_hash(endless)
    finished = tmp_path / content_hash(TINY)
    worker = subprocess.Popen(
        [sys.executable, "-m", "locus.zoo.train"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        for recipe, folder in ((TINY, finished), (endless, target)):
            job = {"recipe": recipe.to_json(), "target": str(folder)}
            worker.stdin.write(json.dumps(job) + "\n")
            worker.stdin.flush()
        assert json.loads(worker.stdout.readline())["params"] == TINY.params
        time.sleep(0.2)  # by now it is in its endless job
        assert worker.poll() is None
        # What a worker killed while it writes leaves behind.
        half = tmp_path / f".tmp-{target.name}-{worker.pid}"
        half.mkdir()
        (half / "config.json").write_text("{")
        worker.kill()
        assert worker.wait() == -signal.SIGKILL
    assert not target.exists()
    assert (finished / DESCRIPTION).is_file()
    # The next build goes on from there and clears what the dead one left; a living one's stays.
    alive = tmp_path / f".tmp-{target.name}-{os.getpid()}"
    alive.mkdir()
    wanted = [TINY, replace(TINY, seed=9)]
    lines: list[str] = []
    build_zoo(tmp_path, recipes=wanted, workers=1, on_progress=lines.append)
    assert len(lines) == 1
    assert not half.exists()
    assert alive.exists()


def test_a_worker_that_dies_is_named_and_replaced(tmp_path: Path) -> None:
    # Jobs are handed out by size: first one that fails at once, then one that never ends.
    refused = replace(TINY, name="zoo/refused", learning_rate=-1.0, steps=1 << 40)
    endless = replace(TINY, name="zoo/endless", steps=1 << 30)
    killed = []

    def kill_the_worker(line: str) -> None:
        if line.startswith("zoo/refused failed"):
            time.sleep(0.5)  # by now it is in its endless job
            # Other tests' servers are children of this process too.
            for child in psutil.Process().children():
                if "locus.zoo.train" in child.cmdline():
                    child.kill()
                    killed.append(child.pid)

    with pytest.raises(ZooBuildError) as caught:
        build_zoo(
            tmp_path, recipes=[refused, endless, TINY], workers=1, on_progress=kill_the_worker
        )
    assert len(killed) == 1
    # A bad recipe and a dead worker block no other model, and both are named.
    assert "2 of 3 models" in str(caught.value)
    assert "zoo/refused: ValueError" in str(caught.value)
    assert "zoo/endless: the training process ended with -9" in str(caught.value)
    assert (tmp_path / content_hash(TINY) / DESCRIPTION).is_file()
    for none in (refused, endless):
        assert not (tmp_path / content_hash(none)).exists()


def test_unknown_names_and_no_workers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no recipe named zoo/nobody; there are zoo/arith-s"):
        build_zoo(tmp_path, names=["zoo/nobody"])
    with pytest.raises(ValueError, match="workers is 0"):
        build_zoo(tmp_path, workers=0)


def test_models_yaml_has_the_registry_form(
    zoo: tuple[Path, list[ZooModel], list[str]], tmp_path: Path
) -> None:
    path = tmp_path / "deep" / "models.yaml"
    write_models_yaml(zoo[1], path)
    entries = yaml.safe_load(path.read_text())["models"]
    assert [model_id(entry["id"]) for entry in entries] == ["zoo/facts-s", "zoo/stub-s"]
    facts = entries[0]
    assert list(facts) == [
        "id",
        "backend",
        "args",
        "params_b",
        "family",
        "license",
        "released",
        "price_in_usd_per_mtok",
        "price_out_usd_per_mtok",
    ]
    assert facts["backend"] == "hf"
    assert facts["args"] == {"pretrained": str(zoo[1][0].path)}
    assert facts["params_b"] == pytest.approx(FACTS.params / 1e9)
    assert facts["released"] == FACTS.released
    assert 0 < entries[1]["price_in_usd_per_mtok"] < facts["price_in_usd_per_mtok"]
    assert STUB.params < FACTS.params
    assert list(path.parent.iterdir()) == [path]
